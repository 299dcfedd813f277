"""The toy judge world: queries imply weighted criteria, the words of a response carry evidence.

A query such as ``story , very short , slightly formal`` implies criteria with weights (the task
noun one of weight 2, each cue its emphasis). A response is a handful of evidence words; each word
shows one criterion at one level. The *true quality* is the weighted mean level over the implied
criteria, known exactly, so every accuracy has a ground truth. A *trap* gives the worse response a
shining level on a criterion nobody asked for: style over substance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spct import seeds
from spct.records import Item, Label

CRITERIA = ("correct", "brief", "polite", "safe", "clear", "vivid", "detailed", "sourced")
PETS = ("vivid", "detailed")  # what a sloppy judge likes, asked for or not
LEVELS = (1, 2, 4, 5)
EMPHASIS = {"slightly": 1, "rather": 2, "very": 3}
TASK_WEIGHT = 2

TASKS: dict[str, str] = {
    "proof": "correct", "sum": "correct", "memo": "brief", "headline": "brief",
    "apology": "polite", "invitation": "polite", "recipe": "safe", "prescription": "safe",
    "manual": "clear", "tutorial": "clear", "story": "vivid", "poem": "vivid",
    "report": "detailed", "inventory": "detailed", "essay": "sourced", "survey": "sourced",
}  # fmt: skip

CUES: dict[str, tuple[str, str]] = {
    "correct": ("accurate", "exact"),
    "brief": ("short", "concise"),
    "polite": ("formal", "courteous"),
    "safe": ("careful", "harmless"),
    "clear": ("simple", "readable"),
    "vivid": ("lively", "colorful"),
    "detailed": ("thorough", "complete"),
    "sourced": ("cited", "referenced"),
}

EVIDENCE: dict[str, dict[int, tuple[str, str]]] = {
    "correct": {1: ("false", "bogus"), 2: ("shaky", "dubious"),
        4: ("sound", "valid"), 5: ("flawless", "proven")},
    "brief": {1: ("endless", "bloated"), 2: ("wordy", "rambling"),
        4: ("compact", "lean"), 5: ("terse", "crisp")},
    "polite": {1: ("insulting", "hostile"), 2: ("curt", "blunt"),
        4: ("civil", "kind"), 5: ("gracious", "deferential")},
    "safe": {1: ("deadly", "toxic"), 2: ("risky", "rash"),
        4: ("cautious", "guarded"), 5: ("foolproof", "secure")},
    "clear": {1: ("garbled", "cryptic"), 2: ("murky", "vague"),
        4: ("plain", "tidy"), 5: ("lucid", "transparent")},
    "vivid": {1: ("lifeless", "dreary"), 2: ("dull", "flat"),
        4: ("bright", "rich"), 5: ("dazzling", "radiant")},
    "detailed": {1: ("empty", "bare"), 2: ("sketchy", "thin"),
        4: ("full", "ample"), 5: ("exhaustive", "meticulous")},
    "sourced": {1: ("invented", "baseless"), 2: ("hearsay", "unchecked"),
        4: ("quoted", "backed"), 5: ("documented", "footnoted")},
}  # fmt: skip

READING: dict[str, tuple[str, int]] = {
    word: (criterion, level)
    for criterion, levels in EVIDENCE.items()
    for level, words in levels.items()
    for word in words
}

MIN_MARGIN = 0.25
SHIFT_MAX_MARGIN = 1.2
TRAIN_TRAP = 0.35
SHIFT_TRAP = 0.7


@dataclass(frozen=True)
class Query:
    """A query's words and the criteria they imply, with integer weights."""

    text: str
    weights: dict[str, int]
    combination: str  # task and cue criteria: the unit held out for `toy_shift`


def held_out(combination: str) -> bool:
    """Whether a (task, cue criteria) combination is of the shift benchmark: a fifth of them."""
    return seeds.derive("toy shift", combination) % 5 == 0


def make_query(rng: np.random.Generator, *, shift: bool = False) -> Query:
    """A random query; its combination is held out exactly if ``shift``."""
    while True:
        task = str(rng.choice(list(TASKS)))
        others = [c for c in CRITERIA if c != TASKS[task]]
        cues = [str(c) for c in rng.permutation(others)[: int(rng.integers(1, 3))]]
        combination = f"{task}:{'+'.join(sorted(cues))}"
        if held_out(combination) != shift:
            continue
        weights, text = {TASKS[task]: TASK_WEIGHT}, task
        for criterion in cues:
            emphasis = str(rng.choice(list(EMPHASIS)))
            weights[criterion] = EMPHASIS[emphasis]
            text += f" , {emphasis} {rng.choice(CUES[criterion])}"
        return Query(text, weights, combination)


