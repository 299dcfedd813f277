"""The one notion of a right judgement, and the credit for ties at evaluation.

``correct`` is the paper's Eq. 10: the best response must score strictly above every other; a tie
with the best is wrong; the order among the others does not matter. RFT rejection, the RL reward,
the difficulty filter and the meta-RM labels all use it. ``credit`` differs only in ties: it is the
expectation of ``correct`` over a random order of the tied (the paper breaks ties by shuffling).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb
from typing import Any

from spct.records import Label

Sides = tuple[list[int], list[int]]


def correct(scores: Sequence[int], label: Label) -> bool:
    """Whether ``scores`` (original order, one per response) agree strictly with ``label``.

    One response: its verdict (0 or 1) equals the label of kind ``correct``. Raises ``ValueError``
    as :func:`sides` does, and for a rating where a verdict is due (ROC-AUC measures ratings).
    """
    if len(scores) == 1:
        return _truth(label) == _verdict(scores[0], (0, 1))
    better, worse = sides(label, len(scores))
    return min(scores[i] for i in better) > max(scores[i] for i in worse)


def credit(totals: Sequence[float], label: Label) -> float:
    """Evaluation credit in [0, 1] of vote totals (original order): 1/m to the best of m tied.

    In general the share of orders of the tied responses that put all of ``better`` over all of
    ``worse``. One response: ``totals`` is ``[vote.majority(…)]``, where a tie of 0.5 earns 0.5.
    Raises ``ValueError`` as :func:`correct` does.
    """
    if len(totals) == 1:
        return 1.0 - abs(_truth(label) - _verdict(totals[0], (0, 0.5, 1)))
    better, worse = sides(label, len(totals))
    lowest, highest = min(totals[i] for i in better), max(totals[i] for i in worse)
    if lowest != highest:
        return float(lowest > highest)
    tied_better = sum(totals[i] == lowest for i in better)
    tied_worse = sum(totals[i] == lowest for i in worse)
    return 1.0 / comb(tied_better + tied_worse, tied_better)


def sides(label: Label, n: int) -> Sides:
    """Responses that must come out on top and those that must stay below, as original indices.

    Raises ``ValueError`` if the label has no definite best among ``n >= 2`` responses (the message
    says which items to drop) or does not fit ``n`` responses.
    """
    if n < 2:
        raise ValueError(f"no order among {n} response(s); a single one needs kind 'correct'")
    better, worse = _SIDES[label.kind](label.value, n)
    if not better or not worse or not all(0 <= i < n for i in better + worse):
        raise ValueError(f"label {label} does not fit {n} responses")
    if set(better) & set(worse):
        raise ValueError(f"label {label} puts a response on both sides")
    return better, worse


def _truth(label: Label) -> bool:
    if label.kind != "correct" or len(label.value) != 1:
        raise ValueError(f"one response cannot be judged by {label}; drop items of n = 1 without r")
    return bool(label.value[0])


def _verdict(value: float, allowed: tuple[float, ...]) -> float:
    if value not in allowed:
        raise ValueError(f"{value} is not a verdict ({allowed}); ratings are measured by ROC-AUC")
    return value


def _one(best: int, n: int) -> Sides:
    return [best], [i for i in range(n) if i != best]


def _unique_maximum(values: Sequence[float], n: int, what: str) -> Sides:
    if len(values) != n:
        raise ValueError(f"{len(values)} label values for {n} responses")
    top = [i for i, value in enumerate(values) if value == max(values)]
    if len(top) != 1:
        raise ValueError(f"no definite best in {list(values)}: drop {what}")
    return _one(top[0], n)


def _pair_tie(value: dict[str, Any], n: int) -> Sides:
    if value["winner"] is None:
        raise ValueError("no definite best: drop 'pair_tie' items whose winner is none")
    return _one(value["winner"], n)


def _votes(value: Sequence[int | None], n: int) -> Sides:
    """The response with the most votes; annotators who chose none (``None``) do not count."""
    counts = Counter(vote for vote in value if vote is not None)
    if not counts.keys() <= set(range(n)):
        raise ValueError(f"votes {list(value)} do not fit {n} responses")
    return _unique_maximum([counts[i] for i in range(n)], n, "'votes' items without one winner")


_SIDES: dict[str, Callable[[Any, int], Sides]] = {
    "best": _one,
    "pair_tie": _pair_tie,
    "graded": lambda value, n: _unique_maximum(value, n, "'graded' items with several maxima"),
    "correct": lambda value, n: _unique_maximum(
        value, n, "'correct' items of n > 1 without exactly one right response"
    ),
    "groups": lambda value, n: (list(value["better"]), list(value["worse"])),
    "votes": _votes,
}
