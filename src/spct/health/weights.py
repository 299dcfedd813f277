"""Whether a judge's scores follow the principles and weights that it states.

A format that states weights and marks has a reader in :data:`READERS`; other texts give no
statement, and a judge of another format no rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spct.health.measures import Measure, Parts, share
from spct.judge.parse import Outcome
from spct.records import bank_batches
from spct.scaling.banks import Bank, Bench
from spct.scaling.votes import Floats, Index

MOST_ROWS = 10_000  # texts read of a bank: the first samples of every item
COLUMNS = ("item_id", "kind", "sample", "order", "text", "scores", "outcome")
NEAR = 1e-9  # weighted means this close are one
_SUMS = ("read", "stated", "complete", "pairs", "agree", "xy", "xx", "yy", "lists", "pearson")

Named = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Statement:
    """What a judgement says of its reasons; responses in the order shown."""

    principles: Named  # name and weight
    marks: tuple[Named, ...]  # of each response: name and mark
    scores: tuple[float, ...]

    def means(self) -> tuple[float, ...] | None:
        """Weighted mean of the marks of each response.

        None unless every response is marked on exactly the principles stated, in any order, the
        weights are positive and no principle is stated twice.
        """
        weights = dict(self.principles)
        total = sum(weights.values())
        if len(weights) != len(self.principles) or total <= 0:
            return None
        means = []
        for marks in self.marks:
            if sorted(name for name, _ in marks) != sorted(weights):
                return None
            means.append(sum(weights[name] * mark for name, mark in marks) / total)
        return tuple(means)


_LISTED = r"(?:\s+[^\W\d]\w*\s+\d+)+"
_TOY = re.compile(
    rf"\s*Principles:(?P<stated>{_LISTED})\s+Critique:(?P<critique>[^\\]*)"
    r"\s+Scores:\s+\\boxed\{(?P<scores>\d+(?:\s*,\s*\d+)*)\}\s*"
)
_RESPONSE = re.compile(r"\s*\[(?P<number>\d+)\](?P<marks>[^\[\]]*)")
_MARK = re.compile(r"([^\W\d]\w*)\s+(\d+)")
SUMMARY = "so"  # a toy critique ends with "so 7": the score, not a mark


def read_toy(text: str) -> Statement | None:
    """``Principles: polite 2 … Critique: [1] polite 4 … so 7 [2] … Scores: \\boxed{7, 3}``."""
    found = _TOY.fullmatch(text)
    if found is None:
        return None
    parts = list(_RESPONSE.finditer(found["critique"]))
    scores = tuple(float(score) for score in found["scores"].split(","))
    numbers = [int(part["number"]) for part in parts]
    if numbers != list(range(1, len(scores) + 1)):
        return None
    marks = (_named(part["marks"]) for part in parts)
    kept = tuple(tuple(pair for pair in named if pair[0] != SUMMARY) for named in marks)
    return Statement(_named(found["stated"]), kept, scores)


def _named(text: str) -> Named:
    return tuple((name, float(number)) for name, number in _MARK.findall(text))


READERS: dict[str, Callable[[str], Statement | None]] = {"toy": read_toy}


def read(text: str) -> Statement | None:
    """What the first reader that knows the format finds; None if there is none."""
    return next((found for reader in READERS.values() if (found := reader(text))), None)


@dataclass(frozen=True)
class Agreement:
    """Sums of each item over its samples read, ``(I, len(_SUMS))``; see :func:`weights`."""

    sums: Floats

    def take(self, rows: Index) -> Agreement:
        return Agreement(self.sums[rows])

    def __getitem__(self, name: str) -> Floats:
        return np.asarray(self.sums[:, _SUMS.index(name)])


def agreement(bank: Bank, bench: Bench) -> Agreement:
    """Reads the texts of the first samples of every item, at most :data:`MOST_ROWS` of the bank."""
    sums = np.zeros((len(bench.items), len(_SUMS)))
    first = max(1, MOST_ROWS // max(1, len(bench.items)))
    for path in bank.paths:
        for rows in bank_batches(path, COLUMNS):
            wanted = pc.and_(pc.equal(rows["kind"], "sample"), pc.less(rows["sample"], first))
            ok = pc.equal(rows["outcome"], Outcome.ok.value)
            _add(rows.filter(pc.and_(wanted, ok)), bench, sums)
    return Agreement(sums)


def _add(rows: pa.Table, bench: Bench, sums: Floats) -> None:
    for row in rows.select(["item_id", "order", "text", "scores"]).to_pylist():
        at, statement = bench.index[row["item_id"]], read(row["text"])
        means = statement.means() if statement else None
        sums[at, :2] += 1, statement is not None
        if means is not None and len(means) == len(row["scores"]):
            given = np.array([row["scores"][i] for i in row["order"]], dtype=np.float64)
            sums[at, 2:] += _compare(np.array(means), given)


@cache
def _pairs(n: int) -> tuple[Index, Index]:
    i, j = np.triu_indices(n, 1)
    return i, j


def _compare(x: Floats, y: Floats) -> Floats:
    """What one sample adds to the sums from ``complete`` on: ``x`` its weighted means, ``y`` its
    scores."""
    i, j = _pairs(len(x))
    stated, given = x[i] - x[j], y[i] - y[j]
    told = np.abs(stated) > NEAR
    agree = np.where(given[told] == 0, 0.5, np.sign(given[told]) == np.sign(stated[told]))
    dx, dy = x - x.mean(), y - y.mean()
    xy, xx, yy = dx @ dy, dx @ dx, dy @ dy
    whole = len(x) > 2 and xx > NEAR and yy > NEAR
    pearson = xy / np.sqrt(xx * yy) if whole else 0.0
    return np.array([1, told.sum(), agree.sum(), xy, xx, yy, whole, pearson], dtype=np.float64)


def weights(found: Agreement) -> Iterator[Measure]:
    """Agreement of scores with the weighted mean of the marks; no rows where nothing is stated.

    * ``stated``: share of valid judgements in which a reader finds weights, marks and scores;
      ``complete``: of these, those that mark every response on every principle, the rest's basis;
    * ``ranking``: of two responses with different weighted means, how often the scores rank them
      alike (equal scores: half);
    * ``within``: correlation of weighted means and scores around their means in each judgement, of
      all judgements together; ``pearson``: its mean over judgements of more than two responses.
    """
    if not found["stated"].any():
        return
    yield share("weights", "stated", None, found["stated"], found["read"])
    yield share("weights", "complete", None, found["complete"], found["stated"])
    yield share("weights", "ranking", None, found["agree"], found["pairs"])
    moments = (found["xy"], found["xx"], found["yy"])
    spread = (found["xx"] > 0) * found["complete"]
    yield Measure("weights", "within", None, spread, moments, _correlation, scale="free")
    yield share("weights", "pearson", None, found["pearson"], found["lists"], "gap")


def _correlation(weights: Floats, parts: Parts) -> Floats:
    xy, xx, yy = (weights @ part for part in parts)
    scale = np.sqrt(xx * yy)
    return np.divide(xy, scale, out=np.full(len(weights), np.nan), where=scale > 0)