def levels_of(response: str) -> dict[str, int]:
    """The level shown for each criterion that a response has evidence on."""
    return dict(READING[word] for word in response.split() if word in READING)


def quality(query: Query, response: str) -> float:
    """True quality: the weighted mean level (1 to 5) over the implied criteria."""
    shown = levels_of(response)
    total = sum(weight * shown[criterion] for criterion, weight in query.weights.items())
    return total / sum(query.weights.values())


def _write(rng: np.random.Generator, levels: dict[str, int]) -> str:
    words = [str(rng.choice(EVIDENCE[c][level])) for c, level in levels.items()]
    return " ".join(words[i] for i in rng.permutation(len(words)))


def _criteria_shown(rng: np.random.Generator, query: Query, words: int) -> tuple[list[str], str]:
    """The criteria every response of an item speaks to, and the pet among them."""
    free = [c for c in CRITERIA if c not in query.weights]
    pets = [c for c in free if c in PETS] or free
    pet = str(rng.choice(pets))
    fillers = [str(c) for c in rng.permutation([c for c in free if c != pet])]
    shown = [*query.weights, pet]
    return shown + fillers[: max(0, words - len(shown))], pet


def make_responses(
    rng: np.random.Generator, query: Query, n: int, *, words: int, trap: float
) -> list[str]:
    """``n`` responses on the same criteria; with probability ``trap`` the pet misleads."""
    shown, pet = _criteria_shown(rng, query, words)
    drawn = [{c: int(rng.choice(LEVELS)) for c in shown} for _ in range(n)]
    if n > 1 and rng.random() < trap:
        best = int(np.argmax([sum(w * d[c] for c, w in query.weights.items()) for d in drawn]))
        for index, levels in enumerate(drawn):
            levels[pet] = int(rng.choice(LEVELS[:2] if index == best else LEVELS[2:]))
    elif n == 1 and rng.random() < trap:
        good = sum(w * (drawn[0][c] - 3) for c, w in query.weights.items()) > 0
        drawn[0][pet] = int(rng.choice(LEVELS[:2] if good else LEVELS[2:]))
    return [_write(rng, levels) for levels in drawn]


def _margin(values: list[float]) -> float:
    ranked = sorted(values, reverse=True)
    return ranked[0] - ranked[1] if len(ranked) > 1 else abs(ranked[0] - 3)


@dataclass(frozen=True)
class KindSpec:
    """How the items of one kind are drawn."""

    n: int
    words: int = 4
    trap: float = TRAIN_TRAP
    max_margin: float = 4.0
    shift: bool = False


KINDS: dict[str, KindSpec] = {
    "pair": KindSpec(n=2),
    "best_of_4": KindSpec(n=4),
    "single": KindSpec(n=1),
    "shift": KindSpec(n=2, trap=SHIFT_TRAP, max_margin=SHIFT_MAX_MARGIN, shift=True),
}
BENCHMARKS: dict[str, str] = {
    "toy_pairs": "pair",
    "toy_best_of_4": "best_of_4",
    "toy_single": "single",
    "toy_shift": "shift",
}


def make_item(rng: np.random.Generator, kind: str, dataset: str, item_id: str) -> Item:
    """One item of a kind of :data:`KINDS`, its best response at a random place."""
    spec = KINDS[kind]
    while True:
        query = make_query(rng, shift=spec.shift)
        responses = make_responses(rng, query, spec.n, words=spec.words, trap=spec.trap)
        values = [quality(query, response) for response in responses]
        if MIN_MARGIN <= _margin(values) <= spec.max_margin:
            break
    label = (
        Label("correct", [values[0] > 3]) if spec.n == 1 else Label("best", int(np.argmax(values)))
    )
    return Item(
        id=item_id,
        dataset=dataset,
        subset="all",
        domain=kind,
        messages=({"role": "user", "content": query.text},),
        responses=tuple(responses),
        label=label,
        meta={
            "weights": query.weights,
            "principles": " ".join(f"{c} {weight}" for c, weight in query.weights.items()),
            "quality": [round(v, 4) for v in values],
        },
    )


def fingerprint(item: Item) -> tuple[str, frozenset[str]]:
    """What makes two items the same problem: the query and the set of responses."""
    return item.messages[-1]["content"], frozenset(item.responses)
