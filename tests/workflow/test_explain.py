"""``spct explain`` says of every stage what Snakemake's own dry run says of it, and why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone

from spct import config
from spct.config import ConfigError
from spct.explain import WHOLE, Explainer, asked, changes, explain_cli, named
from spct.runs import Node

SMOKE = ("--config", "experiments=[smoke]")


@pytest.fixture
def smoke(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    """The finished clone as the working folder; its configuration is put back afterwards."""
    monkeypatch.chdir(finished.root)
    shutil.copytree("conf", "kept")
    yield finished
    shutil.rmtree("conf")
    Path("kept").rename("conf")


def explained(run: str = "smoke") -> dict[str, list[str]]:
    """By stage, why some of its work runs again."""
    config._load.cache_clear()
    explainer = Explainer(asked(run), run)
    found: dict[str, list[str]] = {}
    for node in (*explainer.runs.work(run), *map(Node, WHOLE)):
        why = [str(reason) for reason in explainer.reasons(node, 0) if reason.reruns]
        if why:
            found.setdefault(node.stage, []).extend(why)
    return found


def agrees(clone: Clone) -> dict[str, list[str]]:
    """What is explained, once it names just the stages that Snakemake would run."""
    found = explained()
    assert set(found) == set(clone.planned(*SMOKE)) - {"freeze", "track"}
    return found


@pytest.mark.medium
def test_after_success_everything_stands(smoke: Clone, capsys: pytest.CaptureFixture[str]) -> None:
    assert not agrees(smoke)
    assert explain_cli(["smoke", "judge/grpo-toy_s"]) == 0
    assert capsys.readouterr().out.startswith("smoke seed 0 judge/grpo-toy_s: stands\n")


@pytest.mark.medium
def test_a_changed_key_is_named_and_what_follows_from_it(smoke: Clone) -> None:
    smoke.edit("conf/grpo/default.yaml", "kl_coef: 0.08", "kl_coef: 0.02")
    found = agrees(smoke)
    assert found["grpo"] == ["grpo.kl_coef: was 0.08, is 0.02"]
    first = "grpo/toy_s runs again first: grpo.kl_coef: was 0.08, is 0.02"
    assert found["rollout_policy"] == [first]
    assert "rft" not in found and any(first in why for why in found["report"])


@pytest.mark.medium
def test_another_run_shares_what_is_equal(smoke: Clone) -> None:
    """Of an override nothing is there but what it shares with the plain run."""
    text = Path("conf/experiment/smoke.yaml").read_text().replace('base: ""', "base: smoke")
    Path("conf/experiment/other.yaml").write_text(text.replace("steps: 10", "steps: 9"))
    found = explained("other")
    assert "results/other/seed0/grpo/toy_s is missing" in found["grpo"]
    assert not {"prepare", "rollout", "select", "rft"} & set(found)


@pytest.mark.medium
def test_names_that_are_none_are_told(smoke: Clone) -> None:
    runs = asked("smoke")
    assert [node.folder for node in named(runs, "smoke", "rft")] == ["rft/toy_s"]
    with pytest.raises(ConfigError, match="smoke has no grpo/toy_x; it has grpo/toy_s"):
        named(runs, "smoke", "grpo/toy_x")
    with pytest.raises(ConfigError, match="no stage 'grpoo'"):
        explain_cli(["smoke", "grpoo"])


def test_differences_are_told_key_by_key() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "gone": 0}
    new = {"a": {"b": 1, "c": [1]}, "new": None}
    assert list(changes(old, new)) == [
        "a.c: was [1, 2], is [1]",
        "gone: was 0, is not there",
        "new: was not there, is None",
    ]


@pytest.mark.medium
def test_a_lost_output_and_a_newer_input_are_named(smoke: Clone) -> None:
    Path("results/smoke/health.csv").unlink()
    rows = Path("results/smoke/seed0/select/toy_s/rft.parquet")
    rows.write_text("others")  # the stubs' outputs say the same each time
    found = agrees(smoke)
    assert found["health"][0] == "results/smoke/health.csv is missing"
    assert found["rft"] == [f"{rows} is newer"] and "select" not in found
    smoke.complete(*SMOKE)
