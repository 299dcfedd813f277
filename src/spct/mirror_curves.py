"""The curves of a run as MLflow runs, and the saved view that lays them over each other.

A policy at a size is one run, a vote on a benchmark one metric (``accuracy/<benchmark>/<method>``),
k its step. They stand beside the parent, not below it: MLflow draws no run that is folded away.
What has no k, a greedy judgement or a scalar reward model, is the same at every k: it is drawn as a
level from the fewest votes to the most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spct.mirror_run import Mirror, digest, file_hash, safe, time_ms
from spct.scaling.doubt import doubtful, warnings
from spct.scaling.lines import policy_name
from spct.scaling.table import HEADLINE, Row, headline, read_rows, select, unique

STAGE = "curve"
LEVELS = ("greedy", "scalar")
BLIND = "none"  # the policy of judges that read no content
_MEASURED = ("accuracy", "low", "high")
_READ = ("readable", "accuracy_readable")  # of votes of samples of which few can be read
_SPENT = ("tokens", "flops", "invalid_rate", "tie_rate")
# What ablations and overrides change most, as columns of the table of runs; by the first policy
# that it matters to.
COLUMNS = {
    "base": (
        *("model.source", "data.world", "judge.principles", "judge.order"),
        *("sampler.engine", "bench.k_max", "scaling.k_meta_share"),
    ),
    "rft": ("rollout.n_rft", "rollout.hinted", "rft.optim.lr", "rft.epochs", "rft.general_share"),
    "grpo": ("grpo.lr", "grpo.steps", "grpo.group_size", "grpo.kl_coef", "grpo.temperature"),
}
_LAYERS = tuple(COLUMNS)


def curves(run: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Mirror]:
    """A run for each policy and size, seeds pooled where there are several.

    ``settings`` are the run's parameters by dotted key, one that differs by size as ``size/key``.
    """
    path = folder / "curves.csv"
    if not path.is_file():
        return
    slice_hash = file_hash(folder / "config/curves.yaml")[:16]
    rows = headline(read_rows(path))
    for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in rows):
        mine = select(rows, policy=policy, size=size)
        metrics = [metric for row in mine for metric in _metrics(row, _ks(rows, row))]
        params = {
            **{"policy": policy, "size": size, "seed": mine[0]["seed"]},
            **_columns(settings, policy, size),
        }
        doubts = warnings(mine)
        name = "content-blind rules" if policy == BLIND else f"{policy_name(policy)} {size}"
        yield Mirror(
            key=f"{run}/{STAGE}/{policy}/{size}/{slice_hash}",
            name=f"{run}: {name}",
            content=digest([*metrics, *params.items(), *doubts]),
            time_ms=time_ms(path),
            tags={"spct.stage": STAGE, "spct.slice": slice_hash, **noted(doubts)},
            params=params,
            metrics=metrics,
            nested=False,
        )


def noted(doubts: Sequence[str]) -> dict[str, str]:
    """The warnings as tags: one to search for, and the description that MLflow shows."""
    text = ".\n\n".join(doubts)
    return {"spct.warning": text, "mlflow.note.content": f"Look here. {text}."} if doubts else {}


def _ks(rows: list[Row], row: Row) -> list[int]:
    """The steps a row is drawn at: its own k, or for a level the first and last of the votes."""
    votes = [r["k"] for r in select(rows, benchmark=row["benchmark"], method="voting")]
    if votes and (row["method"] in LEVELS or row["policy"] == BLIND):
        return sorted({min(votes), max(votes)})
    return [row["k"]]


def _metrics(row: Row, ks: Sequence[int]) -> Iterator[tuple[str, float, int]]:
    votes = row["k"] > 0 and row["method"] not in LEVELS
    place = f"{row['benchmark']}/{row['method']}"
    read = _READ if votes and doubtful(row) else ()
    for column in (*_MEASURED, *(_SPENT if votes else ()), *read):
        value = row.get(column, math.nan)  # older curves lack some
        if value == value:
            yield from ((f"{column}/{place}", value, k) for k in ks)


def _columns(settings: Mapping[str, Any], policy: str, size: str) -> dict[str, Any]:
    """The settings of :data:`COLUMNS` that a policy at a size depends on."""
    depth = _LAYERS.index(policy) + 1 if policy in _LAYERS else 0
    wanted = [key for layer in _LAYERS[:depth] for key in COLUMNS[layer]]
    found = {key: settings.get(f"{size}/{key}", settings.get(key)) for key in wanted}
    return {key: value for key, value in found.items() if value is not None}


# ---- the saved view ------------------------------------------------------------------------------

VIEW = "scaling"
# An experiment tag that MLflow's own "share view" writes too, then compressed. Format of MLflow
# 3.17: the keys of its page state, as JSON.
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_TAG_LENGTH = 5000  # MLflow's limit
_LAYOUT = {"columns": 2, "cardHeight": 460}
# The paper's votes, and what has no k; controls have charts of their own.
_OVERLAID = ("greedy", "voting", "meta_voting", "scalar", "mean_scalar", "token_prob")


def view(folder: Path) -> str:
    """The saved view as the text of its tag: a chart of all methods for each benchmark of a run,
    one against FLOPs, and the columns that matter. Empty without curves.

    Benchmarks that would make the tag longer than MLflow takes are left out.
    """
    path = folder / "curves.csv"
    if not path.is_file():
        return ""
    rows = [row for row in headline(read_rows(path)) if row["policy"] != BLIND]
    charts: list[dict[str, Any]] = []
    text = ""
    benchmarks = unique(select(rows, method="voting"), "benchmark")
    for benchmark in sorted(benchmarks, key=lambda name: name != HEADLINE):
        charts += _charts(benchmark, unique(select(rows, benchmark=benchmark), "method"))
        longer = json.dumps(_state(charts), separators=(",", ":"))
        if len(longer) > _TAG_LENGTH:
            break
        text = longer
    return text


def _charts(benchmark: str, methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    shown = [method for method in _OVERLAID if method in methods]
    yield _chart("k", [safe(f"accuracy/{benchmark}/{method}") for method in shown])
    yield _chart(
        "flops",
        [safe(f"accuracy/{benchmark}/voting")],
        useGlobalXaxisKey=False,
        xAxisKey="metric",
        selectedXAxisMetricKey=safe(f"flops/{benchmark}/voting"),
    )


def _chart(axis: str, keys: Sequence[str], **more: Any) -> dict[str, Any]:
    return {
        **{"type": "LINE", "uuid": digest([axis, *keys]), "metricSectionId": VIEW},
        **{"metricKey": keys[0], "selectedMetricKeys": list(keys), "runsCountToCompare": 50},
        **{"xAxisScaleType": "log", "displayPoints": True, "lineSmoothness": 0, **more},
    }


def _state(charts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns = ["policy", "size", "grpo.kl_coef", "grpo.lr", "rft.optim.lr", "judge.principles"]
    return {
        "searchFilter": f"tags.`spct.stage` = '{STAGE}'",
        "selectedColumns": [f"params.`{name}`" for name in columns],
        "compareRunCharts": list(charts),
        "compareRunSections": [{"uuid": VIEW, "name": "Scaling", "display": True, **_LAYOUT}],
        "isAccordionReordered": True,  # else MLflow puts its own sections first
        "runsHiddenMode": "SHOW_ALL",
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0},
        "hideEmptyCharts": True,
    }
