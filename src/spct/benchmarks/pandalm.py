"""PandaLM test set (arXiv 2306.05087): pairs in three classes, first better, second better or tie.

The accuracy against the majority of three annotators over all 999 pairs, ties included: a judge's
tie is right where people called it a tie and wrong elsewhere. (The paper's tables also give
macro-averaged precision, recall and F1 of the three classes; WeOpenML/PandaLM,
``data/testset-v1.json`` and README.) ``decided`` and ``tied`` are the same of the pairs with and
without a majority for one response.

Reads ``item.label`` of kind ``pair_tie``: the majority.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spct.benchmarks.rule import Answer, Averages, Floats, Term, check_outcomes, single_cells
from spct.records import Item

NAME = "pandalm"
_COUNTS = {"decided": 894, "tied": 105}


def _cell(item: Item) -> str:
    if item.label.kind != "pair_tie":
        raise ValueError(f"{NAME}: item {item.id!r} needs a label of kind pair_tie")
    return "tied" if item.label.undecided else "decided"


@dataclass(frozen=True)
class ThreeWay(Averages):
    """Averages in which a tie is a verdict of its own."""

    def judged(
        self,
        items: Sequence[Item],
        win: Floats,
        tie: Floats,
        weights: Floats,
        answer: Answer = "scores",
    ) -> dict[str, Floats]:
        """As :meth:`Averages.judged`."""
        check_outcomes(win, tie)
        tied = np.fromiter((item.label.undecided for item in items), np.bool_, len(items))
        return self.scores(items, np.where(tied, tie, win), weights)


PANDALM = ThreeWay(
    name=NAME,
    official=_COUNTS,
    parts={cell: single_cells({cell: 1}) for cell in _COUNTS},
    overall=(Term(1, tuple(_COUNTS)),),
    cell=_cell,
    tie=0.0,
)
