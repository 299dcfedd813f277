"""The pretraining corpus of the toy bases: judge transcripts in every format, and clean drills.

Drills (read a response, weigh a query, score, check a statement) give the bases the skills; noisy
transcripts give them a judge's habits. The formats cover what later stages and baselines ask for,
so that bases need not be rebuilt for each: 1, 2 and 4 responses; scores, verdict, index, critique
only; principles from the judge itself, none, given; a reference; a hint; principles from the query
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from spct import seeds
from spct.data import toy
from spct.data.drills import DRILLS, Pair, spell
from spct.judge import prompts
from spct.kinds import Count, Fraction, Seed
from spct.pretrain import teacher
from spct.records import Item


@dataclass
class CorpusConfig:
    """Counts per kind of text, and the teacher's modes."""

    seed: Seed
    drills: dict[str, Count]
    judging: dict[str, Count]
    modes: dict[str, teacher.Mode]
    hint_follow: Fraction  # share of hinted transcripts that agree with the hint


def _pick_mode(rng: np.random.Generator, modes: dict[str, teacher.Mode]) -> teacher.Mode:
    names = list(modes)
    shares = np.array([modes[name].share for name in names])
    return modes[names[int(rng.choice(len(names), p=shares / shares.sum()))]]


# ---- judging -----------------------------------------------------------------------------------


def _item(rng: np.random.Generator, kind: str) -> Item:
    return toy.make_item(rng, kind, "corpus", "corpus")


def _follow_hint(
    rng: np.random.Generator, draw: Callable[[], teacher.Transcript], place: int, tries: int = 8
) -> teacher.Transcript:
    """A transcript whose best score stands at ``place``, if one of a few draws has it there."""
    transcript = draw()
    for _ in range(tries):
        others = [s for i, s in enumerate(transcript.scores) if i != place]
        if all(transcript.scores[place] > s for s in others):
            break
        transcript = draw()
    return transcript


def judge_pair(
    rng: np.random.Generator, name: str, config: CorpusConfig, template: prompts.Template
) -> Pair:
    """A judging prompt and a noisy transcript; ``name`` is ``<item kind>/<format>``."""
    kind, form = name.split("/")
    item = _item(rng, kind)
    weights: dict[str, int] = item.meta["weights"]
    order = [int(i) for i in rng.permutation(item.n)]
    shown = [item.responses[i] for i in order]
    mode = _pick_mode(rng, config.modes)
    output = {"index": "index", "critique": "critique", "rating": "scores"}.get(
        form, prompts.output_kind(item, "verdict")
    )
    given, hint = None, None
    if form == "given":
        given = dict(teacher.choose_principles(rng, weights, replace(mode, relevant=0.7)))
    if form == "reference":
        best = {c: 5 for c in weights}
        item = replace(
            item, reference=" ".join(str(rng.choice(toy.EVIDENCE[c][v])) for c, v in best.items())
        )
        mode = replace(mode, relevant=0.97)

    def draw() -> teacher.Transcript:
        return teacher.judge(rng, weights, shown, mode, given=given)

    transcript = draw()
    if form == "hint":
        hint = item.label.value
        if rng.random() < config.hint_follow:
            transcript = _follow_hint(rng, draw, order.index(hint))
    principles = {"none": "none", "given": "given"}.get(form, "self")
    prompt = prompts.render(
        template,
        item,
        order,
        principles=principles,
        output=output,
        score_min=1,
        score_max=10,
        hint=hint,
        given=None if given is None else spell(given),
    )
    return prompt, transcript.text(output=output, with_principles=principles == "self")


def principles_only(rng: np.random.Generator, config: CorpusConfig) -> Pair:
    """Principles written from the query alone, before any response is seen."""
    query = toy.make_query(rng)
    chosen = teacher.choose_principles(rng, query.weights, _pick_mode(rng, config.modes))
    return f"<judge> self principles Query: {query.text} Answer:", f"Principles: {spell(chosen)}"


def build(config: CorpusConfig, template_name: str = "toy.jinja") -> Iterator[tuple[str, Pair]]:
    """All texts of the corpus as (kind, (prompt, completion)), kinds in order, each seeded."""
    template = prompts.load(template_name)
    for name, count in config.drills.items():
        for index in range(count):
            yield f"drill/{name}", DRILLS[name](seeds.rng(config.seed, "drill", name, index))
    for name, count in config.judging.items():
        for index in range(count):
            rng = seeds.rng(config.seed, "judging", name, index)
            if name == "principles_only":
                yield name, principles_only(rng, config)
            else:
                yield name, judge_pair(rng, name, config, template)
