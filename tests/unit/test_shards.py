"""Shards: how items are dealt, that their number changes no row, that no kill leaves a trace."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact
from spct.artifact import BrokenArtifact
from spct.bank import plan
from spct.bank.check import check
from spct.bank.merge import merge
from spct.config import Slice
from spct.errors import ConfigError
from spct.judge.task import Judge
from spct.records import Item, read_bank, read_items, write_items
from spct.sampling import stages

# ---- the plan ----------------------------------------------------------------------------------

weights_ = st.lists(st.integers(1, 50) | st.integers(1, 10_000), max_size=80)


@given(weights_, st.integers(1, 12))
def test_cuts_partition_the_items_into_about_equal_weights(weights: list[int], shards: int) -> None:
    cuts = plan.cut(weights, shards)
    assert len(cuts) == shards + 1 and cuts[0] == 0 and cuts[-1] == len(weights)
    assert cuts == sorted(cuts)
    sums = [sum(weights[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert max(sums) <= sum(weights) / shards + max(weights, default=0)
    if len(weights) >= shards:
        assert len(set(cuts)) == shards + 1


def test_weight_not_number_is_what_shards_share() -> None:
    assert plan.cut([1] * 8, 2) == [0, 4, 8]
    assert plan.cut([90, 10, 10, 10, 10, 10, 10, 10, 10, 10], 2) == [0, 1, 10]
    assert plan.cut([10, 10, 10, 90], 2) == [0, 3, 4]


def test_a_plan_that_stands_is_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def weigh(*weights: int) -> Callable[[], list[int]]:
        def weights_of() -> list[int]:
            asked.append(len(weights))
            return list(weights)

        return weights_of

    first = plan.make(tmp_path, "h", 2, 3, weigh(1, 1, 9))
    assert first.cuts == (0, 2, 3) and first.weights == (2, 9)
    assert json.loads((tmp_path / plan.FILE).read_text())["cuts"] == [0, 2, 3]
    assert plan.make(tmp_path, "h", 2, 3, weigh(9, 1, 1)) == first and asked == [3]
    for items_hash, shards, count in (("other", 2, 3), ("h", 3, 3), ("h", 2, 4)):
        again = plan.make(tmp_path, items_hash, shards, count, weigh(*[1] * count))
        assert len(again.cuts) == shards + 1 and again.cuts[-1] == count
    assert len(asked) == 4


def test_one_shard_needs_no_plan_file(tmp_path: Path) -> None:
    assert plan.make(tmp_path, "h", 1, 7, lambda: []).range(0) == (0, 7)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shard", [-1, 3])
def test_no_such_shard(shard: int) -> None:
    with pytest.raises(ConfigError, match=rf"io\.shard: {shard} is not one of 0\.\.2"):
        plan.Plan("h", (0, 1, 2, 3), (1, 1, 1)).range(shard)


@pytest.mark.parametrize("text", ["", "[]", '{"cuts": [0, 1]}', "{"])
def test_a_broken_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / plan.FILE).write_text(text)
    with pytest.raises(BrokenArtifact, match=r"plan\.json is no plan of shards; delete"):
        plan.make(tmp_path, "h", 2, 1, lambda: [1])


def test_the_weight_of_an_item_is_the_length_of_its_prompt(
    judge: Judge, make_items: Callable[..., list[Item]]
) -> None:
    items = make_items("pair", 5)
    lengths = [len(judge.prompt(item, [1, 0])) for item in items]
    assert stages.weights(judge, items) == lengths and len(set(lengths)) > 2
    assert stages.weights(judge, []) == []


# ---- the bank ----------------------------------------------------------------------------------


@pytest.fixture
def items_file(make_items: Callable[..., list[Item]], tmp_path: Path) -> Path:
    items = make_items("pair", 8) + make_items("best_of_4", 6) + make_items("single", 3)
    write_items(tmp_path / "items.parquet", items)
    return tmp_path / "items.parquet"


@pytest.fixture
def slice_with(slice_of: Callable[..., Slice]) -> Callable[[int], Slice]:
    def make(shards: int) -> Slice:
        settings = ["bench.k_max=3", "sampler.part_samples=8", f"bench.shards={shards}"]
        return slice_of("judge", *settings)

    return make


def judge_shard(cfg: Slice, items: Path, out: Path) -> None:
    stages.judge(cfg, 3, items=items, shard=int(out.stem), policy="base", out=out)


def joined(folder: Path) -> str:
    """The content hash of all shards in one."""
    out = folder.with_suffix(".parquet")
    merge(out, sorted(folder.glob("*.parquet")))
    return artifact.content_hash(out)


def test_the_number_of_shards_changes_no_row(
    slice_with: Callable[[int], Slice], items_file: Path, tmp_path: Path
) -> None:
    found = {}
    for shards in (1, 2, 3, 7):
        folder = tmp_path / f"bank{shards}"
        for shard in reversed(range(shards)):  # workers start in any order
            judge_shard(slice_with(shards), items_file, folder / f"{shard}.parquet")
        sizes = [len(list(read_bank(path))) for path in folder.glob("*.parquet")]
        assert sum(sizes) == 17 * 4 and min(sizes) > 0
        findings = list(check([folder], items_file))
        assert [finding.state for finding in findings] == ["whole"] * shards
        found[shards] = joined(folder)
        (merged,) = check([folder.with_suffix(".parquet")], items_file)
        assert merged.state == "whole"
    assert len(set(found.values())) == 1


def test_a_manifest_names_the_items_of_its_shard(
    slice_with: Callable[[int], Slice], items_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bank" / "1.parquet"
    judge_shard(slice_with(2), items_file, out)
    manifest = artifact.read_manifest(out)
    first, end = manifest["range"]
    names = [item.id for item in read_items(items_file)]
    assert 0 < first < end == len(names)
    assert plan.expected_ids(manifest, names) == names[first:]
    assert {row.item_id for row in read_bank(out)} == set(names[first:])
    older = {name: value for name, value in manifest.items() if name != "range"}
    assert plan.expected_ids(older, names) == names[8:]


# ---- kills -------------------------------------------------------------------------------------


def calls_of(work: Callable[[], None], last: int | None = None) -> int:
    """How many Python and C functions the work calls or leaves; at number ``last`` it is killed."""
    count = 0

    def saw(*_: object) -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(saw)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def kill_until(
    cfg: Slice, items: Path, outs: list[Path], kills: int, moments: Callable[[], int]
) -> int:
    """Fill all shards by processes killed at random calls; returns how many were killed.

    As Snakemake does, what a killed process left as output is deleted before the next one runs.
    After ``kills`` of them the rest is left in peace.
    """
    fork = multiprocessing.get_context("fork")  # torch is already imported here
    killed = 0
    for out in outs:
        done = False
        while not done:
            out.unlink(missing_ok=True)
            last = moments() if killed < kills else None
            work = partial(judge_shard, cfg, items, out)
            worker = fork.Process(target=calls_of, args=(work, last))
            worker.start()
            worker.join()
            assert worker.exitcode in (0, -signal.SIGKILL)
            done = worker.exitcode == 0
            killed += not done
    return killed


def check_kills(cfg: Slice, items: Path, folder: Path, shards: int, kills: int) -> None:
    """Banks filled through ``kills`` kills in all are the bank filled without."""
    names = [f"{shard}.parquet" for shard in range(shards)]
    quiet = [partial(judge_shard, cfg, items, folder / "undisturbed" / name) for name in names]
    longest = max(map(calls_of, quiet))
    wanted, killed, rounds = joined(folder / "undisturbed"), 0, 0
    draw = np.random.default_rng(5)
    while killed < kills:
        bank = folder / f"round{rounds}"
        outs = [bank / name for name in names]
        killed += kill_until(cfg, items, outs, kills - killed, lambda: int(draw.integers(longest)))
        rounds += 1
        assert joined(bank) == wanted
        left = {path.name for path in bank.iterdir() if not path.name.startswith(".")}
        assert left == {*names, *(f"{name}.timing.json" for name in names), plan.FILE}
    assert killed == kills


@pytest.mark.medium
def test_workers_killed_at_random_leave_no_trace(
    slice_with: Callable[[int], Slice], items_file: Path, tmp_path: Path
) -> None:
    check_kills(slice_with(3), items_file, tmp_path, 3, kills=24)
