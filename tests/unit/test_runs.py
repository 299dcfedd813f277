"""Names of runs, and where shared work lives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from spct.config import ConfigError, Slice
from spct.judge import prompts
from spct.names import normalise, run_name
from spct.runs import Node, Runs

MAIN = "toy_m"


def homes(runs: Runs, run: str) -> dict[Node, str]:
    return {node: runs.home(run, node) for node in runs.work(run)}


def own(runs: Runs, run: str) -> set[str]:
    """Stages of which the run computes something itself."""
    return {node.stage for node, home in homes(runs, run).items() if home == run}


def test_plain_runs_have_the_experiments_name() -> None:
    assert Runs("tiny").targets == ["tiny"]
    assert Runs(["tiny", "tiny_no_kl", "tiny"]).targets == ["tiny", "tiny_no_kl"]


def test_the_order_of_overrides_does_not_matter_and_the_last_value_wins() -> None:
    one = Runs("tiny", "grpo.lr=1e-5 scaling.ks=[1,4,16]").targets
    two = Runs("tiny", "scaling.ks=[1,4,16] grpo.lr=3 grpo.lr=1e-5").targets
    assert one == two
    assert one[0].startswith("tiny@grpo.lr=1e-5-scaling.ks=1-4-16-")


def test_names_are_safe_in_paths_and_differ_with_the_text() -> None:
    name = run_name("tiny", normalise("report.title='A b/c: (d)' grpo.lr=1"))
    assert not set(name) & set(" /:()'[]")
    assert name != run_name("tiny", normalise("report.title='A b/c; (d)' grpo.lr=1"))
    assert len(run_name("tiny", tuple(f"grpo.k{i}={i}" for i in range(99)))) < 80


def test_tracking_gives_no_run_of_its_own() -> None:
    assert Runs("tiny", "tracking.uri=http://localhost:5000").targets == ["tiny"]


def test_a_model_override_picks_the_main_size() -> None:
    runs = Runs("tiny", "model=toy_l")
    assert runs.runs[runs.targets[0]].cfg.plan.main == "toy_l"
    assert runs.targets == Runs("tiny", "plan.main=toy_l").targets


def test_experiments_are_not_chosen_by_override() -> None:
    with pytest.raises(ConfigError, match="experiments="):
        Runs("tiny", "experiment=smoke")


@pytest.mark.parametrize(
    ("experiments", "overrides", "message"),
    [
        (["tiny", "nope"], "", "experiment 'nope': .*experiment/nope"),
        (["tiny"], "grpo.lrr=1", "experiment 'tiny': grpo.lrr: no such key"),
        (["tiny"], "plan.sizes=[toy_q]", "experiment 'tiny': .*model/toy_q"),
        (["sweep/none"], "", "sweep/none: no such sweep; there are sweep/"),
    ],
)
def test_every_experiment_is_checked_at_once(
    experiments: list[str], overrides: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Runs(experiments, overrides)


def test_a_base_that_leads_back_is_named(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import shutil

    from spct.config import conf_dir

    conf = tmp_path / "conf"
    shutil.copytree(conf_dir(), conf)
    (conf / "experiment" / "ring.yaml").write_text("# @package _global_\nbase: ring\n")
    monkeypatch.setenv("SPCT_CONF", str(conf))
    with pytest.raises(ConfigError, match="'ring'.*leads back"):
        Runs("ring")


@pytest.mark.parametrize(
    ("experiment", "computes"),
    [
        ("tiny_no_kl", {"grpo", "judge"}),
        ("tiny_no_hint", {"select", "rft", "grpo", "judge"}),
        ("tiny_no_principles", {"rollout", "select", "rft", "grpo", "judge"}),
        ("tiny_no_grpo", {"rollout_policy", "metarm", "score"}),
        ("tiny_no_rft", {"grpo", "judge"}),
        ("tiny_rft_matched", {"rollout", "select", "rft", "judge"}),
        ("tiny_pair_input", {"recast", "judge"}),
        ("tiny_seeds", set()),
    ],
)
def test_an_ablation_computes_only_what_differs(experiment: str, computes: set[str]) -> None:
    runs = Runs(experiment)
    assert own(runs, experiment) == computes
    shared = set(homes(runs, experiment).values()) - {experiment}
    assert shared == {"tiny"}


def test_judging_is_shared_policy_by_policy() -> None:
    runs = Runs("tiny_drop_easy")
    assert runs.home("tiny_drop_easy", Node("judge", MAIN, "rft")) == "tiny"
    assert runs.home("tiny_drop_easy", Node("judge", MAIN, "grpo")) == "tiny_drop_easy"


def test_an_overridden_run_shares_with_its_experiment() -> None:
    runs = Runs("tiny_drop_easy", "metarm.epochs=2")
    (run,) = runs.targets
    chain = runs.runs[run].chain
    assert chain == ("tiny", "tiny_drop_easy", run.replace("tiny_drop_easy", "tiny"), run)
    assert runs.home(run, Node("rft", MAIN)) == "tiny"
    assert runs.home(run, Node("grpo", MAIN)) == "tiny_drop_easy"
    assert own(runs, run) == {"metarm", "score"}


def test_without_rft_grpo_starts_from_the_base() -> None:
    runs = Runs(["tiny", "tiny_no_rft"])
    assert runs.start("tiny_no_rft") == "base"
    assert runs.init("tiny_no_rft", 0, runs.start("tiny_no_rft"), MAIN) == []
    assert runs.init("tiny", 0, runs.start("tiny"), MAIN) == [f"results/tiny/seed0/rft/{MAIN}"]


def test_a_sweep_is_one_run_per_value() -> None:
    runs = Runs("sweep/kl_grid")
    assert len(runs.targets) > 2
    assert all(name.startswith("tiny@grpo.kl_coef=") for name in runs.targets)
    assert {runs.home(name, Node("rft", MAIN)) for name in runs.targets} == {"tiny"}


def test_shards_and_the_guided_bank_are_listed() -> None:
    runs = Runs("tiny", "bench.shards=2 plan.sizes=[] plan.guided=[grpo]")
    (run,) = runs.targets
    banks = runs.collect(run)["banks"]
    assert len(banks) == 6
    assert [path for path in banks if "/score/" in path] == [
        f"results/{run}/seed0/score/grpo-{MAIN}/{shard}.parquet" for shard in (0, 1)
    ]
    assert len(runs.metarm_banks(run, 0)) == 2


def test_every_seed_is_collected() -> None:
    lists = Runs("tiny_seeds").collect("tiny_seeds")
    assert [path.split("/")[2] for path in lists["items"]] == ["seed0", "seed1", "seed2"]
    assert len(lists["banks"]) == len(set(lists["banks"])) == 3 * 7


def test_a_frozen_slice_holds_what_its_stage_reads() -> None:
    runs = Runs("tiny", "grpo.lr=1e-5")
    (run,) = runs.targets
    assert "lr: 1.0e-05" in runs.frozen(run, f"{MAIN}/grpo")
    assert "grpo" not in runs.frozen(run, "curves")
    assert "grpo.lr=1e-5" in runs.frozen(run, "run")
    assert "name: toy_l" in runs.frozen(run, "toy_l/judge")


def test_siblings_with_one_override_share_what_it_makes_equal() -> None:
    runs = Runs(["tiny", "tiny_no_kl"], "rollout.n_rft=5")
    tiny, no_kl = runs.targets
    for stage in ("rollout", "select", "rft"):
        assert runs.home(no_kl, Node(stage, MAIN)) == runs.home(tiny, Node(stage, MAIN)) == tiny
    assert runs.home(tiny, Node("judge", MAIN, "base")) == "tiny"
    assert runs.home(no_kl, Node("grpo", MAIN)) == no_kl


def test_a_home_is_its_own_home() -> None:
    runs = Runs(["tiny", "tiny_no_kl", "tiny_seeds", "tiny_no_hint"], "rollout.n_rft=5")
    for run in runs.targets:
        for node, home in homes(runs, run).items():
            assert runs.home(home, node) == home


def test_an_override_that_only_the_ablation_takes_is_no_mistake() -> None:
    runs = Runs("tiny_no_grpo", "sampler.top_p=0.9")
    (run,) = runs.targets
    assert runs.runs[run].chain == ("tiny", "tiny_no_grpo", run)


def test_the_tracker_is_passed_on_for_every_target() -> None:
    runs = Runs(["tiny_no_kl", "tiny"], "tracking.uri=http://host tracking.experiment=mine")
    for run in runs.targets:
        assert runs.tracking(run) == ["--uri", "http://host", "--experiment", "mine"]


def test_a_run_writes_down_where_its_work_lies() -> None:
    runs = Runs("tiny_seeds", "tracking.uri=elsewhere")
    raw = yaml.safe_load(runs.frozen("tiny_seeds", "run"))
    assert (raw["experiment"], raw["base"], raw["seeds"]) == ("tiny_seeds", "tiny", [0, 1, 2])
    assert raw["overrides"] == []
    entries = {(entry["folder"], entry["home"], entry["slice"]) for entry in raw["work"]}
    assert ("data", "tiny", "prepare") in entries
    assert (f"select/{MAIN}", "tiny", "select") in entries
    assert (f"score/grpo-{MAIN}", "tiny", "toy_l/score") in entries


def test_an_own_template_is_an_input_and_its_content_is_in_the_slice(tmp_path: Path) -> None:
    assert Runs("tiny").template("tiny", MAIN) == []
    path = tmp_path / "mine.jinja"
    shutil.copy(prompts.path("toy.jinja"), path)

    def frozen() -> str:
        runs = Runs("tiny", f"judge.template={path}")
        (run,) = runs.targets
        assert runs.template(run, MAIN) == [str(path)]
        assert "template_hash" not in runs.frozen(run, "select")
        return runs.frozen(run, f"{MAIN}/grpo")

    before = frozen()
    (tmp_path / "grpo.yaml").write_text(before)
    assert Slice.read(tmp_path / "grpo.yaml", "grpo").judge.template == str(path)
    assert frozen() == before
    path.write_text(path.read_text() + " ")
    assert frozen() != before


def test_a_weak_model_filters_what_grpo_learns_from() -> None:
    runs = Runs(["tiny", "tiny_drop_easy"])
    plain, filtered = runs.targets
    assert runs.rl_items(plain, 0) == "results/tiny/seed0/data/train.parquet"
    assert runs.rl_items(filtered, 0) == f"results/{filtered}/seed0/difficulty/train.parquet"
    # the weak model's own bank is tiny's; what is behind GRPO is the run's own
    assert runs.weak_bank(filtered, 0) == ["results/tiny/seed0/rollout/toy_s/0.parquet"]
    assert {"difficulty", "grpo"} <= own(runs, filtered)
    assert own(runs, filtered).isdisjoint({"prepare", "rollout", "select", "rft"})
    ledger = f"results/{filtered}/seed0/difficulty/ledger.json"
    assert ledger in runs.collect(filtered)["ledgers"]


def test_the_weak_model_must_be_sampled_often_enough() -> None:
    with pytest.raises(ConfigError, match="difficulty.n: 4 is not from 1 to rollout.n_rft, 3"):
        Runs("tiny_drop_easy", "difficulty.n=4")


@pytest.mark.parametrize("size", ["toy_s", "toy_m", "toy_l"])
def test_the_meta_rm_starts_from_any_size(size: str) -> None:
    """Its fit and its scores are composed with that size, whatever the judge's own."""
    (run,) = (runs := Runs("tiny", f"plan.metarm={size}")).targets
    assert runs.metarm(run, 0).endswith(f"metarm/{size}")
    assert runs.slice(run, "metarm", size)["model"]["name"] == size
    score = Node("score", MAIN, "grpo")
    assert runs.slice_path(run, score).endswith(f"config/{size}/score.yaml")


def test_every_size_goes_through_grpo_and_shares_the_rest() -> None:
    runs = Runs("tiny_sizes")
    trained = [node for node in runs.work("tiny_sizes") if node.stage == "grpo"]
    assert sorted(node.size for node in trained) == ["toy_l", "toy_m", "toy_s"]
    assert set(homes(runs, "tiny_sizes").values()) == {"tiny"}


def test_curves_know_what_training_sampled_and_the_bases() -> None:
    runs = Runs("tiny")
    found = runs.collect("tiny")["rollouts"]
    assert sorted(found) == [
        "results/tiny/seed0/rollout/toy_l/0.parquet",
        "results/tiny/seed0/rollout/toy_m/0.parquet",
        "results/tiny/seed0/rollout/toy_s/0.parquet",
        "results/tiny/seed0/rollout_policy/toy_m/0.parquet",
    ]
    assert [Path(path).name for path in runs.bases("tiny")] == ["toy_m", "toy_s", "toy_l"]
