"""The smallest experiment for real: every stage, a real MLflow store, stages killed."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
import struck
from clones import ROOT, Clone, clone_to, hashes

from spct import tracking

SMOKE = ("--config", "experiments=[smoke]")
SEED = Path("results/smoke/seed0")
LONG = "3600"  # seconds that no stage takes
SECRET = "sk-never-to-be-written"
SECRETS = ("HF_TOKEN", "OPENAI_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
COLUMNS = (
    "run,seed,policy,size,benchmark,subset,method,k,k_meta,metric,accuracy,low,high,low_seeds,"
    "high_seeds,items,tokens,flops,invalid_rate,tie_rate,rerun_sd,mc_se,readable,"
    "accuracy_readable,note"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which ``smoke`` ran to its end, with secrets in the environment."""
    clone = clone_to(tmp_path_factory.mktemp("undisturbed"), weights=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRETS:
            patch.setenv(name, SECRET)
        clone.complete(*SMOKE)
    return clone


def test_the_run_leaves_figure_report_and_curves(undisturbed: Clone) -> None:
    root = undisturbed.root
    with (root / "results/smoke/curves.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert ",".join(rows[0]) == COLUMNS
    assert {row["method"] for row in rows} >= {
        "greedy", "voting", "majority", "adaptive_flip", "adaptive_sure_95",
        "meta_voting", "margin_voting", "random_voting", "oracle_voting",
        "first", "last", "longest", "shortest",
    }  # fmt: skip
    assert {(row["policy"], row["size"]) for row in rows} >= {
        ("base", "toy_s"), ("rft", "toy_s"), ("grpo", "toy_s"), ("base", "toy_m"),
    }  # fmt: skip
    assert all(
        0 <= float(row["low"]) <= float(row["accuracy"]) <= float(row["high"]) for row in rows
    )
    for name in (
        "report.html", "scaling.svg", "scaling.png", "health/health-grpo-toy_s.html",
        "training_vs_inference.svg", "compute.csv", "signals.csv",
    ):  # fmt: skip
        assert (root / "reports/smoke" / name).stat().st_size > 1000


def test_compute_is_told_of_every_trained_judge(undisturbed: Clone) -> None:
    """Logs, banks and recipes of the real stages hold what training compute follows from."""
    with (undisturbed.root / "reports/smoke/compute.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    votes = {
        (row["policy"], row["size"], row["method"]): row
        for row in rows
        if row["method"] in ("voting", "meta_voting")
    }
    spent = {key: float(row["train_flops"]) for key, row in votes.items()}
    base, rft, grpo = (spent[name, "toy_s", "voting"] for name in ("base", "rft", "grpo"))
    assert 0 == base < rft < grpo < spent["grpo", "toy_s", "meta_voting"]
    assert all(float(row["seconds"]) > 0 for row in votes.values())
    assert all(float(row["pretrain_flops"]) > 1e11 for row in votes.values())


def test_mlflow_holds_the_run_and_its_curves(undisturbed: Clone) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{undisturbed.root}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([experiment.experiment_id], max_results=200)
    keys = [run.data.tags["spct.key"] for run in runs]
    assert len(keys) == len(set(keys)) > 5
    curve = next(r for r in runs if r.data.tags["mlflow.runName"].startswith("smoke: GRPO"))
    name = next(name for name in curve.data.metrics if name.endswith("/voting"))
    steps = sorted(m.step for m in client.get_metric_history(curve.info.run_id, name))
    assert steps == [1, 2, 4]


def test_a_dry_run_after_success_is_empty(undisturbed: Clone) -> None:
    assert not undisturbed.planned(*SMOKE)


def test_one_knob_reruns_exactly_its_dependents(undisturbed: Clone) -> None:
    planned = undisturbed.planned("--config", "experiments=[smoke]", "hydra=grpo.lr=1e-4")
    untouched = {"prepare", "rollout", "select", "rft"}
    assert planned["grpo"] == 1 and not untouched & set(planned)


def test_no_secret_of_the_environment_is_in_any_file(undisturbed: Clone) -> None:
    """Results, reports, logs, Snakemake's own and MLflow's."""
    seen = [path for path in undisturbed.root.rglob("*") if path.is_file()]
    assert {"mlflow.db", "curves.csv", "grpo.yaml", "curves.csv.made.json"} <= {
        p.name for p in seen
    }
    assert not [path for path in seen if SECRET.encode() in path.read_bytes()]


@pytest.mark.medium
def test_plain_commands_give_the_same_on_a_machine_without_snakemake(
    undisturbed: Clone, tmp_path: Path
) -> None:
    """benchmarks/unrolled.py, its time up in the middle of a stage and taken up again."""
    clone = clone_to(tmp_path / "clone", weights=True)
    shutil.copytree(ROOT / "benchmarks", clone.root / "benchmarks")
    clone.run("benchmarks.unrolled", "write", "smoke")
    missing = tmp_path / "missing"
    for name in ("snakemake", "mlflow"):
        (missing / name).mkdir(parents=True)
        (missing / name / "__init__.py").write_text("raise ImportError('not on this machine')")
    clone.path = (missing,)
    steps = json.loads((clone.root / "results/smoke/commands.json").read_text())
    walk = ("benchmarks.unrolled", "walk", "results/smoke/commands.json")
    early = clone.run(*walk, "--only", "prepare|rollout", "--limit", LONG)
    assert "s  made" in early and "failed" not in early and "not asked for" in early
    cut = clone.run(*walk, "--limit", "0.5")  # no stage is as quick
    assert "out of time" in cut and "no time" in cut and "failed" not in cut
    home = tmp_path / "home"
    text = clone.run(*walk, "--limit", LONG, "--pack", str(home))
    assert f"{len(steps)} of {len(steps)} stages finished" in text and "was there" in text
    assert hashes(clone.root) == hashes(undisturbed.root)
    packed: list[str] = []
    for part in home.iterdir():
        with tarfile.open(part) as archive:
            packed += archive.getnames()
    assert {"results/smoke/curves.csv", "reports/smoke/scaling.svg"} <= set(packed)
    assert not [name for name in packed if name.endswith(".safetensors")]


@pytest.mark.medium
def test_every_number_verifies_elsewhere(undisturbed: Clone, tmp_path: Path) -> None:
    file = tmp_path / "smoke.tar"
    undisturbed.run("spct", "archive", "smoke", str(file))
    undisturbed.run("spct", "unpack", str(file), str(tmp_path / "there"))
    text = undisturbed.run("spct", "verify", str(tmp_path / "there/results/smoke"))
    assert "0 stale; 0 broken; 1 runs' numbers derived again" in text


def test_every_stage_tells_how_it_was_made_and_stands(undisturbed: Clone) -> None:
    """A touched input of the same content reruns nothing, and is told."""
    items = undisturbed.root / SEED / "data/train.parquet"
    for path in (items, items.with_name("bench.parquet")):
        told = json.loads(path.with_name(f"{path.name}.made.json").read_text())
        assert told["stage"] == "prepare" and told["ledger"]["in"] > 0
    model = json.loads((undisturbed.root / SEED / "grpo/toy_s/made.json").read_text())
    assert model["inputs"].keys() == {"items", "init"} and model["tier"] == "cpu"
    items.touch()
    text = undisturbed.run("spct", "explain", "smoke", "grpo")
    assert "grpo/toy_s: stands" in text
    assert f"{items.relative_to(undisturbed.root)} is newer, its content the same" in text
    assert not undisturbed.planned(*SMOKE)


@pytest.mark.medium
def test_banks_are_whole_and_a_point_of_a_curve_is_traced_to_them(undisturbed: Clone) -> None:
    assert "broken" not in undisturbed.run("spct", "bank", "check", "results/smoke/seed0")
    text = undisturbed.run(
        "spct", "trace", "results/smoke/curves.csv", "policy=grpo", "method=meta_voting",
        "benchmark=toy_pairs", "k=2", "seed=0",
    )  # fmt: skip
    for path in ("score/grpo-toy_s/0.parquet", "grpo/toy_s", "metarm/toy_s", "config/curves.yaml"):
        assert path in text, text
    shown = undisturbed.run(
        "spct", "bank", "show", f"{SEED}/judge/grpo-toy_s/0.parquet", "n=1", "outcome=ok"
    )
    assert "<judge>" in shown and "Scores: " in shown


def test_a_truncated_artefact_is_named(undisturbed: Clone, tmp_path: Path) -> None:
    whole = (undisturbed.root / SEED / "data/train.parquet").read_bytes()
    broken = tmp_path / "train.parquet"
    broken.write_bytes(whole[: len(whole) // 2])
    text = undisturbed.run(
        "spct", "rollout", "--config", "results/smoke/config/toy_s/rollout.yaml",
        f"io.items={broken}", "io.shard=0", f"io.out={tmp_path}/out.parquet", ok=False,
    )  # fmt: skip
    assert f"{broken} is truncated" in text and "Traceback" not in text
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.medium
def test_only_a_broken_shard_is_sampled_again(undisturbed: Clone) -> None:
    """Runs before the comparison of hashes with a disturbed run, which sees what it left."""
    before = hashes(undisturbed.root)
    broken = SEED / "judge/base-toy_m/0.parquet"
    path = undisturbed.root / broken
    path.write_bytes(path.read_bytes()[:-100])
    told = undisturbed.run("spct", "bank", "check", str(SEED), "--drop", ok=False)
    assert not path.exists() and told.count("removed") == 1
    (command,) = [line for line in told.splitlines() if "snakemake --cores all" in line]
    words = shlex.split(command[command.index("snakemake") :])[1:]
    plan = undisturbed.planned(*words)
    assert plan == {"judge": 1, "curves": 1, "health": 1, "report": 1, "track": 1}
    undisturbed.snakemake(*words)
    assert hashes(undisturbed.root) == before


# ---- killed on the way -------------------------------------------------------------------------

# For each job: which of the files that it begins to put in their place is never put there. The
# first rollout has kept a part, GRPO a state.
KILLS = {
    f"rollout {SEED}/rollout/toy_s/0.parquet": struck.Blow(1, ".parts/1.parquet"),
    f"judge {SEED}/judge/base-toy_m/0.parquet": struck.Blow(1),
    f"rft {SEED}/rft/toy_s": struck.Blow(1),
    f"grpo {SEED}/grpo/toy_s": struck.Blow(2, "state-"),
    f"metarm {SEED}/metarm/toy_s": struck.Blow(1, snakemake=True),  # the stage lives on
    "curves results/smoke/curves.csv": struck.Blow(1),
    "sync results/smoke/tracked.json": struck.Blow(1),
}


@pytest.fixture(scope="module")
def disturbed(undisturbed: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which stages and Snakemake were killed; test_kill_anywhere.py kills more."""
    folder = tmp_path_factory.mktemp("disturbed")
    clone = clone_to(folder / "clone", weights=True)
    struck.prepare(folder / "blows", KILLS)
    clone.path = (folder / "blows",)
    words = ("snakemake", "--cores", "2", "--retries", "1", *SMOKE)
    with (folder / "log").open("w+") as log:
        assert clone.start(*words, to=log).wait() == -signal.SIGKILL, log.seek(0) or log.read()
        assert clone.start("spct", "resume", to=log).wait() == 0, log.seek(0) or log.read()
    assert struck.left(folder / "blows") == []
    return clone


@pytest.mark.medium
def test_a_killed_run_ends_with_the_hashes_of_an_undisturbed_one(
    undisturbed: Clone, disturbed: Clone
) -> None:
    assert hashes(disturbed.root) == hashes(undisturbed.root)
    curves = "results/smoke/curves.csv"
    assert (disturbed.root / curves).read_text() == (undisturbed.root / curves).read_text()


@pytest.mark.medium
def test_the_sampler_went_on_from_its_parts(disturbed: Clone) -> None:
    log = (disturbed.root / "logs/smoke/seed0/rollout/toy_s/0.log").read_text()
    assert "part 0 stands" in log


@pytest.mark.medium
def test_grpo_went_on_from_its_checkpoint(disturbed: Clone) -> None:
    path = disturbed.root / SEED / "grpo/toy_s/metrics.jsonl"
    steps = [entry["step"] for entry in tracking.read_metrics(path)]
    assert steps == sorted(set(steps)) == list(range(10))
    log = (disturbed.root / "logs/smoke/seed0/grpo/toy_s.log").read_text()
    assert "continues from step" in log
