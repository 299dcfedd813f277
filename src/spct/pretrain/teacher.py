"""The noisy judge whose transcripts the toy bases imitate: known bias, known noise.

A judgement rests on one or two principles, fewer than most queries imply, so that one sample sees
part of the picture and many samples see all of it. Each transcript is written in one of two modes:
a *diligent* judge mostly takes criteria that the query implies, in proportion to their weight, and
reads the evidence well; a *sloppy* one takes its pets instead and is overconfident. Outcome rewards
can therefore teach something (choose the right criteria), and a verifier can tell good transcripts
from bad ones by reading them. All probabilities are in :class:`Mode`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spct.data.toy import CRITERIA, PETS, levels_of
from spct.kinds import Bias, Coefficient, Fraction, Weight


@dataclass
class Mode:
    """One way of judging. Probabilities, and scores in points of the 1 to 10 scale."""

    share: Weight  # how often a transcript is written so
    two: Fraction  # two principles instead of one
    relevant: Fraction  # a principle is one that the query implies, drawn by weight
    pet: Fraction  # otherwise: a pet rather than any criterion
    weight: Fraction  # an implied criterion keeps its weight
    misread: Fraction  # a level is read off by one step
    gain: Coefficient  # points of score per level above the middle
    noise: Coefficient  # standard deviation of the score
    first_bias: Bias  # points added to the response shown first


def choose_principles(
    rng: np.random.Generator, weights: Mapping[str, int], mode: Mode
) -> dict[str, int]:
    """One or two criteria with weights 1 to 3, in the order written."""
    chosen: dict[str, int] = {}
    for _ in range(1 + int(rng.random() < mode.two)):
        implied = [c for c in weights if c not in chosen]
        pets = [c for c in PETS if c not in chosen]
        if implied and rng.random() < mode.relevant:
            shares = np.array([weights[c] for c in implied], dtype=float)
            criterion = str(rng.choice(implied, p=shares / shares.sum()))
        else:
            pool = pets if rng.random() < mode.pet else [c for c in CRITERIA if c not in chosen]
            criterion = str(rng.choice(pool))
        kept = criterion in weights and rng.random() < mode.weight
        chosen[criterion] = weights[criterion] if kept else int(rng.integers(1, 4))
    return chosen


def read_levels(
    rng: np.random.Generator, response: str, criteria: Sequence[str], misread: float
) -> dict[str, int]:
    """The levels the judge sees for the criteria chosen; 3 where there is no evidence."""
    shown = levels_of(response)
    seen = {}
    for criterion in criteria:
        level = shown.get(criterion, 3)
        if rng.random() < misread:
            level = int(np.clip(level + rng.choice((-1, 1)), 1, 5))
        seen[criterion] = level
    return seen


def weighted_mean(levels: Mapping[str, int], weights: Mapping[str, int]) -> float:
    return sum(weights[c] * level for c, level in levels.items()) / sum(weights.values())


@dataclass
class Transcript:
    """A judgement as the teacher wrote it."""

    principles: dict[str, int]
    levels: list[dict[str, int]]  # per response shown
    scores: list[int]  # 1 to 10 per response shown

    def text(self, *, output: str, with_principles: bool = True) -> str:
        """The completion for an output kind: scores, verdict, index or critique."""
        parts = []
        if with_principles:
            stated = " ".join(f"{c} {w}" for c, w in self.principles.items())
            parts.append(f"Principles: {stated}")
        critique = []
        for number, (levels, score) in enumerate(zip(self.levels, self.scores, strict=True), 1):
            read = " ".join(f"{c} {level}" for c, level in levels.items())
            ending = "" if output in ("critique", "index") else f" so {score}"
            critique.append(f"[{number}] {read}{ending}")
        parts.append(f"Critique: {' '.join(critique)}")
        if output != "critique":
            parts.append(f"Scores: \\boxed{{{self.box(output)}}}")
        return " ".join(parts)

    def box(self, output: str) -> str:
        if output == "verdict":
            return str(int(self.scores[0] > 5))
        if output == "index":
            return str(int(np.argmax(self.scores)) + 1)
        return ", ".join(map(str, self.scores))


def judge(
    rng: np.random.Generator,
    weights: Mapping[str, int],
    responses: Sequence[str],
    mode: Mode,
    *,
    given: Mapping[str, int] | None = None,
) -> Transcript:
    """One judgement of responses in the order shown, with the criteria given or chosen."""
    principles = dict(given) if given else choose_principles(rng, weights, mode)
    levels = [read_levels(rng, text, list(principles), mode.misread) for text in responses]
    scores = []
    for place, seen in enumerate(levels):
        raw = 5.5 + mode.gain * (weighted_mean(seen, principles) - 3) + rng.normal(0, mode.noise)
        raw += mode.first_bias if place == 0 and len(responses) > 1 else 0.0
        scores.append(int(np.clip(round(raw), 1, 10)))
    return Transcript(principles, levels, scores)
