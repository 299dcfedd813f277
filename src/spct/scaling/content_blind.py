"""Cells of rules that read no content: the place or the length of a response decides."""

from __future__ import annotations

import numpy as np

from spct.scaling.bench import Bench
from spct.scaling.cells import NOBODY, Cell, CellKey
from spct.scaling.votes import decide

BASELINES = ("first", "last", "longest", "shortest")


def content_blind(bench: Bench) -> dict[CellKey, Cell]:
    """Baselines that read no content: the first, last, longest or shortest response, in file order.

    Length is in characters; equal lengths share the credit. Items of one response, or without a
    right one, have none (NaN).
    """
    votes = bench.no_votes()
    totals = {name: np.full(bench.answers.shape, -np.inf, dtype=np.float32) for name in BASELINES}
    for i, item in enumerate(bench.items):
        lengths = np.array([len(text) for text in item.responses], dtype=np.float32)
        place = np.arange(item.n, dtype=np.float32)
        for name, values in zip(BASELINES, (-place, place, lengths, -lengths), strict=True):
            totals[name][i, : item.n] = values
    nothing = np.zeros(len(bench.items))
    cells = {}
    for name, values in totals.items():
        credit, tied = decide(values[:, None, :], votes)
        unknown = bench.single | votes.undecided
        cells[CellKey(NOBODY, NOBODY, name, 0, 0)] = Cell(
            accuracy=np.where(unknown, np.nan, credit[:, 0]),
            tied=tied[:, 0].astype(np.float64),
            rerun=nothing * np.nan,
            error=nothing,
            invalid=nothing,
            tokens=nothing,
            flops=nothing,
            won=np.where(unknown, np.nan, credit[:, 0] == 1),
        )
    return cells
