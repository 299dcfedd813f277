"""Plans from a finished run: what is read of it, and how near such plans come to other runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from spct import artifact, provenance
from spct.artifact import BrokenArtifact
from spct.config import ConfigError
from spct.planning import assumed, cards, cli, measured
from spct.planning.assumed import Lengths
from spct.planning.cards import CARDS, Cluster
from spct.planning.measured import Rates, Use
from spct.records import Sample, write_bank
from spct.runs import Node

FOLDER = Path("results/small")
ROLLOUT, GRPO = "rollout/toy_s", "grpo/toy_s"
MEASURED = json.loads((Path(__file__).parent / "measured_uses.json").read_text())
CORE = Cluster(CARDS["cpu"], 1, 1, 0.35, 0.1)


def side(path: Path, seconds: float, **more: Any) -> None:
    told = {"seconds": seconds, "tier": "cpu", "hardware": {"cores": 8}, **more}
    artifact.write_json(provenance.beside(path), told)


def shard(place: Path, number: int, rows: list[tuple[str, list[int], str, int, int, str]]) -> Path:
    """A shard of a bank: item, order, kind, tokens of prompt and judgement, outcome."""
    path = place / f"{number}.parquet"
    write_bank(path, [sample(i, *row) for i, row in enumerate(rows)])
    return path


def sample(
    number: int, item: str, order: list[int], kind: Any, prompt: int, said: int, outcome: str
) -> Sample:
    scores, right = ([7, 3], True) if outcome == "ok" else (None, None)
    return Sample(
        item,
        kind,
        number,
        0,
        order,
        "m",
        "t",
        "",
        prompt,
        said,
        -1.0,
        "stop",
        outcome,
        scores,
        right,
    )


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of ``smoke`` by another name: two shards of rollouts, a training of two steps."""
    monkeypatch.chdir(tmp_path)
    work = [
        {"stage": name.split("/")[0], "folder": name, "home": "small", "slice": "x"}
        for name in (ROLLOUT, "select/toy_s", GRPO)
    ]
    told = {"experiment": "smoke", "overrides": [], "seeds": [0], "work": work}
    (FOLDER / "config").mkdir(parents=True)
    (FOLDER / "config/run.yaml").write_text(yaml.safe_dump(told))
    place = FOLDER / "seed0" / ROLLOUT
    same = ("a", [0, 1], "sample", 30, 10, "ok")
    first = shard(place, 0, [same, same, ("a", [1, 0], "sample", 32, 20, "malformed")])
    second = shard(
        place, 1, [("b", [0, 1], "sample", 40, 8, "ok"), ("b", [0, 1], "hinted", 46, 12, "ok")]
    )
    side(first, 3.0, peak_memory_gib=0.5)
    side(second, 4.2, peak_memory_gib=0.7)
    chosen = FOLDER / "seed0/select/toy_s"
    chosen.mkdir(parents=True)
    (chosen / "ledger.json").write_text(json.dumps({"in": 5, "kept": 2}))
    model = FOLDER / "seed0" / GRPO
    model.mkdir(parents=True)
    steps = [{"rollout_tokens": 100.0, "update_tokens": 90.0}] * 2
    (model / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    side(model, 36.0, peak_memory_gib=1.5)
    return FOLDER


def test_what_a_stage_took_is_read_from_what_it_left(small: Path) -> None:
    found = measured.read(small).uses
    rollout, grpo = found[ROLLOUT], found[GRPO]
    # a prompt once for an item, order and hint: 30 + 32 + 40 + 46, then judgements
    assert rollout.tokens == 148 + 60
    assert rollout.hours == pytest.approx(7.2 / 3600) and rollout.memory == 0.7
    assert grpo.tokens == 380 and grpo.hours == pytest.approx(0.01)
    size = sum(path.stat().st_size for path in (small / "seed0" / ROLLOUT).iterdir())
    assert rollout.disk == pytest.approx(size / 2**30)


def test_hours_are_those_of_every_gpu_or_core(small: Path) -> None:
    model = small / "seed0" / GRPO
    for hardware, tier, processes, count in [
        ({"cores": 8}, "cpu", 0, 1),
        ({"cores": 8}, "cpu_threads", 0, 8),
        ({"cores": 8, "gpus": ["H200"] * 2}, "gpu", 0, 2),
        ({"cores": 8, "gpus": ["H200"] * 8}, "gpu", 16, 16),
    ]:
        timing = {"processes": processes} if processes else {}
        (model / "timing.json").write_text(json.dumps(timing))
        side(model, 36.0, hardware=hardware, tier=tier)
        assert measured.read(small).uses[GRPO].hours == pytest.approx(0.01 * count)


def test_seeds_are_averaged_and_older_records_lack_a_peak(small: Path) -> None:
    path = small / "config/run.yaml"
    path.write_text(path.read_text().replace("- 0", "- 0\n- 1"))
    place = small / "seed1" / ROLLOUT
    side(shard(place, 0, [("a", [0, 1], "sample", 30, 22, "ok")]), 14.4)
    found = measured.read(small).uses[ROLLOUT]
    assert found.tokens == (208 + 52) / 2 and found.memory == 0.7
    assert found.hours == pytest.approx(10.8 / 3600)


def test_lengths_are_the_runs_own(small: Path) -> None:
    found = measured.lengths(measured.read(small), assumed.TOY)
    assert (found.prompt, found.completion) == (148 / 4, 60 / 5)
    assert (found.readable, found.kept) == (4 / 5, 2 / 5)
    assert found.general == assumed.TOY.general
    assert found.source.startswith("measured on small")


def test_a_rate_is_of_the_stage_and_size_else_the_stage_else_the_kind(small: Path) -> None:
    planner, rates = cli.pilot(["experiment=smoke"], "small")
    rollout = planner.work(Node("rollout", "toy_s"))
    assert rates.of(rollout) == pytest.approx(rollout.flops / 7.2)
    for node in (Node("rollout", "toy_m"), Node("judge", "toy_m", "base")):
        assert rates.of(planner.work(node)) == rates.of(rollout)
    training = rates.of(planner.work(Node("grpo", "toy_s")))
    assert rates.of(planner.work(Node("rft", "toy_m"))) == training != rates.of(rollout)
    assert Rates("none", {}).of(rollout) is None


def test_the_command_plans_from_a_run_and_holds_it_against_one(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment=smoke", "--measured", "small", "--against", "results/small"]
    assert cli.plan_cli(words) == 0
    out = capsys.readouterr().out
    assert "1 x 1 one CPU core as fast as small was" in out
    assert "lengths and shares: measured on small" in out
    assert "FLOPs a second of the same stage and size in small" in out
    table = out[out.index("Against small") :].splitlines()
    rows = {line.split()[0]: line for line in table[2:]}
    assert set(rows) == {ROLLOUT, GRPO, "in"}  # nothing else was run
    assert "0.002 / 0.002 = 1.00" in rows[ROLLOUT] and "0.01 / 0.01 = 1.00" in rows[GRPO]
    assert "/ 1.5 =" in rows["in"]


def test_a_run_with_nothing_finished_is_named(small: Path) -> None:
    for path in (small / "seed0").rglob("*made.json"):
        path.unlink()
    with pytest.raises(ConfigError, match="no finished work of results/small"):
        cli.plan_cli(["experiment=smoke", "--measured", "small"])
    with pytest.raises(ConfigError, match="nowhere is no folder, and no run below results"):
        cli.plan_cli(["experiment=smoke", "--against", "nowhere"])


def test_a_shard_that_cannot_be_read_is_named(small: Path) -> None:
    path = small / "seed0" / ROLLOUT / "1.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BrokenArtifact, match=r"rollout/toy_s/1\.parquet"):
        cli.plan_cli(["experiment=smoke", "--measured", "small"])


def test_a_run_of_other_models_is_nothing_to_compare_with(small: Path) -> None:
    with pytest.raises(ConfigError, match="small did none of this work"):
        cli.plan_cli(["experiment=deepseek_grm_27b", "--against", "small"])


# ---- how near such plans come


def uses(run: str) -> dict[str, Use]:
    return {name: Use(**use) for name, use in MEASURED["runs"][run].items()}


def pilot() -> tuple[Lengths, Rates]:
    lengths = Lengths(**MEASURED["lengths"], general=assumed.TOY.general, source="tiny")
    done = measured.Finished("tiny", None, uses("tiny"))  # type: ignore[arg-type]
    lengths = measured.with_general(lengths, done, cli.planned(["experiment=tiny"]).having(lengths))
    return lengths, measured.rates(done, cli.planned(["experiment=tiny"]).having(lengths))


# Planned farther off than a quarter, as docs/planning.md says: hours, disk, and why.
APART = {
    "tiny_baselines": (0.29, 0.94),  # critiques of cloud are left out of the plan
    "tiny_llm_judge": (0.96, 1.37),  # another answer, half as long
    "tiny_reference": (0.71, 0.97),  # longer prompts
    "tiny_sizes": (1.42, 1.00),  # GRPO of toy_l at toy_m's rate
}


def ratios(run: str) -> tuple[float, float]:
    """Planned by measured, by ``tiny``'s lengths and rates: hours of what it has not run itself,
    disk of all."""
    lengths, rates = pilot()
    planner, found = cli.planned([f"experiment={run}"]).having(lengths), uses(run)
    new = set(found) if run == "tiny" else {n for n in found if found[n] != uses("tiny").get(n)}
    hours = disk = 0.0
    for work in planner.works():
        if work.node.folder in found and work.shape:
            price = cards.cost(work, planner.run, CORE, rates.of(work))
            hours += price.gpu_hours if work.node.folder in new else 0.0
            disk += price.disk
    taken = sum(found[name].hours for name in new)
    return hours / taken, disk / sum(use.disk for use in found.values())


@pytest.mark.medium
@pytest.mark.parametrize("run", sorted(MEASURED["runs"]))
def test_a_run_is_planned_within_a_quarter_or_told_apart(run: str) -> None:
    if run in APART:
        assert ratios(run) == pytest.approx(APART[run], abs=0.006)
    else:
        assert ratios(run) == pytest.approx((1, 1), abs=0.25)


@pytest.mark.parametrize("folder", sorted(MEASURED["peaks"].keys() - {"what"}))
def test_memory_is_planned_within_a_quarter(folder: str) -> None:
    planner = cli.planned(["experiment=tiny"])
    (work,) = (work for work in planner.works() if work.node.folder == folder)
    planned = cards.cost(work, planner.run, CORE).memory
    assert planned == pytest.approx(MEASURED["peaks"][folder], rel=0.25)
