"""Rollouts beside the update: the numbers of one after the other, whatever the clock does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import Stop, World, dies, lines, result
from patience import PATIENCE
from safetensors.torch import load_file

from spct import config
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.grpo import overlap
from spct.grpo.learn import Learner
from spct.grpo.overlap import LaggingTrainer, Tape
from spct.grpo.sequences import Sequences
from spct.grpo.trainer import Trainer
from spct.records import Item, read_items
from spct.sampling.base import Completion, Request
from spct.sampling.native import NativeSampler
from spct.sampling.snapshot import Snapshot
from spct.training import world as worlds

STEPS = 4
LAG = ("grpo.rollout_lag=1", "grpo.importance_cap=2.0")
EVERYTHING = (
    *LAG, "grpo.eval_every=2", "grpo.eval_items=2", "grpo.keep=best", "grpo.refill=2",
    "grpo.skip_dead=true", "grpo.updates_per_rollout=2", "grpo.checkpoint_every=2",
)  # fmt: skip
VARIANTS = {"plain": LAG, "everything": EVERYTHING, "hf": (*LAG, "sampler.engine=hf")}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, talker_folder: Path,
    make_items: Callable[..., list[Item]],
) -> World:  # fmt: skip
    torch.set_num_threads(1)
    items = make_items("pair", 4) + make_items("single", 2)
    return World(tmp_path_factory.mktemp("runs"), talker_folder, items)


@pytest.fixture(scope="module")
def straight(world: World) -> Callable[[str], dict[str, bytes]]:
    """The result of a run that was left alone, computed once for each variant."""
    known: dict[str, dict[str, bytes]] = {}

    def run(variant: str) -> dict[str, bytes]:
        if variant not in known:
            known[variant] = result(world(f"straight {variant}", *VARIANTS[variant]))
        return known[variant]

    return run


# ---- the algorithm -----------------------------------------------------------------------------


def one_after_the_other(world: World, *overrides: str) -> tuple[dict[str, torch.Tensor], list]:
    """Lag 1 without any thread: before each update the next step's rollouts; weights, metrics."""
    cfg = Slice.of(config.load(world.words(*overrides)), "grpo")
    trainer = Trainer(cfg, 3, read_items(world.items), "", world.folder / "aside", worlds.ALONE)
    now, told = trainer._roll_out(0), []
    for step in range(STEPS):
        ahead = trainer._roll_out(step + 1) if step + 1 < STEPS else None
        learned = Sequences.of(now.learned, cfg.grpo)
        told.append(now.rollouts.metrics() | trainer.learner.learn(learned, step))
        now = ahead
    return dict(trainer.policy.model.state_dict()), told


@pytest.mark.parametrize("overrides", [LAG, (*LAG, "grpo.refill=2", "grpo.kl_coef=0")])
def test_it_is_the_algorithm_one_after_the_other(world: World, overrides: tuple[str, ...]) -> None:
    weights, told = one_after_the_other(world, *overrides)
    out = world(f"beside {len(overrides)}", *overrides)
    found = load_file(out / "model.safetensors")
    assert len(found) > 10 and all(torch.equal(found[name], weights[name]) for name in found)
    for entry, expected in zip(lines(out / "metrics.jsonl"), told, strict=True):
        assert {name: entry[name] for name in expected} == expected


def test_rollouts_are_one_update_old_and_weighed(world: World, straight: Callable) -> None:
    lagging = [json.loads(line) for line in straight("plain")["metrics.jsonl"].splitlines()]
    own = lines(world("on policy", "grpo.importance_cap=2.0") / "metrics.jsonl")
    assert [entry["staleness"] for entry in lagging] == [0, 1, 1, 1]
    assert all("staleness" not in entry for entry in own)
    # the first update is the same; the second learns from what the first weights said
    shared = own[0].keys() - {"alarm/sampler_gap"}
    assert {name: lagging[0][name] for name in shared} == {name: own[0][name] for name in shared}
    assert lagging[1]["loss"] != own[1]["loss"]
    gaps = [entry["sampler_gap_mean"] for entry in lagging]
    assert gaps[0] < 1e-5 < 1e-4 < min(gaps[1:])
    assert all(entry["importance_weight"] != 1.0 for entry in lagging[1:])
    assert not any("alarm/sampler_gap" in entry for entry in lagging)  # it is the update's gap


