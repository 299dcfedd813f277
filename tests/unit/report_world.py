"""The tables, ledgers and logs of a small run, as the stages leave them for the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spct import artifact
from spct.health import build as health
from spct.scaling import comparisons, curves, official, surfaces
from spct.schema import ReportConfig, ScalingConfig
from spct.tracking import MetricsLog

CFG: Any = SimpleNamespace(
    scaling=ScalingConfig([1, 2, 4], 0.5, 10, 10, 0.9, "drop", [0.9], 0.02),
    report=ReportConfig(title="Scaling <of> rewards"),
)
METHODS = ("voting", "meta_voting", "margin_voting", "random_voting", "oracle_voting")


def point(policy: str, size: str, method: str, k: int, seed: str, level: float) -> dict[str, Any]:
    cost = {"s": 1e6, "m": 3e6, "none": 0.0}[size] * k
    return {
        **{"run": "t", "seed": seed, "policy": policy, "size": size, "subset": "all"},
        **{"method": method, "k": k, "k_meta": k, "accuracy": level, "low": level - 0.02},
        **{"high": level + 0.02, "items": 40, "tokens": 20.0 * k, "flops": cost},
        **{"invalid_rate": 0.01, "tie_rate": 0.1, "metric": "accuracy"},
        **{"rerun_sd": 0.03, "mc_se": 0.0 if method == "voting" else 0.002},
    }


def pair(name: str, a: str, b: str, difference: float) -> dict[str, Any]:
    return {
        **{"run": "t", "name": name, "benchmark": "toy_pairs", "a": a, "b": b},
        **{"k": int(a[-1]), "difference": difference, "low": difference - 0.02},
        **{"high": difference + 0.02, "p_holm": 0.02, "seeds_positive": "2/2", "items": 80},
        **{"subset": "all", "mde": 0.0283},
    }


def surface_rows(labels: list[str]) -> list[dict[str, Any]]:
    """Guided votes of GRPO at every (k, k_meta), 1 % apart, and the worst of each k."""
    rows = []
    for seed in labels:
        for k in (1, 2, 4):
            for k_meta in ("min", *(m for m in (1, 2, 4) if m <= k)):
                level = 0.6 + 0.01 * k + (0 if k_meta == "min" else 0.001 * int(k_meta))
                rows.append({**point("grpo", "m", "meta_voting", k, seed, level), "k_meta": k_meta})
    return [{**row, "benchmark": "toy_pairs"} for row in rows]


def official_rows(labels: list[str]) -> list[dict[str, Any]]:
    """Two sections and no overall: the set is partial."""
    where = {"run": "t", "policy": "grpo", "size": "m", "benchmark": "rmb", "items": 7}
    return [
        {
            **where,
            **{"seed": seed, "section": section, "method": "voting", "k": 4, "value": value},
            **{"low": value - 0.1, "high": value + 0.1, "coverage": "rmb: partial, 7 of 9"},
        }
        for seed in labels
        for section, value in (("helpful_pair", 0.612), ("harmless_pair (partial)", 0.533))
    ]


def health_rows(labels: list[str]) -> list[dict[str, Any]]:
    """A few measures of two judges on the headline benchmark."""
    found = [
        ("outcome", "ok", None, 0.97),
        ("tie", "top shared", 1, 0.21),
        ("position", "bias", 1, 0.085),
    ]
    return [
        {
            **{"run": "t", "seed": seed, "policy": policy, "size": "m", "benchmark": "toy_pairs"},
            **{"group": group, "name": name, "k": k, "value": value},
            **{"low": value - 0.01, "high": value + 0.01, "count": 40},
        }
        for policy in ("base", "grpo")
        for seed in labels
        for group, name, k, value in found
    ]


def make_run(root: Path, n_seeds: int = 2) -> dict[str, Any]:
    """Tables, a ledger and a training log, as the stages leave them."""
    rows = []
    labels = [str(seed) for seed in range(n_seeds)] + ["all"] * (n_seeds > 1)
    for benchmark in ("toy_pairs", "toy_single"):
        for rank, (policy, size) in enumerate(
            [("base", "s"), ("base", "m"), ("rft", "s"), ("rft", "m"), ("grpo", "m")]
        ):
            for method in METHODS if size == "m" and policy != "rft" else METHODS[:1]:
                for k in (1, 2, 4):
                    for seed in labels:
                        level = 0.5 + 0.04 * rank + 0.03 * k
                        row = point(policy, size, method, k, seed, level)
                        rows.append({**row, "benchmark": benchmark})
            rows += [
                {**point(policy, size, "greedy", 1, seed, 0.55), "benchmark": benchmark}
                for seed in labels
            ]
    rows += [
        {**point("none", "none", "first", 0, s, 0.5), "benchmark": "toy_pairs"} for s in labels
    ]
    rows += [
        {**point("btrm", "m", "scalar", 1, s, 0.765), "benchmark": "toy_pairs"} for s in labels
    ]
    nothing = {"policy": "pairrm", "size": "m", "method": "scalar", "k": 1, "items": 0}
    nothing |= {"run": "t", "benchmark": "toy_single", "subset": "all", "note": "40 of 40: <one>"}
    rows += [{**nothing, "seed": s} for s in labels]
    stopped = [("adaptive_flip", 0.8, 18.0), ("adaptive_sure_95", 0.79, 9.0)]
    rows += [
        {
            **point("grpo", "m", method, 4, seed, level),
            "benchmark": "toy_pairs",
            "tokens": 4 * tokens,
        }
        for method, level, tokens in stopped
        for seed in labels
    ]
    artifact.write_csv(root / "curves.csv", curves.COLUMNS, rows)
    artifact.write_csv(root / "surface.csv", surfaces.COLUMNS, surface_rows(labels))
    artifact.write_csv(root / "official.csv", official.COLUMNS, official_rows(labels))
    artifact.write_csv(root / "health.csv", health.COLUMNS, health_rows(labels))
    pairs = [
        pair("rft - base @1, m", "rft/m voting@1", "base/m voting@1", 0.031),
        pair("@4 - @1, grpo/m", "grpo/m voting@4", "grpo/m voting@1", 0.09),
        pair("meta - plain @4, grpo/m", "grpo/m meta_voting@4", "grpo/m voting@4", 0.044),
        pair("meta - random @4, grpo/m", "grpo/m meta_voting@4", "grpo/m random_voting@4", 0.057),
        pair("base + meta - grpo @4, m", "base/m meta_voting@4", "grpo/m voting@4", -0.023),
    ]
    pairs += [{**pairs[1], "subset": "hard", "difference": 0.666}]
    artifact.write_csv(root / "comparisons.csv", comparisons.COLUMNS, pairs)
    ledger = root / "results/t/seed0/select/m/ledger.json"
    artifact.write_ledger(ledger, total=9, kept=0, rejected={"wrong": 5, "<b>easy</b>": 4})
    log = MetricsLog(root / "results/t/seed0/metarm/m/metrics.jsonl")
    for step in range(4):
        log.write(step, {"loss": 1 / (step + 1)})
    artifact.write_json(log.path.with_name("eval.json"), {"auc": 0.7125})
    return {
        "curves": root / "curves.csv",
        "comparisons": root / "comparisons.csv",
        "surface": root / "surface.csv",
        "official": root / "official.csv",
        "health": root / "health.csv",
        "ledgers": [ledger],
        "metrics": [log.path.parent],
    }
