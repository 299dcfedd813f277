"""Whether the place at which a response is shown decides, for one sample and for votes of k."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from spct.health.measures import Measure, mean, share
from spct.health.panel import Panel
from spct.scaling.votes import Bools, Floats

ENOUGH = 0.9  # of the items must have k samples in each order for a value at k > 1


def position(panel: Panel) -> Iterator[Measure]:
    """Wins by place, signed bias, order consistency and agreement; ties share a choice.

    * ``place:p``: how often the response shown at place p is chosen (no bias: 1 / R each);
    * ``bias``: P(choice shown first) − P(choice shown last). Of a pair, from votes of k samples
      that all show one order, each of its two orders alike; of longer lists, as ``bias:lists``,
      from the samples at k = 1;
    * ``consistency``: two such votes, one in each order, choose the same response;
    * ``agreement:other`` and ``agreement:same``: two samples of an item agree, shown in different
      orders and in the same one. What the second lacks to 1 is noise, what lies between is order.
    """
    if not (panel.sizes > 1).any():
        return
    yield from _places(panel)
    yield from _pairs(panel)
    yield from _agreement(panel)


def first_or_last(panel: Panel) -> tuple[Bools, Bools]:
    """``(I, n)`` each: samples of pairs that show the better response first, and last."""
    pair = (panel.compared & (panel.sizes == 2))[:, None]
    first = panel.draws.shown[:, :, 0] == panel.best[:, None]
    return pair & first, pair & ~first


def enough(items: Bools, samples: Floats, k: float) -> Bools | None:
    """Those of ``items`` (I,) with at least k samples; None if these are fewer than ENOUGH."""
    have = items & (samples >= k)
    return have if have.sum() >= max(1, ENOUGH * items.sum()) else None


def _places(panel: Panel) -> Iterator[Measure]:
    shown, several = panel.draws.shown, panel.sizes > 1
    there = shown >= 0
    won = np.take_along_axis(panel.choice, np.where(there, shown, 0).astype(np.int64), axis=2)
    won = won * (there & several[:, None, None])
    judged = (panel.choice.sum(axis=2) > 0) & several[:, None]
    total = judged.sum(axis=1)
    lengths = set(panel.sizes[several].tolist())
    if len(lengths) == 1:
        for place in range(lengths.pop()):
            yield share("position", f"place:{place + 1}", 1, won[:, :, place].sum(axis=1), total)
    last = np.maximum(panel.sizes - 1, 0)
    ends = won[:, :, 0] - np.take_along_axis(won, last[:, None, None], axis=2)[:, :, 0]
    lists = panel.sizes > 2
    yield share("position", "bias:lists", 1, ends.sum(axis=1) * lists, total * lists, "gap")
    if panel.plan == "fixed":  # each pair has one order: the raw difference is all there is
        pairs = panel.sizes == 2
        yield share("position", "bias", 1, ends.sum(axis=1) * pairs, total * pairs, "gap")


def _pairs(panel: Panel) -> Iterator[Measure]:
    """Bias and consistency of pairs, from the credit of votes in each of the two orders."""
    first, last = first_or_last(panel)
    fewest = np.minimum(first.sum(axis=1), last.sum(axis=1))
    items = panel.compared & (panel.sizes == 2)
    found = {k: items & (fewest >= 1) if k == 1 else enough(items, fewest, k) for k in panel.ks}
    usable = {k: rows for k, rows in found.items() if rows is not None and rows.any()}
    ks = list(usable)
    up, down = panel.voting_among(first, ks), panel.voting_among(last, ks)
    for k in ks:
        a, b = (np.where(usable[k], credit[k], np.nan) for credit in (up, down))
        # The better response wins with a when it stands first and loses with 1 - b when last.
        yield mean("position", "bias", k, a - b, "gap")
        yield mean("position", "consistency", k, a * b + (1 - a) * (1 - b))


def _agreement(panel: Panel) -> Iterator[Measure]:
    """Unbiased shares over the pairs of valid samples of each item."""
    choice = panel.choice * (panel.sizes > 1)[:, None, None]
    valid = choice.sum(axis=2) > 0
    whole = _paired(choice, valid)
    within = np.zeros_like(whole)
    for label in range(int(panel.orders.max()) + 1):
        held = panel.orders == label
        within += _paired(choice * held[:, :, None], valid & held)
    for name, (equal, pairs) in (("other", whole - within), ("same", within)):
        yield share("position", f"agreement:{name}", 1, equal, pairs)


def _paired(choice: Floats, valid: Bools) -> Floats:
    """Expected agreements and pairs ``(2, I)`` among the valid samples."""
    totals = choice.sum(axis=1)
    equal = (totals**2).sum(axis=1) - (choice**2).sum(axis=(1, 2))
    count = valid.sum(axis=1)
    return np.stack([equal / 2, count * (count - 1) / 2])


def halves(k: int) -> int:
    """Samples that the fuller of two orders gets of k."""
    return math.ceil(k / 2)
