"""metrics.jsonl, and its mirror in a real MLflow: no doubling, no waiting for a dead tracker."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from spct import artifact
from spct.closing import after, closing_line, lines
from spct.mirror_curves import curves, view
from spct.scaling.curves import COLUMNS
from spct.tracking import (
    MetricsLog,
    read_metrics,
    sync,
    sync_cli,
    tracking_uri,
    without_password,
)

RUN = "tiny@grpo.lr=1e-5-0a1b2c3d"


def test_metrics_are_appended_line_by_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "deep" / "metrics.jsonl")
    log.write(0, {"loss": 2})
    log.write(1, {"loss": 1.5, "kl": 0.0})
    assert read_metrics(log.path) == [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5, "kl": 0.0}]


def test_values_that_are_not_finite_are_dropped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(7, {"loss": float("nan"), "kl": float("inf"), "reward": 1.0})
    assert read_metrics(log.path) == [{"step": 7, "reward": 1.0}]
    assert "step 7: loss is nan" in caplog.text


def test_resuming_forgets_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.truncate(3)
    for step in range(5):
        log.write(step, {"loss": step})
    with log.path.open("a") as handle:
        handle.write('{"step": 5, "lo')
    assert [entry["step"] for entry in read_metrics(log.path)] == [0, 1, 2, 3, 4]
    log.truncate(3)
    log.write(3, {"loss": 9})
    assert [entry["loss"] for entry in read_metrics(log.path)] == [0, 1, 2, 9]


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(artifact.BrokenArtifact, match="missing"):
        read_metrics(path)
    path.write_text('{"step": 0\n{"step": 1}\n')
    with pytest.raises(artifact.BrokenArtifact, match="line 1 is not JSON"):
        read_metrics(path)


def test_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", "activated")
    assert tracking_uri() == "sqlite:///mlflow.db"
    assert closing_line(Path("a.png"), Path("b.html")).endswith("MLflow: mlflow ui")
    assert "--backend-store-uri sqlite:///x.db" in closing_line(
        Path("a"), Path("b"), "sqlite:///x.db"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/x")
    assert tracking_uri("sqlite:///x.db").startswith("https")
    line = closing_line(Path("a"), Path("b"))
    assert "https://host/x" in line and "secret" not in line
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


# ---- MLflow ------------------------------------------------------------------------------------


def curve_row(k: int, accuracy: float, method: str = "voting") -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS, 0.0)
    row.update(run=RUN, seed="0", policy="grpo", size="m", benchmark="toy_pairs", subset="all")
    row.update(method=method, k=k, k_meta=k, accuracy=accuracy, items=5, flops=None)
    return row


def make_results(root: Path, rise: float = 0.1) -> None:
    """What a small run leaves: frozen slices, a model with its log, a ledger, curves, a figure."""
    folder = root / "results" / RUN
    work = [
        {"stage": "select", "folder": "select/m", "home": "tiny", "slice": "select"},
        {"stage": "grpo", "folder": "grpo/m", "home": RUN, "slice": "m/grpo"},
        {"stage": "judge", "folder": "judge/grpo-m", "home": RUN, "slice": "m/judge"},
    ]
    origin = {"experiment": "tiny", "base": "", "overrides": [], "seeds": [0], "work": work}
    frozen = {
        f"{RUN}/config/m/grpo": "grpo: {lr: 0.1}",
        f"{RUN}/config/rollout": "rollout: {n_rft: 3}",
        f"{RUN}/config/curves": "scaling: {ks: [1, 2]}",
        f"{RUN}/config/run": yaml.safe_dump(origin),
        "tiny/config/select": "select: {use_plain: true}",
    }
    for name, text in frozen.items():
        path = root / f"results/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with artifact.atomic_dir(folder / "seed0/grpo/m", stage="grpo") as model:
        log = MetricsLog(model / "metrics.jsonl")
        for step in range(1200):
            log.write(step, {"reward": step / 1200})
    (folder / "seed0/grpo/m.state").mkdir(parents=True, exist_ok=True)
    ledger = root / "results/tiny/seed0/select/m/ledger.json"
    artifact.write_ledger(ledger, total=3, kept=2, rejected={"x": 1})
    rows = [curve_row(k, 0.5 + rise * k) for k in (1, 2)] + [curve_row(1, 0.4, "greedy")]
    rows += [curve_row(1, 0.55, "scalar") | {"policy": "btrm"}]
    rows += [curve_row(0, 0.5, "longest") | {"policy": "none", "size": "none", "flops": 0.0}]
    artifact.write_csv(folder / "curves.csv", COLUMNS, rows)
    artifact.write_csv(folder / "signals.csv", ["signal"], [{"signal": "meta"}])
    (root / "reports" / RUN).mkdir(parents=True, exist_ok=True)
    (root / "reports" / RUN / "scaling.svg").write_text("<svg/>")


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A working directory with a finished run, mirrored once into its own SQLite tracker."""
    root = tmp_path_factory.mktemp("mlflow")
    make_results(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        yield root, mirror(root)


def mirror(root: Path) -> dict[str, Any]:
    return sync(RUN, results=root / "results", reports=root / "reports", experiment="test")


def runs_of(root: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def history(root: Path, run_id: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    return [(m.step, m.value) for m in client.get_metric_history(run_id, name)]


def test_a_run_is_mirrored_whole(tracker: Any) -> None:
    root, told = tracker
    assert told["synced"], told
    assert told["written"] == 6
    runs = runs_of(root)
    assert set(runs) == {
        RUN, "grpo m seed 0", "select m seed 0",
        f"{RUN}: GRPO m", f"{RUN}: btrm m", f"{RUN}: content-blind rules",
    }  # fmt: skip
    parent = runs[RUN]
    assert parent.data.params["grpo.lr"] == "0.1"
    assert parent.data.params["select.use_plain"] == "True"
    for name, run in runs.items():
        above = run.data.tags.get("mlflow.parentRunId")
        assert above == (parent.info.run_id if "seed" in name else None)
    grpo = runs[f"{RUN}: GRPO m"]
    curve = history(root, grpo.info.run_id, "accuracy/toy_pairs/voting")
    assert sorted(curve) == [(1, 0.6), (2, 0.7)]
    assert len(history(root, runs["grpo m seed 0"].info.run_id, "reward")) == 1200
    assert sorted(m for m in grpo.data.metrics if "rate" in m) == [
        "invalid_rate/toy_pairs/voting", "tie_rate/toy_pairs/voting",
    ]  # fmt: skip


def test_every_table_and_figure_is_an_artifact(tracker: Any) -> None:
    from mlflow import MlflowClient

    root, told = tracker
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    found = {
        file.path
        for folder in ("tables", "report", "config")
        for file in client.list_artifacts(told["run_id"], folder)
    }
    assert {"tables/curves.csv", "tables/signals.csv", "report/scaling.svg"} <= found
    assert {"config/curves.yaml", "config/select.yaml", "config/m"} <= found


def test_what_has_no_k_is_a_level(tracker: Any) -> None:
    """Greedy judgements, scalar reward models and content-blind rules, under the same votes."""
    root, _ = tracker
    runs = runs_of(root)
    for name, method, accuracy in (
        ("GRPO m", "greedy", 0.4),
        ("btrm m", "scalar", 0.55),
        ("content-blind rules", "longest", 0.5),
    ):
        run_id = runs[f"{RUN}: {name}"].info.run_id
        level = history(root, run_id, f"accuracy/toy_pairs/{method}")
        assert sorted(level) == [(1, accuracy), (2, accuracy)]
        assert not history(root, run_id, f"tokens/toy_pairs/{method}")


def test_few_readable_samples_are_told_beside_the_curve(tmp_path: Path) -> None:
    make_results(tmp_path)
    path = tmp_path / f"results/{RUN}/curves.csv"
    rows = [curve_row(k, 0.6) | {"readable": 0.2 * k, "accuracy_readable": 0.7} for k in (1, 2)]

    def told(invalid: float) -> Any:
        shown = [row | {"invalid_rate": invalid} for row in rows]
        artifact.write_csv(path, COLUMNS, shown)
        (found,) = curves(RUN, path.parent, {})
        return found

    quiet, loud = told(0.2), told(0.81)
    assert "spct.warning" not in quiet.tags
    assert not any(name.startswith("readable/") for name, _, _ in quiet.metrics)
    text = "toy_pairs: less than 80 % of the samples can be read (grpo/m 19 %)"
    assert loud.tags["spct.warning"].startswith(text)
    assert text in loud.tags["mlflow.note.content"]
    assert ("readable/toy_pairs/voting", 0.2, 1) in loud.metrics
    assert ("accuracy_readable/toy_pairs/voting", 0.7, 2) in loud.metrics
    assert quiet.content != loud.content


def test_the_settings_that_matter_are_columns(tracker: Any) -> None:
    runs = runs_of(tracker[0])
    params = runs[f"{RUN}: GRPO m"].data.params
    assert (params["policy"], params["size"]) == ("grpo", "m")
    assert params["grpo.lr"] == "0.1" and params["rollout.n_rft"] == "3"
    assert set(runs[f"{RUN}: btrm m"].data.params) == {"policy", "size", "seed"}


def test_settings_by_size(tmp_path: Path) -> None:
    make_results(tmp_path)
    settings = {"grpo.lr": 1, "m/grpo.lr": 2, "rft.epochs": 3, "grpo.nothing": 4}
    found = {child.name: child for child in curves(RUN, tmp_path / "results" / RUN, settings)}
    assert found[f"{RUN}: GRPO m"].params == {
        "policy": "grpo", "size": "m", "seed": "0", "grpo.lr": 2, "rft.epochs": 3,
    }  # fmt: skip


def test_the_saved_view_names_what_was_logged(tracker: Any) -> None:
    from mlflow import MlflowClient

    root, _ = tracker
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    saved = json.loads(experiment.tags["mlflow.sharedViewState.scaling"])
    by_k, by_flops = saved["compareRunCharts"]
    assert by_k["selectedMetricKeys"] == [
        "accuracy/toy_pairs/greedy", "accuracy/toy_pairs/voting", "accuracy/toy_pairs/scalar",
    ]  # fmt: skip
    logged = {name for run in runs_of(root).values() for name in run.data.metrics}
    assert set(by_k["selectedMetricKeys"]) <= logged
    assert by_flops["selectedXAxisMetricKey"] == "flops/toy_pairs/voting"
    found = client.search_runs([experiment.experiment_id], saved["searchFilter"])
    assert {run.info.run_name for run in found} == {
        f"{RUN}: GRPO m", f"{RUN}: btrm m", f"{RUN}: content-blind rules",
    }  # fmt: skip


def test_a_view_too_long_for_a_tag_keeps_its_first_benchmarks(tmp_path: Path) -> None:
    rows = [
        curve_row(k, 0.5) | {"benchmark": f"benchmark_with_a_long_name_{i:02d}"}
        for i in range(30)
        for k in (1, 2)
    ]
    artifact.write_csv(tmp_path / "curves.csv", COLUMNS, rows)
    text = view(tmp_path)
    charts = json.loads(text)["compareRunCharts"]
    assert len(text) <= 5000 and 4 < len(charts) < 60
    assert charts[0]["metricKey"] == "accuracy/benchmark_with_a_long_name_00/voting"
    assert view(tmp_path / "nothing") == ""


def test_stages_keep_their_tags(tracker: Any) -> None:
    root, _ = tracker
    runs = runs_of(root)
    shared = runs["select m seed 0"].data
    assert shared.metrics["ledger/rejected.x"] == 1
    assert shared.tags["spct.home"] == "tiny" and len(shared.tags["spct.slice"]) == 16
    model = root / "results" / RUN / "seed0/grpo/m"
    tags = runs["grpo m seed 0"].data.tags
    assert tags["spct.content_hash.m"] == artifact.content_hash(model)


def test_a_second_sync_changes_nothing_and_a_rerun_updates(tracker: Any) -> None:
    root, _ = tracker
    before = runs_of(root)
    assert mirror(root)["written"] == 0
    make_results(root, rise=0.2)
    told = mirror(root)
    assert told["synced"] and told["written"] == 2  # the policy's curves, and the parent's tables
    after = runs_of(root)
    assert set(after) == set(before)
    assert after[RUN].info.run_id == before[RUN].info.run_id
    curve = history(root, after[f"{RUN}: GRPO m"].info.run_id, "accuracy/toy_pairs/voting")
    assert sorted(curve) == [(1, 0.7), (2, 0.9)]
    assert len(history(root, after["grpo m seed 0"].info.run_id, "reward")) == 1200


def test_a_dead_tracker_is_said_and_waited_for_briefly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_results(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as silent:  # bound, so that nobody else can listen there
        silent.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert sync_cli(["--run", RUN]) == 0
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    told = json.loads((tmp_path / "results" / RUN / "tracked.json").read_text())
    assert told["synced"] is False and told["reason"]
    out = capsys.readouterr().out
    assert f"MLflow was not reached ({told['reason']}); later: spct sync --run" in out
    assert f"MLflow: {uri}" in out


def test_the_closing_lines_name_the_tracker_that_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = {"run": "t", "uri": "http://host:5000", "experiment": "mine", "synced": True}
    assert lines(told)[0].endswith("MLflow: http://host:5000") and len(lines(told)) == 1
    _, why = lines({**told, "synced": False, "reason": "down"})
    assert "(down); later: spct sync --run t --uri http://host:5000 --experiment mine" in why
    (tmp_path / "t").mkdir()
    assert after("t", tmp_path) == []
    for text in ("", "[]", "{"):
        (tmp_path / "t/tracked.json").write_text(text)
        assert "cannot be read" in after("t", tmp_path)[1]


def test_a_run_of_older_code_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results/t/config/run.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("experiment: tiny\noverrides: []\n")
    with pytest.raises(artifact.BrokenArtifact, match="older code; run Snakemake"):
        sync("t", results=tmp_path / "results", reports=tmp_path)


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(artifact.BrokenArtifact, match="nothing is missing"):
        sync("nothing", results=tmp_path, reports=tmp_path)
