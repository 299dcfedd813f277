"""Table ``crossover.csv``: how many samples of a small model make up for a bigger one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from spct.scaling import stats
from spct.scaling.cells import CellKey
from spct.scaling.comparisons import POLICIES, sizes_by_params
from spct.scaling.measure import Group, Measured
from spct.scaling.stats import Floats
from spct.scaling.table import Row

COLUMNS = ["run", "policy", "benchmark", "small", "large", "axis", "k", "k_low", "k_high", "note"]
_EQUAL = 1e-9  # accuracies this near are equal but for rounding


@dataclass(frozen=True)
class Curve:
    """Plain votes of one judge by k, all seeds pooled; draws are those of the whole table."""

    ks: list[int]
    flops: Floats  # (K,): mean of an item; NaN where parameters are unknown
    values: Floats  # (1 + draws, K): accuracy, then in each bootstrap draw
    prompts: int

    def at(self, flops: Floats) -> Floats:
        """Accuracy at some costs ``(1 + draws, costs)``, linear in log FLOPs between measured k;
        NaN outside of them."""
        x, known = np.log(flops), np.log(self.flops)
        right = np.clip(np.searchsorted(known, x), 1, len(known) - 1)
        share = (x - known[right - 1]) / (known[right] - known[right - 1])
        between = self.values[:, right - 1] * (1 - share) + self.values[:, right] * share
        inside = (x >= known[0] - _EQUAL) & (x <= known[-1] + _EQUAL)
        return np.where(inside, between, np.nan)


def crossovers(run: str, measured: Measured) -> list[Row]:
    """For each policy and benchmark and every two sizes that have plain votes, two rows.

    ``samples``: the fewest samples k of the small model whose vote is at least as accurate as one
    sample of the large one. ``flops``: the fewest whose vote is at least as accurate as the large
    model's for the same FLOPs, of those k that pay for at least one sample of it and at most all it
    has. Of the k of ``scaling.ks`` alone; empty where none is. ``k_low`` to ``k_high`` is the
    interval over items (prompts drawn whole, all seeds pooled): the same is asked of every
    bootstrap draw of both curves. An empty ``k_high`` beside a ``k_low`` lies beyond what was
    sampled.
    """
    sizes = [size for size in sizes_by_params(measured) if measured.params[size] is not None]
    rows = []
    for group in (group for group in measured.groups if group.subset == "all"):
        for policy in POLICIES:
            curves = {size: curve(measured, group, policy, size) for size in sizes}
            found = {size: one for size, one in curves.items() if one is not None}
            for small, large in combinations(found, 2):
                where = {"run": run, "policy": policy, "benchmark": group.benchmark}
                where |= {"small": small, "large": large}
                level = measured.cfg.level
                for axis, values in compared(found[small], found[large], level):
                    rows.append({**where, "axis": axis, **values})
    return rows


def curve(measured: Measured, group: Group, policy: str, size: str) -> Curve | None:
    """A judge's plain votes on a benchmark; None where it has none on every seed that it has."""
    keys = sorted(key for key in measured.cells if key[:3] == (policy, size, "voting"))
    seeds = sorted(set.intersection(*(set(measured.cells[key]) for key in keys))) if keys else []
    parts = [measured.statistics(key, group, seeds) for key in keys]
    if not seeds or not all(parts):
        return None
    whole = [stats.pooled(part) for part in parts]
    return Curve(
        ks=[key.k for key in keys],
        flops=np.array([_flops(measured, key, group, seeds) for key in keys]),
        values=np.stack([np.append(one.value, one.draws) for one in whole], axis=1),
        prompts=measured.clusters(keys[0], group, seeds),
    )


def _flops(measured: Measured, key: CellKey, group: Group, seeds: list[int]) -> float:
    parts = [measured.cells[key][seed].flops[measured.counted(key, group, seed)] for seed in seeds]
    return float(np.concatenate(parts).mean())


def compared(small: Curve, large: Curve, level: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cells ``k`` to ``note`` of both axes."""
    ks, first = np.array(small.ks, dtype=np.float64), large.ks[0]
    unsure = (level, min(small.prompts, large.prompts))
    one = large.values[:, :1]
    if first != 1:
        yield "samples", {"note": f"the large has no vote of 1; its fewest is {first}"}
    else:
        yield "samples", _row(small.values, one, ks, *unsure, "")
    if not (np.array([*small.flops, *large.flops]) > 0).all() or len(large.ks) < 2:
        yield "flops", {"note": "FLOPs unknown or none, or a single k of the large"}
        return
    price = large.flops[0] / large.ks[0] / (small.flops[0] / small.ks[0])
    told = f"a sample of the large costs as much as {price:.2g} of the small"
    rival = large.at(small.flops)
    here = ~np.isnan(rival[0])
    if not here.any():
        yield "flops", {"note": f"{told}; no budget in common"}
        return
    yield "flops", _row(small.values[:, here], rival[:, here], ks[here], *unsure, told)


def _row(
    small: Floats, large: Floats, ks: Floats, level: float, prompts: int, told: str
) -> dict[str, Any]:
    """The first k at which ``small`` reaches ``large``, of the values and of every draw."""
    reached = small >= large - _EQUAL
    found = np.where(reached.any(axis=1), ks[reached.argmax(axis=1)], np.inf)
    low, high = stats.ranked_interval(found[1:], level, prompts)
    never = f"not by k = {ks[-1]:g}" if math.isinf(found[0]) else ""
    return {
        **{"k": _whole(found[0]), "k_low": _whole(low), "k_high": _whole(high)},
        "note": "; ".join(filter(None, (never, told))),
    }


def _whole(k: float) -> int | None:
    return int(k) if math.isfinite(k) else None
