"""The page's tables, from the rows of curves.csv, surface.csv, official.csv and health.csv."""

from __future__ import annotations

import math
from typing import Any

from spct.baselines.rows import MEAN_SCALAR, METHODS, SCALAR, TOKEN_PROB
from spct.report.health import glance
from spct.report.health_rows import Book
from spct.scaling.lines import META, policy_name
from spct.scaling.table import Row, headline, main_size, select, unique

FILTERED = ("voting", "meta_voting", "margin_voting", "random_voting", "oracle_voting")
NAMES = {
    "greedy": "greedy",
    SCALAR: "one scalar",
    "voting": "voting",
    "meta_voting": "meta RM keeps half",
    "margin_voting": "widest margins keep half",
    "random_voting": "random half",
    "oracle_voting": "oracle keeps half",
    MEAN_SCALAR: "mean of k scalars",
    TOKEN_PROB: "probability of the verdict",
}


def accuracy_tables(rows: list[Row]) -> list[dict[str, Any]]:
    """A table a benchmark: a line for every policy and size, greedy and voting at each k.

    ``note`` says how many of its items count nowhere, and why.
    """
    shown = headline(rows)
    tables = []
    for benchmark in unique(select(shown, method="voting"), "benchmark"):
        here = select(shown, benchmark=benchmark)
        voting = select(here, method="voting")
        ks = sorted(set(row["k"] for row in voting))
        lines = []
        for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in voting):
            curve = {r["k"]: r for r in select(voting, policy=policy, size=size)}
            greedy = select(here, policy=policy, size=size, method="greedy")
            last = curve[max(curve)]
            name = f"{policy_name(policy)} {size}"
            cells = [greedy[0] if greedy else None, *(curve.get(k) for k in ks)]
            first = curve[min(curve)]
            lines.append({"name": name, "cells": cells, "first": first, "last": last})
        note = voting[0].get("note", "")
        tables.append({"benchmark": benchmark, "ks": ks, "lines": lines, "note": note})
    return tables


def control_tables(rows: list[Row]) -> list[dict[str, Any]]:
    """The guided vote beside plain voting and its controls, at each k, a table a benchmark."""
    shown = headline(rows)
    guided = {(row["policy"], row["size"]) for row in select(shown, method="meta_voting")}
    tables = []
    for policy, size in sorted(guided):
        mine = select(shown, policy=policy, size=size)
        for benchmark in unique(mine, "benchmark"):
            here = [r for r in mine if r["benchmark"] == benchmark and r["method"] in FILTERED]
            ks = sorted(set(row["k"] for row in here))
            lines = []
            for method in FILTERED:
                curve = {row["k"]: row for row in select(here, method=method)}
                lines.append({"name": NAMES[method], "cells": [curve.get(k) for k in ks]})
            name = f"{policy_name(policy)} {size}, {benchmark}"
            tables.append({"name": name, "ks": ks, "lines": lines})
    return tables


def blind_tables(rows: list[Row]) -> dict[str, list[Row]]:
    """Content-blind baselines by benchmark."""
    blind = select(headline(rows), policy="none")
    return {name: select(blind, benchmark=name) for name in unique(blind, "benchmark")}


def scalar_tables(rows: list[Row]) -> dict[str, list[dict[str, Any]]]:
    """Reward models whose scores are no votes, by benchmark; ``note`` says what they cannot score.

    ``how`` says what k means to them.
    """
    shown = [row for row in headline(rows) if row["method"] in METHODS]
    return {
        name: [
            {
                **row,
                "name": f"{policy_name(row['policy'])} {row['size']}",
                "how": NAMES[row["method"]],
            }
            for row in select(shown, benchmark=name)
        ]
        for name in unique(shown, "benchmark")
    }


def surface_tables(rows: list[Row], benchmark: str) -> list[dict[str, Any]]:
    """Guided votes of a benchmark by k and k_meta: a table for each policy and size.

    A line is a k; its cells run over ``k_metas``, then the worst of them, None where k_meta > k.
    """
    shown = headline([{"subset": "all", **row} for row in rows])
    here = select(shown, benchmark=benchmark, method=META)
    tables = []
    for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in here):
        mine = select(here, policy=policy, size=size)
        cells = {(row["k"], row["k_meta"]): row for row in mine}
        ks = sorted({k for k, _ in cells})
        k_metas = sorted({k_meta for _, k_meta in cells} - {"min"})
        lines = [{"k": k, "cells": [cells.get((k, m)) for m in (*k_metas, "min")]} for k in ks]
        name = f"{policy_name(policy)} {size}, {mine[0]['benchmark']}"
        tables.append({"name": name, "k_metas": k_metas, "lines": lines})
    return tables