# ---- whatever the clock does -------------------------------------------------------------------


def sampled_late(patch: pytest.MonkeyPatch) -> None:
    """The sampler beside an update begins when that update is over."""
    over = threading.Event()
    main, over_once = threading.current_thread(), []
    learn, sample = Learner.learn, NativeSampler.sample

    def learned(self: Learner, *args: Any) -> Any:
        values = learn(self, *args)
        over.set()
        return values

    def waited(self: NativeSampler, requests: Any) -> Any:
        if threading.current_thread() is not main and over_once:
            assert over.wait(PATIENCE)
            over.clear()
        over_once.append(1)
        return sample(self, requests)

    patch.setattr(Learner, "learn", learned)
    patch.setattr(NativeSampler, "sample", waited)


def sampled_early(patch: pytest.MonkeyPatch) -> None:
    """An update begins when the sampler beside it is done."""
    learn, sample = Learner.learn, NativeSampler.sample
    ahead, updates, rounds = threading.Semaphore(0), [], []

    def learned(self: Learner, *args: Any) -> Any:
        updates.append(1)
        if len(updates) < STEPS:  # nothing is ahead of the last
            assert ahead.acquire(timeout=PATIENCE)
        return learn(self, *args)

    def sampled(self: NativeSampler, requests: Any) -> Any:
        done = sample(self, requests)
        rounds.append(1)
        if len(rounds) > 1:  # the first step's own
            ahead.release()
        return done

    patch.setattr(Learner, "learn", learned)
    patch.setattr(NativeSampler, "sample", sampled)


@pytest.mark.parametrize("order", [sampled_late, sampled_early])
def test_no_number_hangs_on_the_clock(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, order: Callable
) -> None:
    order(monkeypatch)
    assert result(world(order.__name__, *LAG)) == straight("plain")


def test_sampling_and_update_run_at_one_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other to have begun: one after the other, neither would go on."""
    both = threading.Barrier(2, timeout=PATIENCE)
    main, calls = threading.current_thread(), {"learn": 0, "sample": 0}
    learn, sample = Learner.learn, NativeSampler.sample

    def learned(self: Learner, *args: Any) -> Any:
        calls["learn"] += 1
        if calls["learn"] < STEPS:  # nothing is ahead of the last
            both.wait()
        return learn(self, *args)

    def sampled(self: NativeSampler, requests: Any) -> Any:
        assert threading.current_thread() is not main
        calls["sample"] += 1
        if calls["sample"] > 1:  # the first step's own
            both.wait()
        return sample(self, requests)

    monkeypatch.setattr(Learner, "learn", learned)
    monkeypatch.setattr(NativeSampler, "sample", sampled)
    out = world("at one time", *LAG)
    assert calls == {"learn": STEPS, "sample": STEPS}
    timing = json.loads((out / "timing.json").read_text())
    assert all({"overlap", "sampled_tokens_per_s"} <= entry.keys() for entry in timing["steps"])
    assert timing["overlap"] == pytest.approx(sum(e["overlap"] for e in timing["steps"]))


# ---- killed and continued ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "at"),
    [*((variant, at) for variant in ("plain", "everything") for at in range(STEPS)), ("hf", 1)],
)
def test_killed_after_any_step(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, variant: str, at: int
) -> None:
    overrides, expected = VARIANTS[variant], straight(variant)
    name = f"killed {variant} {at}"
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "step", at)
        with pytest.raises(Stop):
            world(name, *overrides)
    assert result(world(name, *overrides)) == expected


def test_a_state_holds_the_rollouts_ahead(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sampled once: going on, the engine is asked for the steps after them alone."""
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "step", 2)
        with pytest.raises(Stop):
            world("kept", *LAG)
    steps: list[int] = []
    tasks = overlap.tasks_of_step

    def noted(judge: Any, items: Any, step: int, *rest: Any) -> Any:
        steps.append(step)
        return tasks(judge, items, step, *rest)

    asked: list[int] = []
    sample = NativeSampler.sample
    monkeypatch.setattr(overlap, "tasks_of_step", noted)
    monkeypatch.setattr(NativeSampler, "sample", lambda s, r: asked.append(len(r)) or sample(s, r))
    assert result(world("kept", *LAG)) == straight("plain")
    assert steps == [2, 3] and len(asked) == 1


