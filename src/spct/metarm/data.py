"""The meta RM's examples: readable, non-hinted judgements of all policies, right and wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spct import seeds
from spct.finish import meaning
from spct.judge.task import Judge
from spct.lm import LM
from spct.records import Item, Sample, read_bank, read_items
from spct.training.batching import Example


@dataclass(frozen=True)
class Labelled:
    """A judgement to score, whether it is right, and the margin by which it decided."""

    item_id: str
    n: int
    example: Example
    correct: bool
    margin: float


def margin(scores: Sequence[int]) -> float:
    """Best score minus second best: what a filter without any model can see."""
    ranked = sorted(scores, reverse=True)
    return float(ranked[0] - ranked[1]) if len(ranked) > 1 else 0.0


class Encoder:
    """Token ids of judgements: the prompt as the judge saw it, without a hint, and its output.

    Rows of one item mostly share a prompt, so the last few prompts are kept.
    """

    def __init__(self, text: LM, judge: Judge, items: Iterable[Item]) -> None:
        self.text, self.judge = text, judge
        self.items = {item.id: item for item in items}
        self.prompt = lru_cache(maxsize=256)(self._prompt)

    def __call__(self, row: Sample) -> Example:
        prompt = self.prompt(row.item_id, tuple(row.order), row.principles)
        ended = meaning(row.finish).end
        return Example(prompt, self.text.encode_completion(row.text, ended=ended))

    def _prompt(
        self, item_id: str, order: tuple[int, ...], principles: str | None
    ) -> tuple[int, ...]:
        prompt = self.judge.prompt(self.items[item_id], list(order), principles=principles)
        return self.text.encode_prompt(prompt)


def labelled(
    text: LM, judge: Judge, items: Path, banks: Iterable[Path]
) -> tuple[list[Labelled], dict[str, int]]:
    """Examples and a count of the rows left out by reason.

    Hinted, unreadable, cut off (which older code read), no truth.
    """
    encode = Encoder(text, judge, read_items(items))
    skipped: Counter[str] = Counter()
    kept = []
    for row in (row for path in banks for row in read_bank(path)):
        if row.kind != "sample":
            skipped[row.kind] += 1
        elif row.scores is None:
            skipped[row.outcome] += 1
        elif not meaning(row.finish).read:
            skipped["cut_off"] += 1
        elif row.correct is None:
            skipped["no_truth"] += 1
        else:
            example = encode(row)
            kept.append(
                Labelled(row.item_id, len(row.scores), example, row.correct, margin(row.scores))
            )
    return kept, dict(sorted(skipped.items()))


def split(
    data: Sequence[Labelled], dev_share: float, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Training and development examples; an item is wholly in one of them."""
    ids = sorted({row.item_id for row in data})
    order = seeds.rng(seed, "metarm dev").permutation(len(ids))
    dev_ids = {ids[i] for i in order[: round(dev_share * len(ids))]}
    train = [row for row in data if row.item_id not in dev_ids]
    return train, [row for row in data if row.item_id in dev_ids]


def margin_weights(data: Sequence[Labelled]) -> list[float]:
    """A weight per example, mean 1, by which right and wrong balance at every (n, margin).

    Wide margins are right more often, and a sum vote already counts them more. With these weights
    the margin alone says nothing about the label, so the logit has to find what the vote does not
    know.
    Examples of a stratum with one class only (ties are always wrong) weigh nothing.
    """
    strata = [(row.n, row.margin) for row in data]
    counts = Counter(strata)
    right = Counter(stratum for stratum, row in zip(strata, data, strict=True) if row.correct)
    weights = []
    for stratum, row in zip(strata, data, strict=True):
        same = right[stratum] if row.correct else counts[stratum] - right[stratum]
        mixed = 0 < right[stratum] < counts[stratum]
        weights.append(counts[stratum] / (2.0 * same) if mixed else 0.0)
    total = sum(weights)
    return [weight * len(weights) / total for weight in weights] if total else weights
