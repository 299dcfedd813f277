"""What an order plan buys for its tokens: pairs judged k times in one order, half and half, or any.

From a bank of random orders all three plans can be told: its samples of either order are what the
plan `fixed` would draw, equal counts of both what `balanced` would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from spct.health.measures import Measure, mean
from spct.health.panel import Panel
from spct.health.position import enough, first_or_last, halves
from spct.scaling.votes import Bools, Floats

Credits = dict[str, Floats]
PAIRS = (("balanced", "random"), ("balanced", "fixed"), ("random", "fixed"))


def plans(panel: Panel) -> Iterator[Measure]:
    """Accuracy of voting@k on pairs by plan, paired differences, and tokens an item.

    ``…:tokens`` counts prompts once an order (prefix caching), ``…:uncached`` one a sample. The
    plans at one k are measured on the same items. A bank judged by another plan tells of that
    plan alone.
    """
    items = panel.compared & (panel.sizes == 2)
    if not items.any():
        return
    for k, credits in _all(panel, items) if panel.plan == "random" else _own(panel, items):
        for plan, values in credits.items():
            yield mean("plan", plan, k, values)
            prompts, used = prompts_of(plan, k), ~np.isnan(values)
            for name, count in (("tokens", prompts), ("uncached", float(k))):
                spent = np.where(used, _tokens(panel, k, count), np.nan)
                yield mean("plan", f"{plan}:{name}", k, spent, "free")
        for a, b in PAIRS:
            if k > 1 and a in credits and b in credits:
                yield mean("plan", f"{a} - {b}", k, credits[a] - credits[b], "gap")


def prompts_of(plan: str, k: int) -> float:
    """Distinct prompts among k samples of a pair: 2 (1 − 2^−k) expected of random orders."""
    return {"fixed": 1.0, "balanced": float(min(k, 2)), "random": 2 * (1 - 0.5**k)}[plan]


def _tokens(panel: Panel, k: int, prompts: float) -> Floats:
    draws = panel.draws
    written = k * draws.completion_tokens.mean(axis=1) + draws.principle_tokens
    return np.asarray(written + prompts * draws.prompt_tokens.mean(axis=1))


def _own(panel: Panel, items: Bools) -> Iterator[tuple[int, Credits]]:
    for k, credit in panel.voting(panel.ks).items():
        yield k, {panel.plan: np.where(items, credit, np.nan)}


def _all(panel: Panel, items: Bools) -> Iterator[tuple[int, Credits]]:
    """The credits of the three plans, as far as the items have enough samples of each order."""
    first, last = first_or_last(panel)
    fewest = np.minimum(first.sum(axis=1), last.sum(axis=1))
    single = {k: enough(items, fewest, k) for k in panel.ks}
    mixed = {k: enough(items, fewest, halves(k)) for k in panel.ks}
    alone = [k for k in panel.ks if single[k] is not None]
    both = [k for k in panel.ks if mixed[k] is not None]
    up, down = panel.voting_among(first, alone), panel.voting_among(last, alone)
    any_order = panel.voting(panel.ks, replace(panel.votes, stratum=None))
    half = panel.voting(both, replace(panel.votes, stratum=panel.orders))
    for k in panel.ks:
        rows = next((r for r in (single[k], mixed[k]) if r is not None), items)
        found = {"random": any_order[k]}
        if k in both:
            found["balanced"] = half[k]
        if k in alone:
            found["fixed"] = (up[k] + down[k]) / 2
        yield k, {plan: np.where(rows, values, np.nan) for plan, values in found.items()}
