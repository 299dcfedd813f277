"""What a reader wants first: the headline benchmark, and what the meta reward model adds."""

from __future__ import annotations

import math
from typing import Any

from spct.report.tables import ratio
from spct.scaling.doubt import doubtful, warnings
from spct.scaling.lines import LOOKS, META, policy_name
from spct.scaling.table import Row, headline, main_benchmark, main_size, select, unique

# The votes that a guided one is held against, and how the page names the difference.
RIVALS = {
    "voting": "meta − plain",
    "margin_voting": "meta − widest margins",
    "random_voting": "meta − random half",
}


def headline_block(rows: list[Row], pairs: list[Row]) -> dict[str, Any]:
    """Votes of the main size on the headline benchmark: a line for each policy.

    A line holds the rows at the fewest and the most votes, the guided row, and the rows of
    ``comparisons.csv`` for the gains; None where a table has no such row. ``warnings`` are of all
    benchmarks, a ``doubtful`` line is of samples of which few can be read.
    """
    shown = headline(rows)
    benchmark = main_benchmark(shown)
    size = main_size(shown)
    here = select(shown, benchmark=benchmark, size=size)
    ks = sorted({row["k"] for row in select(here, method="voting")})
    few, many = ks[0], ks[-1]
    here_pairs = select(pairs, benchmark=benchmark, subset="all")
    found = {(row["a"], row["b"]): row for row in here_pairs}
    lines = [
        _line(select(here, policy=policy), found, few, many)
        for policy in unique(select(here, method="voting"), "policy")
    ]
    return {
        **{"benchmark": benchmark, "size": size, "few": few, "many": many},
        **{"items": max(row["items"] for row in here), "lines": lines},
        "guided": any(line["guided"] for line in lines),
        "doubtful": any(line["doubtful"] for line in lines),
        "warnings": warnings(shown),
    }


def _line(
    mine: list[Row], found: dict[tuple[str, str], Row], few: int, many: int
) -> dict[str, Any]:
    """One policy's line, from its rows and the differences by their two sides."""
    at = {(row["method"], row["k"]): row for row in mine}
    plain, guided = at.get(("voting", many)), at.get((META, many))
    policy, size = mine[0]["policy"], mine[0]["size"]
    start, end, meta = (
        f"{policy}/{size} {method}@{k}"
        for method, k in (("voting", few), ("voting", many), (META, many))
    )
    return {
        "name": policy_name(policy),
        "few": at.get(("voting", few)),
        "read_gain": _read(plain) - _read(at.get(("voting", few))),
        "doubtful": any(doubtful(row) for row in select(mine, method="voting")),
        "many": plain,
        "gain": found.get((end, start)),
        "guided": guided,
        "added": found.get((meta, end)),
        "over_grpo": found.get((meta, f"grpo/{size} voting@{many}")) if policy != "grpo" else None,
        "cost": ratio(guided["flops"], plain["flops"]) if plain and guided else math.nan,
    }


def _read(row: Row | None) -> float:
    """Accuracy of the votes with something to read; NaN where the table does not say."""
    return math.nan if row is None else float(row.get("accuracy_readable", math.nan))


def control_differences(pairs: list[Row]) -> dict[str, Any]:
    """Guided voting minus each rival at the most votes, by benchmark and policy.

    A line has a cell for each of ``names``, None where the pair was not compared.
    """
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in select(pairs, subset="all"):
        (who, a), (other, b) = (row[side].split(" ", 1) for side in ("a", "b"))
        if who == other and a.startswith(f"{META}@") and b.split("@")[0] in RIVALS:
            lines.setdefault((row["benchmark"], who), {})[b.split("@")[0]] = row
    order = unique(pairs, "benchmark")
    ranked = sorted(lines, key=lambda key: (order.index(key[0]), _rank(key[1])))
    return {
        "names": list(RIVALS.values()),
        "k": max((row["k"] for found in lines.values() for row in found.values()), default=0),
        "lines": [
            {
                "benchmark": key[0],
                "policy": _who(key[1]),
                "cells": [lines[key].get(rival) for rival in RIVALS],
            }
            for key in ranked
        ],
    }


def _rank(place: str) -> tuple[int, str]:
    policy = place.partition("/")[0]
    return (list(LOOKS).index(policy) if policy in LOOKS else len(LOOKS), place)


def _who(place: str) -> str:
    policy, _, size = place.partition("/")
    return f"{policy_name(policy)} {size}"
