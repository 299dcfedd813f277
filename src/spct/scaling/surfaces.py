"""Rows of ``surface.csv``: guided votes at every (k, k_meta), their bounds and their floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spct.scaling.cells import CellKey
from spct.scaling.measure import Group, Measured
from spct.scaling.table import written

COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "method", "k", "k_meta"),
    *("metric", "accuracy", "low", "high", "mc_se"),
]
GUIDED = "meta_voting"
BOUNDED = (GUIDED, "oracle_voting", "random_voting")  # cheap signals stand in signals.csv
WORST = "min"  # in column k_meta


def surface_rows(run: str, measured: Measured) -> list[dict[str, Any]]:
    """Every point of the surfaces, by benchmark and key, then seed by seed.

    A row with k_meta ``min`` is the floor at its k: the accuracy of the worst k_meta, between the
    least of the low and the least of the high ends.
    """
    rows = []
    for group in measured.groups:
        if group.subset != "all":
            continue
        for key in sorted(key for key in measured.cells if key.method in BOUNDED):
            for label, seeds in measured.seeds(key):
                where = {"run": run, "seed": label, "benchmark": group.benchmark}
                summary = measured.summary(key, group, seeds)
                if summary is not None:
                    rows.append(written({**where, **key._asdict(), **vars(summary)}))
                if key.k_meta == key.k and key.method == GUIDED:
                    rows.extend(_floor(where, key, measured, group, seeds))
    return rows


def _floor(
    where: dict[str, Any], key: CellKey, measured: Measured, group: Group, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """The worst k_meta at the k of ``key``; no row where the group has no value."""
    at = [other for other in measured.cells if other[:4] == key[:4]]
    found = {other: measured.summary(other, group, seeds) for other in at}
    values = {other: summary for other, summary in found.items() if summary is not None}
    if not values:
        return []
    worst = min(values, key=lambda other: (values[other].accuracy, other.k_meta))
    ends = {name: min(getattr(one, name) for one in values.values()) for name in ("low", "high")}
    return [written({**where, **key._asdict(), "k_meta": WORST, **vars(values[worst]), **ends})]
