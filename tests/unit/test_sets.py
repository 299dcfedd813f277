"""Sets of runs: what their files say, which runs they stand for, what those share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from spct import sets
from spct.config import ConfigError, Slice, conf_dir
from spct.names import expand
from spct.nodes import Node
from spct.paper import members
from spct.paper.data import claims, tables
from spct.runs import Runs

TINY = "paper_tables_tiny"
FEW = ("grm", "llm_judge", "sizes", "kl_0", "kl_0.02", "pair_input")  # to be quick


def write(conf: Path, **changes: object) -> None:
    """The set ``mine``: that of the toy world with some of its keys changed."""
    raw = yaml.safe_load((conf / "set" / f"{TINY}.yaml").read_text())
    (conf / "set" / "mine.yaml").write_text(yaml.safe_dump({**raw, **changes}, sort_keys=False))


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A conf folder to write a set into."""
    folder = tmp_path_factory.mktemp("sets") / "conf"
    shutil.copytree(conf_dir(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPCT_CONF", str(folder))
        yield folder


@pytest.fixture(scope="module")
def runs(conf: Path) -> Runs:
    """The runs of a few roles of the toy world's set."""
    raw = yaml.safe_load((conf / "set" / f"{TINY}.yaml").read_text())
    write(conf, runs={role: raw["runs"][role] for role in FEW})
    return Runs("mine")


def test_a_set_stands_for_its_runs(runs: Runs) -> None:
    found = sets.read("mine")
    assert found is not None and len(found.members) == len(runs.targets) == len(expand("mine"))
    by_role = dict(zip((m.role for m in found.members), runs.sets["mine"][1], strict=True))
    assert tuple(by_role) == FEW
    assert by_role["grm"] == "tiny" and by_role["kl_0"] == "tiny_no_kl"
    assert by_role["kl_0.02"].startswith("tiny_ablation@grpo.kl_coef=0.02")
    assert sets.read("tiny") is None


def test_a_set_names_experiments_that_there_are(conf: Path) -> None:
    for path in (conf / "set").glob("paper_*.yaml"):
        found = sets.read(path.stem)
        assert found is not None
        for member in found.members:
            assert (conf / "experiment" / f"{member.experiment}.yaml").is_file(), member.role


def test_every_number_of_the_paper_has_a_role_of_the_set(conf: Path) -> None:
    found = sets.read(TINY)
    assert found is not None
    asked = {ref for table in tables() for ref in table.refs}
    asked |= {ref for claim in claims() for _, ref in claim.terms}
    assert {ref.role for ref in asked} == {member.role for member in found.members}
    assert {ref.size for ref in asked} == set(found.sizes)


def test_upstream_work_is_done_once(runs: Runs) -> None:
    """Where each piece of work of all runs lives, and so how many jobs the set has."""
    done = {(runs.home(run, node), node) for run in runs.targets for node in runs.work(run)}
    by_stage = {stage: sum(n.stage == stage for _, n in done) for stage in ("prepare", "metarm")}
    assert by_stage == {"prepare": 2, "metarm": 1}  # the pairwise judge has data of its own
    for run in runs.targets:
        if run.startswith(("tiny_no_kl", "tiny_ablation")):
            for stage in ("rollout", "select", "rft"):
                assert runs.home(run, Node(stage, "toy_m")) == "tiny"
    lives = [node for home, node in done if home == "tiny"]
    # Three policies of three sizes: the set's run of sizes finds its RL where tiny would have it.
    assert sum(node.stage == "judge" for node in lives) == 9
    assert sum(node.stage == "grpo" for node in lives) == 3


def test_a_judge_of_other_items_shares_the_policy(runs: Runs) -> None:
    run = "tiny_pair_input"
    assert runs.home(run, Node("grpo", "toy_m")) == "tiny"
    assert runs.collect(run)["items"] == [f"results/{run}/seed0/recast/bench.parquet"]
    assert runs.bench("tiny", 0) == "results/tiny/seed0/data/bench.parquet"
    assert runs.upstream(run, Node("judge", "toy_m", "grpo"))[0] == Node("recast")


def test_the_stage_is_told_all_files_that_the_rule_waits_for(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text(runs.frozen("mine", "set"))
    found = members.read(tmp_path / "set.yaml")
    inputs = set(runs.set_inputs("mine"))
    told = [[*m.items, *m.banks, *m.scores, m.curves] for m in found.by_role.values()]
    assert {str(path) for paths in told for path in paths} == inputs
    assert found.main.run == "tiny" and found.seeds == [0]
    (tmp_path / "paper.yaml").write_text(runs.frozen("mine", "paper"))
    assert Slice.read(tmp_path / "paper.yaml", "paper").scaling.bootstrap == 1000


def test_overrides_make_another_set_of_other_runs(conf: Path) -> None:
    runs = Runs("paper_tables_smoke", "grpo.lr=1e-4")
    (name,) = runs.sets
    assert name.startswith("paper_tables_smoke@grpo.lr=1e-4")
    assert all("grpo.lr=1e-4" in run for run in runs.sets[name][1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "x"}, "no such key 'titel'"),
        ({"reference": "gmr"}, "reference: 'gmr' is none of runs"),
        ({"sizes": {"small": "toy_s"}}, "sizes: main is missing"),
        ({"runs": {"grm": {"experiment": "tiny"}}}, "runs.grm: label is missing"),
        ({"runs": {"grm": {"experiment": "nope", "label": "x"}}}, "experiment 'nope'"),
    ],
)
def test_a_wrong_set_is_named(conf: Path, changes: dict, message: str) -> None:
    write(conf, **changes)
    with pytest.raises(ConfigError, match=message):
        Runs("mine")


def test_a_number_of_another_form_is_refused() -> None:
    assert str(members.Ref.parse("sizes rft/small voting@8")) == "sizes rft/small voting@8"
    assert members.Ref.parse("grm grpo meta_voting@32:8").k_meta == 8
    with pytest.raises(ConfigError, match="'grm greedy' is not of the form"):
        members.Ref.parse("grm greedy")


def test_only_policies_that_there_are_can_be_judged() -> None:
    with pytest.raises(ConfigError, match="plan.judged: grpo is not of plan.policies"):
        Runs("tiny_rft_matched", "plan.judged=[grpo]")
