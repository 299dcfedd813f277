"""What GRPO does with groups that teach nothing and with input that should not be."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import World, lines, poisoned
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact, config, lm, seeds
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo import dump, learn
from spct.grpo.advantage import advantages
from spct.grpo.learn import optim_config
from spct.grpo.refill import fill_up
from spct.grpo.rollout import Rollouts, items_from, sample_step, tasks_of_step
from spct.grpo.sequences import Sequences
from spct.grpo.trainer import Trainer
from spct.grpo.update import update
from spct.judge import task as judging
from spct.judge.parse import Outcome
from spct.judge.task import Judge
from spct.records import Item, read_items
from spct.sampling.base import Completion, Request, build
from spct.sampling.native import NativeSampler
from spct.schema import GrpoConfig, SamplerConfig
from spct.training.optim import Optimizer
from spct.training.world import ALONE


@pytest.fixture
def world(tmp_path: Path, talker_folder: Path, make_items: Callable[..., list[Item]]) -> World:
    return World(tmp_path, talker_folder, make_items("pair", 5) + make_items("single", 4))


@pytest.fixture(scope="module")
def settings() -> GrpoConfig:
    return config.load([]).grpo


def _slice(world: World, *overrides: str) -> Slice:
    return Slice.of(config.load(world.words(*overrides)), "grpo")


# ---- the defaults are the plain algorithm ------------------------------------------------------


def test_with_defaults_the_stage_is_the_plain_loop(world: World) -> None:
    """Sample P prompts, advantages, one update on every sequence; nothing else moves a weight."""
    cfg = _slice(world, "grpo.prompts_per_step=4")
    out = world("stage", "grpo.prompts_per_step=4")
    policy, reference = lm.load(cfg.model), lm.load(cfg.model)
    judge = Judge.build(cfg.judge, ["<pad>", "</s>", "<unk>"])
    sampler = build(policy, cfg.sampler)
    optimizer = Optimizer(policy.model, optim_config(cfg.grpo), cfg.grpo.steps)
    items = read_items(world.items)
    for step in range(cfg.grpo.steps):
        chosen = items_from(items, 4 * step, 4, 3)
        tasks = tasks_of_step(judge, chosen, step, cfg.grpo, 3)
        policy.model.eval()
        rollouts = sample_step(policy, sampler, cfg.sampler, judge, tasks, 4)
        gains = advantages(rollouts.rewards, cfg.grpo.std, cfg.grpo.std_eps).flatten()
        policy.model.train()
        update(
            policy.model, reference.model, [e for e in rollouts.examples() if e], gains,
            optimizer, cfg.grpo, first_step=step, max_tokens=24, device=torch.device("cpu"),
        )  # fmt: skip
    found = lm.load(replace(cfg.model, source=str(out))).model.state_dict()
    expected = policy.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# ---- dead groups -------------------------------------------------------------------------------


def _rolled(rewards: Sequence[Sequence[float]], valid: Any = None) -> Rollouts:
    known = torch.tensor(rewards, dtype=torch.float32)
    mask = torch.ones_like(known, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return Rollouts([f"{g}.{m}" for g in range(len(known)) for m in range(2)], known, mask)  # type: ignore[misc]


LIVE, DEAD = (1.0, -1.0), (1.0, 1.0)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 12))
def test_refilling_never_draws_or_replaces_too_much(
    fate: list[bool], prompts: int, most: int
) -> None:
    asked: list[tuple[int, int]] = []

    def draw(first: int, count: int) -> Rollouts:
        asked.append((first, count))
        return _rolled([LIVE if fate[i % len(fate)] else DEAD for i in range(first, first + count)])

    filled = fill_up(draw, prompts, most)
    assert [first for first, _ in asked] == [
        sum(n for _, n in asked[:i]) for i in range(len(asked))
    ]
    assert filled.prompts == sum(count for _, count in asked) == len(filled.rollouts.rewards)
    assert filled.prompts <= prompts + most
    assert len(set(filled.chosen)) == prompts == len(filled.learned.rewards)
    live = [not dead for dead in filled.rollouts.dead()]
    first = [place if live[place] else None for place in range(prompts)]
    for place, group in enumerate(filled.chosen):
        assert group == place if first[place] is not None else group == place or live[group]
    assert sum(live[group] for group in filled.chosen) == min(prompts, sum(live))
    if not all(live[group] for group in filled.chosen):
        assert filled.prompts == prompts + most  # it gave up only when it had to
    assert filled.replaced == sum(live[g] for g in filled.chosen) - sum(live[:prompts])
    assert filled.metrics(prompts)["extra_prompts"] == filled.prompts - prompts


def test_live_groups_take_the_places_in_order() -> None:
    fate = [DEAD, LIVE, DEAD, DEAD, LIVE, DEAD, DEAD, LIVE]

    def draw(first: int, count: int) -> Rollouts:
        return _rolled(fate[first : first + count])

    assert fill_up(draw, 3, 5).chosen == [4, 1, 7]
    assert fill_up(draw, 3, 2).chosen == [4, 1, 2]  # drawn: 3 and 4
    assert fill_up(draw, 3, 0).chosen == [0, 1, 2]


def test_refilled_groups_are_learned_from_in_place_of_dead_ones(world: World) -> None:
    cfg = _slice(world, "grpo.refill=4")
    trainer = Trainer(cfg, 3, read_items(world.items), "", world.folder, ALONE)
    positions, learned = [], []
    keep = trainer.learner.learn
    trainer.learner.learn = lambda s, step: learned.append(s) or keep(s, step)  # type: ignore[method-assign]
    for step in range(4):
        metrics, rollouts = trainer.step(step)
        positions.append(trainer.position)
        assert len(rollouts.rewards) == 3 + metrics["extra_prompts"]
        assert metrics["reward"] == pytest.approx(float(rollouts.rewards.mean()))
        assert len(learned[-1]) == 12
    extra = [b - a - 3 for a, b in zip([0, *positions], positions, strict=False)]
    assert any(extra) and all(0 <= one <= 4 for one in extra)
    ids = [m.task.seed for m in rollouts.members]
    assert len(set(ids)) == len(ids)


def test_dead_groups_are_skipped_and_counted_if_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {"keep": [], "skip": []}
    entries = {}
    for name, word in (("keep", "false"), ("skip", "true")):
        with monkeypatch.context() as patch:
            inner = learn.update
            patch.setattr(
                learn,
                "update",
                lambda *a, n=name, f=inner, **k: sizes[n].append(len(a[2])) or f(*a, **k),
            )
            entries[name] = lines(
                world(name, f"grpo.skip_dead={word}", "grpo.lr=1e-12") / "metrics.jsonl"
            )
    dead = [round(3 * entry["dead_groups"]) for entry in entries["keep"]]
    assert any(dead) and not all(n == 3 for n in dead)
    assert sizes["keep"] == [12] * 4
    assert sizes["skip"] == [12 - 4 * n for n in dead if n < 3]
    assert [entry["skipped_groups"] for entry in entries["skip"]] == dead
    assert [e.get("skipped_update") for e in entries["skip"]] == [
        1 if n == 3 else None for n in dead
    ]
    assert "skipped_groups" not in entries["keep"][0]


def test_a_dead_group_still_bears_the_kl_term_by_default(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    settings: GrpoConfig,
) -> None:  # fmt: skip
    rollouts = _sampled(talker, judge, items[:2], sampler_config, settings)
    rollouts.rewards[:] = torch.tensor([[1.0, -1, 1, -1], [1, 1, 1, 1]])
    kept = Sequences.of(rollouts, settings)
    assert kept.advantages[4:].tolist() == [0.0] * 4 and len(kept) == 8
    live = Sequences.of(rollouts, replace(settings, skip_dead=True))
    assert live.examples == kept.examples[:4]
    assert torch.equal(live.advantages, kept.advantages[:4])
    assert live.domains == ["pair"] * 4 and live.items == [items[0].id] * 4
    for example, logprobs in zip(kept.examples, kept.sampler, strict=True):
        assert len(example.completion) == len(logprobs)


# ---- orders ------------------------------------------------------------------------------------


def test_swapped_members_see_every_rotation(
    judge: Judge, items: list[Item], settings: GrpoConfig
) -> None:
    plain = tasks_of_step(judge, items, 5, settings, seed=1)
    swapped = tasks_of_step(judge, items, 5, replace(settings, swap_orders=True), seed=1)
    assert [task.seed for task in swapped] == [task.seed for task in plain]
    for start in range(0, len(swapped), 4):
        group, item = swapped[start : start + 4], swapped[start].item
        orders = [tuple(task.order) for task in group]
        assert orders[0] == tuple(plain[start].order)
        first = _counts([order[0] for order in orders])
        assert first == {place: 4 // item.n for place in range(item.n)}
        for task in group:
            assert task.prompt == judge.prompt(item, task.order)


def _counts(values: list[int]) -> dict[int, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def test_advantages_stay_over_a_group_of_several_prompts(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    settings: GrpoConfig,
) -> None:  # fmt: skip
    swapping = replace(settings, swap_orders=True)
    rollouts = _sampled(talker, judge, items[:1], sampler_config, swapping)
    assert len({member.prompt for member in rollouts.members}) == 2
    rollouts.rewards[:] = torch.tensor([[1.0, -1, -1, -1]])
    learned = Sequences.of(rollouts, swapping)
    assert learned.advantages.tolist() == pytest.approx([1.732] + [-0.577] * 3, abs=1e-3)


def _sampled(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    settings: GrpoConfig,
) -> Rollouts:  # fmt: skip
    sampler_config = replace(sampler_config, max_new_tokens=10)
    tasks = tasks_of_step(judge, items, 0, settings, seed=1)
    sampler = NativeSampler(talker, sampler_config)
    return sample_step(talker, sampler, sampler_config, judge, tasks, settings.group_size)


# ---- rewards, prompts --------------------------------------------------------------------------


def test_a_reward_that_raises_costs_the_sample_not_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, calls = judging.correct, 0

    def sometimes(scores: Any, label: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise ZeroDivisionError("no such luck")
        return right(scores, label)

    monkeypatch.setattr(judging, "correct", sometimes)
    trainer = Trainer(_slice(world), 3, read_items(world.items), "", world.folder, ALONE)
    learned: list[Sequences] = []
    trainer.learner.learn = lambda s, step: learned.append(s) or {}  # type: ignore[method-assign]
    metrics, rollouts = trainer.step(0)
    lost = int((~rollouts.valid).sum())
    assert 0 < lost < 12 and metrics["reward_error_rate"] == pytest.approx(lost / 12)
    told = capsys.readouterr().err
    assert f"grpo: {lost} of 12 outputs have no reward: " in told and "no such luck" in told
    flat = rollouts.valid.flatten().tolist()
    for member, valid in zip(rollouts.members, flat, strict=True):
        if not valid:
            assert member.row.outcome == Outcome.ok and member.row.correct is None
            assert member.row.scores is not None and member.row.text
    assert len(learned[0]) == 12 - lost
    rewards = rollouts.rewards.flatten()[rollouts.valid.flatten()]
    assert metrics["reward"] == pytest.approx(float(rewards.mean()))
    gains = iter(learned[0].advantages.tolist())
    for row, valid in zip(rollouts.rewards, rollouts.valid, strict=True):
        mates = [next(gains) for _ in range(int(valid.sum()))]
        assert sum(mates) == pytest.approx(0, abs=1e-5)  # the mean is over those with a reward
        if len(set(row[valid].tolist())) < 2:
            assert not any(mates)


def test_a_reward_that_always_raises_ends_with_the_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> bool:
        raise KeyError("label")

    monkeypatch.setattr(judging, "correct", never)
    out = world("lost")
    entries = lines(out / "metrics.jsonl")
    assert all(entry["dead_groups"] == 1 for entry in entries)
    assert all(e["reward_error_rate"] + e["invalid_rate"] == pytest.approx(1) for e in entries)
    samples = lines(out / "samples.jsonl")
    assert all(s["reward"] is None for s in samples if s["outcome"] == "ok")
    with pytest.raises(StageStopped, match="all 12 groups were dead"):
        world("stopped", "grpo.allow_empty=false")


def test_an_empty_prompt_is_counted(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    settings: GrpoConfig, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tasks = tasks_of_step(judge, items, 0, settings, seed=1)
    tasks[4:8] = [replace(task, prompt="") for task in tasks[4:8]]
    encode = lm.LM.encode_prompt
    monkeypatch.setattr(lm.LM, "encode_prompt", lambda s, text: encode(s, text) if text else ())
    config = replace(sampler_config, max_new_tokens=10)
    rollouts = sample_step(talker, NativeSampler(talker, config), config, judge, tasks, 4)
    empty = rollouts.members[4:8]
    assert {member.row.outcome for member in empty} == {Outcome.engine_error}
    assert [member.task for member in rollouts.members] == tasks
    assert rollouts.valid.any(dim=1).tolist() == [True, False, *[True] * 5]
    assert [example is None for example in rollouts.examples()[:12]] == (
        [False] * 4 + [True] * 4 + [False] * 4
    )
    metrics = rollouts.metrics()
    assert metrics["prompt_empty_rate"] == pytest.approx(1 / 7)
    assert metrics["prompt_too_long_rate"] == 0.0


def test_a_group_without_a_readable_output_is_counted(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    settings: GrpoConfig,
) -> None:  # fmt: skip
    class Sampler:
        def sample(self, requests: Sequence[Request]) -> list[Completion]:
            texts = ["nothing"] * 4 + ["\\boxed{8, 3}", "nothing", "nothing", "\\boxed{1, 3}"]
            ids = [tuple(talker.tokenizer.encode(text)) for text in texts]
            values = [(each, (-1.0,) * (len(each) + 1)) for each in ids]
            return [Completion(*one, "stop", end=talker.end) for one in values]

    tasks = tasks_of_step(judge, items[:2], 0, settings, seed=1)
    rollouts = sample_step(talker, Sampler(), sampler_config, judge, tasks, 4)
    metrics = rollouts.metrics()
    assert metrics["unreadable_groups"] == 0.5 and metrics["invalid_rate"] == 0.75
    assert rollouts.dead()[0] and rollouts.rewards[0].tolist() == [-1.0] * 4


# ---- NaN ---------------------------------------------------------------------------------------


def _poisoned(world: World, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[str, Path]:
    """The message of a run whose third step has a NaN among its advantages, and its dump."""
    with monkeypatch.context() as patch:
        poisoned(patch, step=2, place=5)
        with pytest.raises(FloatingPointError) as error:
            world("poisoned", *overrides)
    text = str(error.value)
    return text, Path(text.rpartition(" ")[2])


@pytest.mark.parametrize("words", [(), ("grpo.kl_coef=0", "grpo.updates_per_rollout=2")])
def test_nan_stops_at_its_step_and_replays(
    world: World, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    text, path = _poisoned(world, monkeypatch, *words)
    assert re.match(r"grpo: loss is nan; .*; step 2; its batch is in .*failed-000002\.pt", text)
    assert f"replay it with: {dump.COMMAND} {path}" in text
    assert path.parent == world.state("poisoned") and not (world.folder / "poisoned").exists()
    held = torch.load(path, weights_only=True)
    assert held["step"] == 2 and torch.isnan(held["advantages"]).tolist().index(True) == 5
    assert {len(held[k]) for k in ("prompts", "completions", "old", "reference", "sampler")} == {12}
    weights = torch.load(path.with_name(held["weights"]), weights_only=True)
    state = torch.load(path.with_name("state-000002.pt"), weights_only=True)
    before = state["trainer"]["model"]
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    found = dump.replay(path)
    assert found.step == 2 and found.error is not None and "loss is nan" in found.error
    assert found.guilty == [(5, held["items"][5])]
    assert "sequence 5, item" in str(found) and "loss is nan" in str(found)


def test_a_dump_that_is_mended_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = _poisoned(world, monkeypatch)
    held = torch.load(path, weights_only=True)
    held["advantages"] = torch.nan_to_num(held["advantages"])
    torch.save(held, path)
    found = dump.replay(path)
    assert found.error is None and found.guilty == [] and "are finite" in str(found)
    path.with_name(held["weights"]).unlink()
    with pytest.raises(artifact.BrokenArtifact, match="keep them together"):
        dump.replay(path)


@pytest.mark.medium
def test_nan_weights_and_gradients_replay_from_the_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sequence fails alone when the weights are at fault."""
    step_of = Trainer.step

    def step(self: Trainer, number: int) -> Any:
        if number == 1:
            with torch.no_grad():
                next(self.policy.model.parameters()).fill_(float("nan"))
            self._roll_out = lambda step: filled[0]  # type: ignore[method-assign]
        return step_of(self, number)

    filled: list[Any] = []
    roll_out = Trainer._roll_out
    monkeypatch.setattr(
        Trainer, "_roll_out", lambda self, step: filled.append(roll_out(self, step)) or filled[-1]
    )
    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(FloatingPointError, match="step 1; its batch is in") as error:
        world("nan")
    path = str(error.value).rpartition(" ")[2]
    command = [sys.executable, "-m", "spct.grpo.dump", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("step 1: grpo: loss is nan")
    assert done.stdout.count("fails alone") == 12


@pytest.mark.parametrize("name", ["old", "reference"])
def test_a_replay_uses_the_log_probs_of_the_dump(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The weights of a second update no longer tell the log-probs of the first."""
    _, path = _poisoned(world, monkeypatch)
    held = torch.load(path, weights_only=True)
    held["advantages"] = torch.nan_to_num(held["advantages"])
    held["old"] = [torch.zeros(len(each)) for each in held["completions"]]
    held["reference"] = [torch.zeros(len(each)) for each in held["completions"]]
    torch.save(held, path)
    assert dump.replay(path).error is None
    held[name][3] = held[name][3] * float("nan")
    torch.save(held, path)
    assert dump.replay(path).guilty == [(3, held["items"][3])]


def test_a_gradient_that_is_not_finite_is_seen_in_a_replay(tiny: lm.LM) -> None:
    weights = [p.detach().clone() for p in tiny.model.parameters()]
    still = dump._Still(tiny.model)
    for parameter in tiny.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert still.step(0) == pytest.approx(tiny.params**0.5)
    assert all(torch.equal(a, b) for a, b in zip(weights, tiny.model.parameters(), strict=True))
    tiny.model.get_output_embeddings().weight.grad[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="gradient norm is inf"):
        still.step(0)


# ---- memory ------------------------------------------------------------------------------------


def _short_of_memory(
    monkeypatch: pytest.MonkeyPatch, fits: int, *, late: bool = False
) -> list[int]:
    """Updates with micro-batches above ``fits`` run out of memory; the sizes tried."""
    tried: list[int] = []
    inner = learn.update

    def update(*args: Any, **kwargs: Any) -> dict[str, float]:
        size = args[5].micro_tokens
        tried.append(size)
        if size > fits and late:
            inner(*args, **kwargs)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(*args, **kwargs)

    monkeypatch.setattr(learn, "update", update)
    return tried


def test_out_of_memory_halves_the_micro_batch_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = _short_of_memory(monkeypatch, fits=256)
    out = world("halved")
    assert tried == [512, 256, 256, 256, 256]
    assert [e.get("out_of_memory") for e in lines(out / "metrics.jsonl")] == [1.0, None, None, None]
    told = capsys.readouterr().err
    assert "out of memory in the update of step 0; grpo.micro_tokens is halved to 256" in told
    monkeypatch.undo()
    straight = world("small", "grpo.micro_tokens=256")
    weights = [(f / "model.safetensors").read_bytes() for f in (out, straight)]
    assert weights[0] == weights[1]


def test_a_halved_micro_batch_is_kept_on_resuming(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _short_of_memory(monkeypatch, fits=256)
    with monkeypatch.context() as patch:
        patch.setattr("spct.grpo.train.Checkpoint.clear", lambda self: None)
        world("kept", "grpo.steps=2")
    trainer = Trainer(_slice(world), 3, read_items(world.items), "", world.folder, ALONE)
    state = torch.load(world.state("kept") / "state-000001.pt", weights_only=True)
    trainer.load_state(state["trainer"])
    trainer.step(1)
    assert tried == [512, 256, 256, 256]
    tried.clear()
    _short_of_memory(monkeypatch, fits=128)
    with pytest.raises(StageStopped, match=r"lower grpo\.micro_tokens, now 256"):
        trainer.step(2)


@pytest.mark.parametrize(
    ("fits", "late", "words", "told"),
    [
        (128, False, (), r"step 0; lower grpo\.micro_tokens, now 256$"),
        (0, False, ("grpo.micro_tokens=1",), r"step 0; lower sampler\.max_new_tokens$"),
        (256, True, (), r"step 0; lower grpo\.micro_tokens, now 512$"),
    ],
)  # halving was not enough; nothing to halve; weights have changed already
def test_out_of_memory_names_the_setting(
    world: World, monkeypatch: pytest.MonkeyPatch, fits: int, late: bool, words: tuple[str, ...],
    told: str,
) -> None:  # fmt: skip
    _short_of_memory(monkeypatch, fits, late=late)
    with pytest.raises(StageStopped, match=told):
        world("stopped", *words)


def test_out_of_memory_while_sampling_names_the_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(NativeSampler, "sample", sample)
    with pytest.raises(StageStopped, match=r"sampling for step 0; lower sampler\.batch_size"):
        world("stopped")


def test_dropout_is_seeded_by_the_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(
        learn, "update", lambda *_, **__: drawn.append(float(torch.rand(()))) or {"loss": 0.0}
    )
    world("a", "grpo.steps=3")
    torch.manual_seed(0)
    world("b", "grpo.steps=3")
    assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3
    torch.manual_seed(seeds.derive(3, "grpo update", 1))
    assert drawn[1] == float(torch.rand(()))
