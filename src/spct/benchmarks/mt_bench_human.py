"""MT-Bench human judgments (arXiv 2306.05685): how often a judge agrees with a person's vote.

Two numbers, as upstream (lm-sys/FastChat, ``llm_judge/compute_agreement.py``): ``with_ties`` counts
every vote, and a tie agrees with a tie; ``without_ties`` only those that neither side ties, so that
its denominator depends on the judge: a ratio of expectations, not a mean over pairs. A pair counts
once for each vote on it.

The official count is that of the 200 pairs which LLMBar keeps (princeton-nlp/LLMBar,
``Dataset/Processed/MT-Bench``): one vote each, the majority of the people's, ties removed. Upstream
gives each turn by itself and no overall; the overall here is ``with_ties``, which on this set is
LLMBar's accuracy (a tie earns 0).

Reads ``item.label``: ``best``, one vote, or ``votes``, several of which ``None`` is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spct.benchmarks.rule import (
    OVERALL,
    Answer,
    Averages,
    Floats,
    check_outcomes,
    check_weights,
    single_cells,
)
from spct.records import Item

NAME = "mt_bench_human"
ALL = "all"
WITH_TIES, WITHOUT_TIES = "with_ties", "without_ties"


def _votes(item: Item) -> tuple[int, int, int]:
    """Votes for the response the label calls best, for the other, and for a tie."""
    if item.label.kind == "best":
        return 1, 0, 0
    if item.label.kind != "votes":
        raise ValueError(f"{NAME}: item {item.id!r} needs a label of kind best or votes")
    counts = [item.label.value.count(choice) for choice in (0, 1, None)]
    return max(counts[:2]), min(counts[:2]), counts[2]


@dataclass(frozen=True)
class Agreement(Averages):
    """Agreement of a judge's votes with people's, vote by vote."""

    def judged(
        self,
        items: Sequence[Item],
        win: Floats,
        tie: Floats,
        weights: Floats,
        answer: Answer = "scores",
    ) -> dict[str, Floats]:
        """As :meth:`Averages.judged`; a draw without a vote that counts keeps the value of all."""
        check_outcomes(win, tie)
        check_weights(weights, len(items))
        if not items:
            return {}
        best, other, none = np.array([_votes(item) for item in items], dtype=np.float64).T
        lose = np.clip(1 - win - tie, 0, 1)
        sided = best * win + other * lose
        shares = {
            WITH_TIES: _ratio(weights, sided + none * tie, best + other + none),
            WITHOUT_TIES: _ratio(weights, sided, (best + other) * (win + lose)),
        }
        whole = self.coverage(items).complete()
        named = {name if whole else f"{name} (partial)": value for name, value in shares.items()}
        return {**named, OVERALL: shares[WITH_TIES]} if whole else named


def _ratio(weights: Floats, agreed: Floats, counted: Floats) -> Floats:
    """Weighted sum of ``agreed`` over that of ``counted``, each (I,), per row of weights (B, I)."""
    drawn = weights @ counted
    # Without a vote that counts there is nothing to agree on: as good as chance.
    plain = agreed.sum() / counted.sum() if counted.any() else 0.5
    return np.divide(weights @ agreed, drawn, out=np.full(len(weights), plain), where=drawn > 0)


MT_BENCH_HUMAN = Agreement(
    name=NAME,
    official={ALL: 200},
    parts={section: single_cells({ALL: 1}) for section in (WITH_TIES, WITHOUT_TIES)},
    overall=single_cells({ALL: 1}),
    cell=lambda item: item.subset,
    tie=0.0,
)
