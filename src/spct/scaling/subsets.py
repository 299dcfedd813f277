"""Random k-subsets of each item's samples: the common random numbers of every Monte Carlo estimate.

An item's subsets depend on its id and the seed alone: every policy, method and k sees the same
draws (nested in k), so differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spct import seeds

Index = NDArray[np.int64]
Ranks = NDArray[np.unsignedinteger]


class Subsets:
    """Random orders of each item's n samples; the first k of one are a random k-subset."""

    def __init__(self, ids: Sequence[str], n: int, subsets: int, *parts: object) -> None:
        """``subsets`` random orders an item, seeded by ``(*parts, id)`` and made when needed."""
        if subsets < 1:
            raise ValueError(f"subsets must be at least 1, not {subsets}")
        self.ids, self.n, self.subsets = list(ids), n, subsets
        self._parts = parts
        self._made: dict[tuple[str, int], Ranks] = {}

    def take(self, rows: Index) -> Subsets:
        """The same orders of some items."""
        return Subsets([self.ids[i] for i in rows], self.n, self.subsets, *self._parts)

    def ranks(self, rows: Index, stream: str = "subsets") -> Ranks:
        """Rank of every sample in each random order of some items, ``(rows, subsets, n)``.

        Orders of another ``stream`` are independent of these.
        """
        return np.stack([self._ranks(stream, row) for row in rows.tolist()])

    def stratified(self, rows: Index, stratum: NDArray[np.int16]) -> Ranks:
        """As :meth:`ranks`, but every prefix holds the strata (rows, n) as equally as it can.

        Round by round, each stratum that has samples left gives its next one; the order of the
        strata is random in each round, so the odd ones of a k-subset go to random strata.
        """
        ranks = self.ranks(rows)
        for i, row in enumerate(rows.tolist()):
            keys = seeds.rng("strata", *self._parts, self.ids[row]).random(ranks[i].shape)
            turn = _turns(ranks[i], stratum[i])
            _set_ranks(ranks[i], np.lexsort((keys, turn), axis=1), np.arange(self.n))
        return ranks

    def _ranks(self, stream: str, row: int) -> Ranks:
        if (stream, row) not in self._made:
            small = np.min_scalar_type(self.n - 1)  # an eighth of the memory
            plain = np.tile(np.arange(self.n, dtype=small), (self.subsets, 1))
            drawn = seeds.rng(stream, *self._parts, self.ids[row]).permuted(plain, axis=1)
            self._made[stream, row] = drawn
        return self._made[stream, row]


def _turns(ranks: Ranks, stratum: NDArray[np.int16]) -> Ranks:
    """Round ``(subsets, n)`` in which its stratum gives each sample: its place by rank in it."""
    in_strata = np.lexsort((ranks, np.broadcast_to(stratum, ranks.shape)), axis=1)
    labels = np.sort(stratum)
    turns = np.empty_like(ranks)
    _set_ranks(turns, in_strata, np.arange(len(labels)) - np.searchsorted(labels, labels))
    return turns


def _set_ranks(ranks: Ranks, samples: Index, values: Index) -> None:
    """Give the samples listed in each row of ``samples`` (subsets, n) the ``values`` (n,)."""
    np.put_along_axis(ranks, samples, values[None].astype(ranks.dtype), axis=1)
