"""A sampler in a process of its own: the same numbers, and an end that is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from grpo_world import World, result
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE

from spct import config, lm
from spct.artifact import BrokenArtifact
from spct.errors import ConfigError, StageStopped
from spct.records import Item
from spct.sampling import apart
from spct.sampling.apart import ApartSampler, layout, own_gpu
from spct.sampling.base import Request, build
from spct.sampling.refresh import check_versions, refresh
from spct.schema import Config

APART = "grpo.colocate=false"
LAG = ("grpo.rollout_lag=1", "grpo.importance_cap=2.0")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, talker_folder: Path,
    make_items: Callable[..., list[Item]],
) -> World:  # fmt: skip
    torch.set_num_threads(1)
    return World(tmp_path_factory.mktemp("runs"), talker_folder, make_items("pair", 4))


@pytest.fixture(scope="module")
def cfg(world: World) -> Config:
    return config.load(world.words())


@pytest.fixture
def sampler(cfg: Config) -> Iterator[ApartSampler]:
    made = ApartSampler(cfg.model, "", cfg.sampler)
    yield made
    apart._end(made._connection, made._process)


def ask(count: int = 6) -> list[Request]:
    return [Request((5, 6, 7, 8 + i), 100 + i, 1.0) for i in range(count)]


# ---- the same numbers --------------------------------------------------------------------------


@pytest.mark.medium
@pytest.mark.parametrize("others", [(), LAG], ids=["", "lag"])
def test_grpo_is_the_same_bit_for_bit(world: World, others: tuple[str, ...]) -> None:
    together, alone = world(f"one {others}", *others), world(f"two {others}", APART, *others)
    assert result(alone) == result(together)


@pytest.mark.medium
def test_another_engine_learns_from_the_same_texts(world: World) -> None:
    """Its log-probs may differ in the last bits from process to process."""
    hf = "sampler.engine=hf"
    together, alone = result(world("one hf", hf)), result(world("two hf", APART, hf))
    for name in ("samples.jsonl", "model.safetensors"):
        assert alone[name] == together[name]


@pytest.mark.medium
def test_it_follows_the_weights(sampler: ApartSampler, cfg: Config) -> None:
    policy = lm.load(cfg.model)
    here = build(policy, cfg.sampler)
    with pytest.raises(StageStopped, match="6 of version None"):
        check_versions(sampler, sampler.sample(ask()), 0)
    seen = []
    for version in range(3):
        with torch.no_grad():
            for value in policy.model.parameters():
                value *= 1 + 0.1 * version
        refresh(sampler, policy, version)
        found = sampler.sample(ask())
        check_versions(sampler, found, version)
        assert [c.ids for c in found] == [c.ids for c in here.sample(ask())]
        seen.append([c.logprobs for c in found])
    assert seen[0] != seen[1] != seen[2]


@pytest.mark.medium
def test_one_version_is_sent_once(sampler: ApartSampler, cfg: Config) -> None:
    policy = lm.load(cfg.model)
    refresh(sampler, policy, 4)
    sampler.refresh(iter(()), 4)  # would be refused if it were read
    check_versions(sampler, sampler.sample(ask()), 4)


KINDS = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int8])
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(st.lists(st.tuples(SHAPES, KINDS), max_size=6))
def test_weights_lie_side_by_side(kinds: list[tuple[tuple[int, ...], torch.dtype]]) -> None:
    weights = {
        f"w{i}": torch.full(shape, i + 1, dtype=kind) for i, (shape, kind) in enumerate(kinds)
    }
    places, size = layout(weights)
    memory = torch.zeros(size, dtype=torch.uint8)
    for name, value in weights.items():
        places[name].of(memory).copy_(value)
    for name, value in weights.items():
        assert torch.equal(places[name].of(memory), value)


# ---- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.medium
def test_weights_of_other_names_are_an_error(sampler: ApartSampler, cfg: Config) -> None:
    policy = lm.load(cfg.model)
    some = dict(list(policy.model.named_parameters())[1:])
    with pytest.raises(StageStopped, match="no new weights for"):
        sampler.refresh(some.items(), 1)
    assert sampler.version is None


@pytest.mark.medium
def test_a_killed_one_stops_the_stage_and_a_rerun_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = world("straight", APART)
    made: list[ApartSampler] = []
    taken, start = ApartSampler.refresh, ApartSampler.__init__

    def starts(self: ApartSampler, *args: Any) -> None:
        start(self, *args)
        made.append(self)

    def refreshed(self: ApartSampler, weights: Any, version: int) -> None:
        taken(self, weights, version)
        if version == 2:
            os.kill(self._process.pid or 0, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(ApartSampler, "__init__", starts)
        patch.setattr(ApartSampler, "refresh", refreshed)
        with pytest.raises(StageStopped, match=r"sampler's process \(sample\) ended by signal 9"):
            world("killed", APART)
    assert not made[0]._process.is_alive() and not (world.folder / "killed").exists()
    assert result(world("killed", APART)) == result(straight)


@pytest.mark.medium
def test_it_leaves_sigterm_to_the_trainer(sampler: ApartSampler) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(sampler._process.pid or 0, number)
    assert len(sampler.sample(ask())) == 6


@pytest.mark.medium
def test_it_ends_with_the_process_that_started_it(world: World, tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        from spct import config
        from spct.sampling.apart import ApartSampler
        if __name__ == "__main__":
            cfg = config.load({world.words()!r})
            sampler = ApartSampler(cfg.model, "", cfg.sampler)
            print(sampler._process.pid, flush=True)
            time.sleep(3600)
        """)
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    trainer = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env)
    assert trainer.stdout is not None
    other = psutil.Process(int(trainer.stdout.readline()))
    trainer.kill()
    trainer.communicate()
    deadline = time.monotonic() + PATIENCE
    while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the sampler outlived its trainer"
        time.sleep(0.1)