def test_an_error_of_the_sampler_is_an_error_of_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No state holds half of a step's rollouts."""
    with monkeypatch.context() as patch:
        sample, calls = NativeSampler.sample, []

        def fails(self: NativeSampler, requests: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("no memory")
            return sample(self, requests)

        patch.setattr(NativeSampler, "sample", fails)
        with pytest.raises(StageStopped, match=r"step 2 beside the update.*grpo\.rollout_lag=0"):
            world("failing", *LAG)
    assert [path.name for path in world.state("failing").glob("*.pt")] == ["state-000001.pt"]


def test_a_tape_plays_what_it_noted_before_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Engine:
        def sample(self, requests: Any) -> list[Completion]:
            asked.extend(request.seed for request in requests)
            return [Completion((request.seed,), (0.0,), "length") for request in requests]

    wanted = [Request((1,), seed, 1.0) for seed in range(6)]
    tape = Tape(Engine())
    first = tape.sample(wanted[:3]) + tape.sample(wanted[3:5])
    again = Tape(Engine(), tape.noted)
    assert again.sample(wanted[:3]) + again.sample(wanted[3:5]) == first and again.seconds == 0
    assert asked == [0, 1, 2, 3, 4]
    assert again.sample(wanted[5:])[0].ids == (5,) and len(again.noted) == 6


# ---- refused -----------------------------------------------------------------------------------


def test_older_rollouts_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that leaves out an update: by step 2 its rollouts are two updates old."""
    refresh = Snapshot.refresh
    monkeypatch.setattr(
        Snapshot, "refresh", lambda s, w, version: None if version == 1 else refresh(s, w, version)
    )
    with pytest.raises(StageStopped, match=r"of 12 completions .* weights 1, 12 of version 0"):
        world("stale", *LAG)


def test_lag_wants_its_correction() -> None:
    for words, message in (
        (["grpo.rollout_lag=1"], r"grpo\.importance_cap: 0, yet"),
        (["grpo.rollout_lag=2"], r"grpo\.rollout_lag: 2 is not 0 or more and at most 1"),
        ([*LAG, "grpo.stop_on_gap=true"], r"grpo\.stop_on_gap: at which gap"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.load(words)
    config.load([*LAG, "grpo.stop_on_gap=true", "grpo.max_logprob_gap=0.5"])


def test_several_processes_are_refused(world: World) -> None:
    cfg = Slice.of(config.load(world.words(*LAG)), "grpo")
    two = worlds.World(0, 2)
    with pytest.raises(StageStopped, match=r"grpo\.rollout_lag: 1 is for one process, not for 2"):
        LaggingTrainer(cfg, 3, [], "", world.folder, two)


def test_a_snapshot_wants_all_weights(tiny: Any, sampler_config: Any) -> None:
    copy = Snapshot(tiny, NativeSampler(tiny, sampler_config))
    names = list(tiny.model.named_parameters())
    with pytest.raises(ValueError, match="no new weights for"):
        copy.refresh(names[1:], 1)
    with pytest.raises(ValueError, match="has no weight head"):
        copy.refresh([*names, ("head", names[0][1])], 1)
    assert copy.version is None
    copy.refresh(names, 1)
    assert copy.version == 1