def official_tables(rows: list[Row]) -> list[dict[str, Any]]:
    """A table for each benchmark with rules of its own: a line for every judge, vote and k.

    Its cells run over the sections, the overall last where the set is whole; a partial set has its
    ``coverage`` to say so.
    """
    shown = headline([{"subset": "all", **row} for row in rows])
    tables = []
    for benchmark in unique(shown, "benchmark"):
        here = select(shown, benchmark=benchmark)
        sections = unique(here, "section")
        lines: dict[tuple[Any, ...], dict[str, Row]] = {}
        for row in here:
            key = (row["policy"], row["size"], row["method"], row["k"])
            lines.setdefault(key, {})[row["section"]] = {**row, "accuracy": row["value"]}
        tables.append(
            {
                "name": benchmark,
                "sections": sections,
                "coverage": here[0]["coverage"],
                "lines": [
                    {
                        "name": f"{policy_name(policy)} {size}",
                        "method": NAMES.get(method, method.replace("_", " ")),
                        "k": k,
                        "cells": [cells.get(section) for section in sections],
                    }
                    for (policy, size, method, k), cells in lines.items()
                ],
            }
        )
    return tables


def adaptive_tables(rows: list[Row]) -> dict[str, Any]:
    """Votes that stop early beside the whole vote, main size: a line a benchmark and policy."""
    shown = headline(rows)
    shown = select(shown, size=main_size(shown))
    rules = unique((row for row in shown if row["method"].startswith("adaptive_")), "method")
    lines = []
    for benchmark in unique(shown, "benchmark"):
        for policy in unique(select(shown, benchmark=benchmark), "policy"):
            mine = select(shown, benchmark=benchmark, policy=policy)
            stopped = {row["method"]: row for row in mine if row["method"] in rules}
            if not stopped:
                continue
            k = max(row["k"] for row in stopped.values())
            (whole,) = select(mine, method="voting", k=k)
            cells = [
                None if row is None else {**row, "share": ratio(row["tokens"], whole["tokens"])}
                for row in map(stopped.get, rules)
            ]
            name = f"{benchmark}, {policy_name(policy)}"
            lines.append({"name": name, "whole": whole, "cells": cells})
    return {"rules": [_rule(name) for name in rules], "lines": lines}


def ratio(part: float, whole: float) -> float:
    """NaN where there is no whole: of a judge that was never asked."""
    return part / whole if whole else math.nan


def _rule(method: str) -> str:
    rule = method.removeprefix("adaptive_")
    return "cannot flip" if rule == "flip" else f"{rule.removeprefix('sure_')} % sure"


def estimated(rows: list[Row]) -> list[dict[str, Any]]:
    """How the votes of each benchmark were averaged: exactly (error 0), or by random subsets.

    Votes that stop early are always drawn, so they do not count here.
    """
    votes = [row for row in headline(rows) if row["method"] in FILTERED]
    found = []
    for benchmark in unique(votes, "benchmark"):
        errors = [row["mc_se"] for row in select(votes, benchmark=benchmark)]
        error = max((value for value in errors if not math.isnan(value)), default=0.0)
        found.append({"benchmark": benchmark, "error": error})
    return found


def health_table(rows: list[Row], size: str) -> dict[str, Any]:
    """The judges' health at a glance at one size, a line a benchmark, and the page of each judge.

    ``pages`` holds all sizes: name and file, relative to the folder of the pages.
    """
    judges = list(dict.fromkeys((row["policy"], row["size"]) for row in rows))
    lines = [
        {"judge": policy_name(policy), **line}
        for policy, its_size in judges
        if its_size == size
        for line in glance(Book(select(rows, policy=policy, size=size)))
    ]
    pages = [(f"{policy_name(p)} {s}", f"health-{p}-{s}.html") for p, s in judges]
    return {"lines": lines, "pages": pages}