@pytest.mark.medium
def test_an_engine_that_does_not_start_says_why(cfg: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes over no weights"):
        ApartSampler(cfg.model, "", replace(cfg.sampler, engine="openai"))
    with pytest.raises(BrokenArtifact, match=rf"process \(starting\): {tmp_path}/nothing is no"):
        ApartSampler(cfg.model, str(tmp_path / "nothing"), cfg.sampler)


@pytest.mark.medium
def test_too_little_shared_memory_is_told_before_it_is_used(
    sampler: ApartSampler, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = lm.load(cfg.model)
    with monkeypatch.context() as patch:
        patch.setattr(apart.shutil, "disk_usage", lambda _: type("", (), {"free": 1 << 16}))
        with pytest.raises(StageStopped, match=r"need \d+ MiB in .*0 MiB are free.*--shm-size"):
            refresh(sampler, policy, 1)
    refresh(sampler, policy, 1)
    if apart.SHARED.is_dir():
        assert not list(apart.SHARED.glob("spct-weights-*"))


# ---- GPUs, by stand-in names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "of", "gpu"), [(0, 1, "a"), (0, 2, "b"), (1, 2, "c")]
)  # the first ones train
def test_the_second_half_of_the_gpus_samples(
    local: int, of: int, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {1: "x,a", 2: "x,y,b,c"}[of]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    own = {"CUDA_VISIBLE_DEVICES": names, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": of}
    for name, value in {**own, "SPCT_GPUS": "of,all,jobs,here"}.items():
        monkeypatch.setenv(name, str(value))
    assert own_gpu() == gpu
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names[: 2 * of - 1])
    with pytest.raises(ConfigError, match=r"leaves none to sample.*resources gpu"):
        own_gpu()


def test_without_gpus_it_shares_the_machine() -> None:
    if not torch.cuda.is_available():
        assert own_gpu() is None


@pytest.mark.medium
def test_the_process_sees_its_gpu_alone(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("RANK", "3")
    made = ApartSampler(cfg.model, "", cfg.sampler, "GPU-stand-in")
    seen = psutil.Process(made._process.pid).environ()
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-stand-in"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    apart._end(made._connection, made._process)
