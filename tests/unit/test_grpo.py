from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spct import artifact, lm
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo import learn, sequences, trainer
from spct.grpo import train as grpo
from spct.grpo.advantage import advantages, dead
from spct.grpo.loss import Settings, Totals, kl_k3, objective, sequence_mean
from spct.grpo.rollout import BY_DOMAIN, Rollouts, items_from, sample_step, tasks_of_step
from spct.grpo.update import update
from spct.judge.task import Judge
from spct.records import Item, write_items
from spct.sampling.base import Completion, Request
from spct.sampling.native import NativeSampler
from spct.schema import GrpoConfig, OptimConfig, SamplerConfig
from spct.training import choice, shared
from spct.training.batching import Example
from spct.training.groups import grouped
from spct.training.optim import Optimizer

CONFIG = GrpoConfig(
    lr=1e-3, steps=4, prompts_per_step=3, group_size=4, kl_coef=0.08,
    kl_estimator="k3", clip_low=0.2, clip_high=0.2, aggregation="sequence", importance_cap=0.0,
    updates_per_rollout=1, temperature=1.0, std="population", std_eps=0.0, weight_decay=0.0,
    warmup_steps=0, final_lr=1.0, max_grad_norm=1.0, micro_tokens=512, logprob_chunk=64,
    recompute=False,
    skip_dead=False, refill=0, swap_orders=False, eval_every=0, eval_items=0, keep="last",
    alarm_drop=0.3, alarm_window=10, alarm_invalid=0.5, max_logprob_gap=0.0, stop_on_gap=False,
    checkpoint_every=1, log_samples_every=2, allow_empty=True,
)  # fmt: skip

# ---- advantages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "std", "expected"),
    [
        ([1, -1, -1, -1], "population", [1.732051, -0.577350, -0.577350, -0.577350]),
        ([1, 1, -1, -1], "population", [1, 1, -1, -1]),
        ([1, -1, -1, -1], "sample", [1.5, -0.5, -0.5, -0.5]),
        ([1, -1, -1, -1], "none", [1.5, -0.5, -0.5, -0.5]),
        ([1, 1, 1, -1], "none", [0.5, 0.5, 0.5, -1.5]),
        ([1, 1, 1, 1], "population", [0, 0, 0, 0]),
        ([-1, -1, -1, -1], "sample", [0, 0, 0, 0]),
    ],
)
def test_worked_values(rewards: list[float], std: str, expected: list[float]) -> None:
    other = [-1.0, 1.0, -1.0, 1.0]
    values = advantages(torch.tensor([rewards, other], dtype=torch.float32), std, eps=1e-6)
    assert values[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert values[1].tolist() == pytest.approx([-v for v in values[1].tolist()][::-1])


def test_dead_groups() -> None:
    rewards = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, 1], [-1, -1, 1]])
    assert dead(rewards).tolist() == [True, True, False, False]


def test_an_unknown_std_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grpo\.std is 'mad'; known: population, sample, batch"):
        advantages(torch.ones(1, 2), "mad")


# ---- the objective -----------------------------------------------------------------------------


def _naive(
    new: Sequence[Tensor], old: Sequence[Tensor], ref: Sequence[Tensor] | None,
    gains: Sequence[float], clip: float, beta: float,
) -> Tensor:  # fmt: skip
    """Paper Eq. 15, negated, token by token and sequence by sequence."""
    total = torch.zeros((), dtype=torch.float64)
    for i, gain in enumerate(gains):
        tokens = []
        for t in range(len(new[i])):
            ratio = (new[i][t] - old[i][t]).exp()
            bounded = min(max(ratio, ratio.new_tensor(1 - clip)), ratio.new_tensor(1 + clip))
            value = min(ratio * gain, bounded * gain)
            if ref is not None:
                gap = ref[i][t] - new[i][t]
                value = value - beta * (gap.exp() - gap - 1)
            tokens.append(value)
        total = total - sum(tokens) / len(tokens)
    return total


@pytest.mark.parametrize("with_reference", [True, False])
def test_objective_equals_the_naive_loop(with_reference: bool) -> None:
    torch.manual_seed(0)
    lengths, gains = [5, 1, 9, 3], [1.732, -0.577, -1.0, 0.5]
    new = [torch.randn(n, dtype=torch.float64, requires_grad=True) for n in lengths]
    old = [x.detach() + 0.4 * torch.randn_like(x) for x in new]
    ref = [x.detach() + 0.4 * torch.randn_like(x) for x in new] if with_reference else None
    slow = _naive(new, old, ref, gains, 0.2, 0.3)
    slow_grad = torch.cat(torch.autograd.grad(slow, new, materialize_grads=True))
    flat = torch.cat([x.detach() for x in new]).requires_grad_()
    terms = objective(
        flat, torch.cat(old), None if ref is None else torch.cat(ref),
        torch.tensor(gains, dtype=torch.float64),
        torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)),
        Settings(0.3 if with_reference else 0.0), Totals(1, 1),
    )  # fmt: skip
    torch.testing.assert_close(terms.loss, slow)
    torch.testing.assert_close(torch.autograd.grad(terms.loss, flat)[0], slow_grad)
    assert 0 < float(terms.clipped) < 4
    assert (float(terms.kl) > 0) == with_reference


@pytest.mark.parametrize(
    ("ratio", "gain", "loss", "slope"),
    [
        (1.5, 1.0, -1.2, 0.0),  # too likely already: clipped
        (1.5, -1.0, 1.5, 1.5),  # too likely and bad: pushed down in full
        (0.5, 1.0, -0.5, -0.5),
        (0.5, -1.0, 0.8, 0.0),
        (1.1, 1.0, -1.1, -1.1),
    ],
)
def test_the_clip_binds_on_one_side(ratio: float, gain: float, loss: float, slope: float) -> None:
    new = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    old = new.detach() - torch.tensor([ratio], dtype=torch.float64).log()
    terms = objective(
        new, old, None, torch.tensor([gain], dtype=torch.float64), torch.tensor([0]),
        Settings(0.0), Totals(1, 1),
    )  # fmt: skip
    assert terms.loss.item() == pytest.approx(loss)
    assert float(torch.autograd.grad(terms.loss, new)[0]) == pytest.approx(slope)
    assert float(terms.clipped) == float(slope == 0.0)


@given(st.floats(-8, 0), st.floats(-8, 0))
def test_k3_is_a_distance(one: float, two: float) -> None:
    value = float(
        kl_k3(torch.tensor(one, dtype=torch.float64), torch.tensor(two, dtype=torch.float64))
    )
    assert value >= -1e-12
    assert (value < 1e-12) == (abs(one - two) < 2e-6)


def test_k3_points_the_right_way() -> None:
    """exp(d) - d - 1, d = reference - policy: log-probs -1 and -3 under the reference -1, -1."""
    values = kl_k3(torch.tensor([-1.0, -3.0]), torch.tensor([-1.0, -1.0]))
    assert values.tolist() == pytest.approx([0.0, 2.718281828**2 - 3])


def test_sequence_mean() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert sequence_mean(values, torch.tensor([0, 0, 0, 2]), 3).tolist() == [2.0, 0.0, 10.0]


# ---- the update --------------------------------------------------------------------------------

EXAMPLES = [
    Example(tuple(range(5, 9 + i)), tuple((7 * i + 3 * j) % 140 + 3 for j in range(2 + 3 * i)))
    for i in (3, 0, 4, 1, 2)
]
EXAMPLES += [Example(EXAMPLES[i].prompt, (40 + i, 50, 60)) for i in (0, 0, 4)]  # prompts to share
GAINS = torch.tensor([1.0, -0.5, 0.7, -1.2, 0.3, 0.9, -0.4, -0.8])


def _updated(
    model: lm.LM, optim: OptimConfig, config: GrpoConfig, reference: lm.LM | None = None,
    gains: Tensor = GAINS,
) -> tuple[dict[str, float], Tensor]:  # fmt: skip
    """Metrics of one update by plain gradient descent, and the change of all weights."""
    before = torch.cat([p.detach().flatten().clone() for p in model.model.parameters()])
    optimizer = Optimizer(model.model, replace(optim, max_grad_norm=1e9, warmup_steps=0), 10)
    optimizer.inner = [torch.optim.SGD(model.model.parameters(), lr=1.0)]
    optimizer.peaks = [[1.0]]
    metrics = update(
        model.model, None if reference is None else reference.model, EXAMPLES, gains, optimizer,
        config, first_step=0, max_tokens=24, device=torch.device("cpu"),
    )  # fmt: skip
    after = torch.cat([p.detach().flatten() for p in model.model.parameters()])
    return metrics, after - before


@pytest.fixture
def models(tiny_folder: Path, talker_folder: Path) -> Callable[[], tuple[lm.LM, lm.LM]]:
    from spct.schema import ModelConfig

    def make() -> tuple[lm.LM, lm.LM]:
        one, two = (
            lm.load(ModelConfig("m", str(f), None, "float32", False))
            for f in (tiny_folder, talker_folder)
        )
        return one, two

    return make


def test_micro_batches_change_no_gradient(models: Callable, optim_config: OptimConfig) -> None:
    results = []
    for size in (1, 20, 40, 4096):
        policy, reference = models()
        config = replace(CONFIG, micro_tokens=size)
        results.append(_updated(policy, optim_config, config, reference))
    for metrics, change in results[1:]:
        torch.testing.assert_close(change, results[0][1], rtol=0, atol=1e-6)
        assert metrics == pytest.approx(results[0][0], abs=1e-5)
    assert results[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("least", [0, 10**6])
def test_an_update_is_the_gradient_of_the_naive_objective(
    models: Callable, optim_config: OptimConfig, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prompts shared (from ``least`` tokens on) and without."""
    used = []
    inner = shared.completion_states
    monkeypatch.setattr(
        shared, "completion_states", lambda *a, **k: used.append(1) or inner(*a, **k)
    )
    monkeypatch.setattr(choice, "LEAST_TOKENS", least)
    policy, reference = models()
    new, ref = (
        [choice.completion_logprobs(m.model, grouped([e])[0]).logprobs.double() for e in EXAMPLES]
        for m in (policy, reference)
    )
    ref = [x.detach() for x in ref]
    loss = _naive(new, [x.detach() for x in new], ref, GAINS.tolist(), 0.2, 0.08) / len(EXAMPLES)
    grads = torch.autograd.grad(loss, list(policy.model.parameters()))
    expected = torch.cat([g.flatten() for g in grads])
    metrics, change = _updated(policy, optim_config, CONFIG, reference)
    torch.testing.assert_close(change, -expected, rtol=1e-4, atol=1e-6)
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert metrics["grad_norm"] == pytest.approx(expected.norm().item(), rel=1e-3)
    assert metrics["kl"] > 0 and metrics["clip_fraction"] == 0.0 and metrics["entropy"] > 0
    # The check of a model uses the shared pass too, once; policy and reference use it then.
    assert (len(used) >= 4) == (least == 0)


def test_without_kl_no_reference_and_no_pull(models: Callable, optim_config: OptimConfig) -> None:
    policy, reference = models()
    config = replace(CONFIG, kl_coef=0.0)
    metrics, _ = _updated(policy, optim_config, config)
    assert metrics["kl"] == 0.0
    policy, _ = models()
    _, change = _updated(policy, optim_config, config, gains=torch.zeros(len(GAINS)))
    assert change.abs().max() == 0
    _, change = _updated(policy, optim_config, CONFIG, reference, gains=torch.zeros(len(GAINS)))
    assert change.abs().max() > 0


def test_a_second_update_meets_the_clip(models: Callable, optim_config: OptimConfig) -> None:
    """Ratios are to the policy that sampled, not to the one before this update."""
    policy, reference = models()
    twice = replace(CONFIG, updates_per_rollout=2)
    metrics, change = _updated(policy, optim_config, twice, reference)
    assert metrics["clip_fraction"] > 0
    other, reference = models()
    _, once = _updated(other, optim_config, CONFIG, reference)
    assert not torch.equal(change, once)


def test_nan_stops_before_the_weights(models: Callable, optim_config: OptimConfig) -> None:
    policy, reference = models()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        _updated(policy, optim_config, CONFIG, reference, gains=GAINS * float("nan"))


# ---- rollouts ----------------------------------------------------------------------------------


def test_steps_walk_through_seeded_epochs(make_items: Callable[..., list[Item]]) -> None:
    pool = make_items("pair", 7)
    walk = [item.id for place in range(0, 21, 3) for item in items_from(pool, place, 3, 1)]
    epochs = [walk[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == sorted(item.id for item in pool) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [i.id for i in items_from(pool, 6, 3, 1)] == walk[6:9]
    assert [i.id for i in items_from(pool, 0, 7, 2)] != epochs[0]


def test_a_group_shares_prompt_and_order(judge: Judge, items: list[Item]) -> None:
    steps = [tasks_of_step(judge, items, step, CONFIG, seed=1) for step in range(6)]
    for tasks in steps:
        for start in range(0, len(tasks), 4):
            group = tasks[start : start + 4]
            assert len({(t.prompt, tuple(t.order), t.item.id) for t in group}) == 1
            assert [t.sample for t in group] == [0, 1, 2, 3]
    assert len({t.seed for tasks in steps for t in tasks}) == 6 * len(items) * 4
    assert len({tuple(tasks[0].order) for tasks in steps}) == 2


def test_balanced_turns_do_not_follow_the_length_of_an_epoch(
    judge: Judge, make_items: Callable[..., list[Item]]
) -> None:
    balanced = replace(judge, config=replace(judge.config, order="balanced"))
    item = make_items("best_of_4", 1)
    met = [tasks_of_step(balanced, item, step, CONFIG, seed=1)[0] for step in range(0, 160, 4)]
    orders = Counter(tuple(task.order) for task in met)
    assert len(orders) == 4 and min(orders.values()) >= 3
    fixed = replace(judge, config=replace(judge.config, order="fixed"))
    met = [tasks_of_step(fixed, item, step, CONFIG, seed=1)[0] for step in range(8)]
    assert len({tuple(task.order) for task in met}) == 1


class Writer:
    """A sampler that writes principles, numbered by call, for some of the groups; else a box."""

    def __init__(self, model: lm.LM) -> None:
        self.model = model
        self.asked: list[Request] = []

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Completion:
        text = "Scores: \\boxed{8, 3}"
        if self.model.tokenizer.decode(request.prompt).startswith("<judge> self principles"):
            self.asked.append(request)
            if len(self.asked) % 3:
                text = f"Principles: safe {len(self.asked)}"
        ids = tuple(self.model.tokenizer.encode(text))
        return Completion(ids, (-1.0,) * (len(ids) + 1), "stop", end=self.model.end)


def test_every_group_writes_its_own_principles(
    talker: lm.LM, judge: Judge, make_items: Callable[..., list[Item]],
    sampler_config: SamplerConfig,
) -> None:  # fmt: skip
    asking = replace(judge, config=replace(judge.config, principles="query_only"))
    one, two = make_items("pair", 2)
    items = [one, two, one, replace(two, messages=one.messages)]
    writer = Writer(talker)

    def group_of(step: int) -> Rollouts:
        tasks = tasks_of_step(asking, items, step, CONFIG, seed=1)
        return sample_step(talker, writer, sampler_config, asking, tasks, group_size=4)

    group = group_of(0)
    rows = [rollout.row for rollout in group.members]
    texts = ["safe 1", "safe 2", None, "safe 4"]
    assert [row.principles for row in rows] == [text for text in texts for _ in range(4)]
    for rollout, row in zip(group.members, rows, strict=True):
        prompt = asking.prompt(rollout.task.item, row.order, principles=row.principles)
        assert rollout.task.prompt == prompt and rollout.prompt == talker.encode_prompt(prompt)
        assert row.principle_tokens > 0
    assert group.metrics()["without_principles_rate"] == 0.25
    assert {request.temperature for request in writer.asked} == {CONFIG.temperature}
    group_of(1)
    assert len({request.seed for request in writer.asked}) == 8  # anew at every step
    plain = sample_step(
        talker, writer, sampler_config, judge, tasks_of_step(judge, items, 0, CONFIG, 1), 4
    )
    assert len(writer.asked) == 8 and "without_principles_rate" not in plain.metrics()


def test_rewards_and_long_prompts(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig
) -> None:
    config = replace(sampler_config, max_new_tokens=10, max_prompt_tokens=24)
    tasks = tasks_of_step(judge, items, 0, CONFIG, seed=1)
    sampler = NativeSampler(talker, config)
    group = sample_step(talker, sampler, config, judge, tasks, group_size=4)
    assert group.rewards.shape == (7, 4)
    rewards = [1.0 if r.row.correct else -1.0 for r in group.members]
    assert group.rewards.flatten().tolist() == rewards and len(set(rewards)) == 2
    examples = group.examples()
    long = [len(r.prompt) > 24 for r in group.members]
    assert [example is None for example in examples] == long and 0 < sum(long) < 28
    for rollout, example in zip(group.members, examples, strict=True):
        if example is not None and rollout.completion is not None:
            ended = rollout.completion.finish == "stop"
            end = (talker.end,) if ended else ()
            assert example == Example(rollout.prompt, (*rollout.completion.ids, *end))
            assert len(example.completion) == len(rollout.completion.logprobs)
    metrics = group.metrics()
    invalid = sum(r.row.outcome != "ok" for r in group.members)
    assert metrics["invalid_rate"] == pytest.approx(invalid / 28) and invalid >= sum(long)
    assert metrics["prompt_too_long_rate"] == pytest.approx(sum(long) / 28)
    assert metrics["reward"] == pytest.approx(sum(rewards) / 28)
    assert metrics["dead_groups"] == pytest.approx(float(dead(group.rewards).float().mean()))
    pairs = rewards[:12]
    assert metrics["reward/pair"] == pytest.approx(sum(pairs) / 12)
    domains = {name.partition("/")[2] for name in metrics if name.startswith("reward/")}
    assert domains == {"pair", "best_of_4", "single"}
    assert {name.partition("/")[0] for name in metrics if "/" in name} == set(BY_DOMAIN)
    of_pairs = [r.row.completion_tokens for r in group.members[:12]]
    assert metrics["completion_tokens/pair"] == pytest.approx(sum(of_pairs) / 12)


# ---- the stage ---------------------------------------------------------------------------------

OVERRIDES = [
    "grpo.steps=4", "grpo.prompts_per_step=4", "grpo.checkpoint_every=1", "grpo.lr=3e-3",
    "grpo.log_samples_every=2", "grpo.warmup_steps=1", "grpo.micro_tokens=512",
    "grpo.allow_empty=true",
]  # fmt: skip


@pytest.fixture
def train(
    slice_of: Callable[..., Slice], make_items: Callable[..., list[Item]], tmp_path: Path
) -> Callable[..., Path]:
    path = tmp_path / "items.parquet"
    write_items(path, make_items("pair", 5) + make_items("single", 4))

    def run(name: str, *overrides: str, seed: int = 3) -> Path:
        out = tmp_path / name
        grpo.run(slice_of("grpo", *OVERRIDES, *overrides), seed, items=path, out=out)
        return out

    return run


def _lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``killed(n)``: the n-th step from here on (0-based) never ends; ``killed(-1)``: all do."""
    step_of = grpo.Trainer.step

    def at(count: int) -> None:
        left = count

        def step(self: grpo.Trainer, number: int) -> tuple:
            nonlocal left
            result = step_of(self, number)
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return result

        monkeypatch.setattr(grpo.Trainer, "step", step)

    return at


def test_interrupted_training_goes_on_bit_for_bit(
    train: Callable[..., Path], killed: Callable[[int], None], talker_folder: Path, tmp_path: Path
) -> None:
    straight = train("straight")
    assert artifact.check_dir(straight)["stage"] == "grpo"
    rows = _lines(straight)
    assert len(rows) == 4
    assert any(row["dead_groups"] < 1 for row in rows)
    for die_at in (0, 2):
        out = tmp_path / f"killed{die_at}"
        killed(die_at)
        with pytest.raises(KeyboardInterrupt):
            train(out.name)
        assert not out.exists()
        killed(-1)
        train(out.name)
        assert artifact.content_hash(out) == artifact.content_hash(straight)
        assert not (tmp_path / f"{out.name}.state").exists()
    samples = (straight / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in samples] == [0] * 4 + [2] * 4
    before, after = (
        (folder / "model.safetensors").read_bytes() for folder in (talker_folder, straight)
    )
    assert before != after


def test_the_seed_and_the_state_decide(
    train: Callable[..., Path], killed: Callable[[int], None], tmp_path: Path
) -> None:
    killed(2)
    with pytest.raises(KeyboardInterrupt):
        train("a", seed=4)
    killed(-1)
    resumed = train("a", seed=3)  # a state of seed 4 lies there
    assert len(_lines(resumed)) == 4
    assert artifact.content_hash(resumed) == artifact.content_hash(train("b", seed=3))
    assert artifact.content_hash(resumed) != artifact.content_hash(train("c", seed=4))


def test_without_kl_the_reference_is_not_loaded(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    load = lm.load
    monkeypatch.setattr(lm, "load", lambda *args, **more: loads.append(args) or load(*args, **more))
    train("a", "grpo.kl_coef=0", "grpo.steps=1")
    assert len(loads) == 1
    train("b", "grpo.steps=1")
    assert len(loads) == 3


def test_prompts_too_long_are_counted_not_crashed_on(train: Callable[..., Path]) -> None:
    few = "judge.max_too_long=1"
    rows = _lines(train("some", "sampler.max_prompt_tokens=20", "grpo.prompts_per_step=9", few))
    assert all(0 < row["prompt_too_long_rate"] < 1 for row in rows)
    rows = _lines(train("all", "sampler.max_prompt_tokens=2", "grpo.steps=2", few))
    assert [row["prompt_too_long_rate"] for row in rows] == [1.0, 1.0]
    assert [row["skipped_update"] for row in rows] == [1.0, 1.0]
    assert [row["reward"] for row in rows] == [-1.0, -1.0]


def test_gains_stay_with_their_rollouts(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, updates = [], []

    def rolled_out(*args: object) -> object:
        groups.append(sample_step(*args))  # type: ignore[arg-type]
        return groups[-1]

    def updated(_: object, __: object, examples: list, gains: Tensor, *___: object, **____: object):
        updates.append((examples, gains.tolist()))
        return {}

    monkeypatch.setattr(trainer, "sample_step", rolled_out)
    monkeypatch.setattr(learn, "update", updated)
    train("out", "sampler.max_prompt_tokens=20", "grpo.prompts_per_step=9", "grpo.std=none",
          "judge.max_too_long=1")  # fmt: skip
    for group, (examples, gains) in zip(groups, updates, strict=True):
        wanted = []
        for i, rollout in enumerate(group.members):
            mates = group.rewards[i // 4].tolist()
            if rollout.completion is not None:
                wanted.append((rollout.prompt, mates[i % 4] - sum(mates) / 4))
        assert [(e.prompt, g) for e, g in zip(examples, gains, strict=True)] == wanted
        assert len(wanted) < 36 and len({gain for _, gain in wanted}) > 2


def test_nan_stops_the_stage(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sequences, "advantages", lambda rewards, *_: rewards * float("nan"))
    with pytest.raises(FloatingPointError, match="grpo: loss is nan"):
        train("out")
    assert not (tmp_path / "out").exists()


def test_nothing_learned_stops_with_the_counts(train: Callable[..., Path]) -> None:
    with pytest.raises(StageStopped, match="all 6 groups were dead, 0% of them solved"):
        train("dead", "sampler.max_prompt_tokens=2", "grpo.steps=2", "grpo.prompts_per_step=3",
              "grpo.allow_empty=false", "judge.max_too_long=1")  # fmt: skip


def test_the_rollouts_temperature_is_the_log_probs(
    talker: lm.LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = choice.completion_logprobs

    def watched(model: nn.Module, groups: Any, temperature: float, chunk: int) -> Any:
        seen.append(temperature)
        return plain(model, groups, temperature, chunk)

    monkeypatch.setattr(choice, "completion_logprobs", watched)
    config = replace(CONFIG, temperature=0.7, updates_per_rollout=2)
    model = copy.deepcopy(talker.model)
    update(
        model, talker.model, [Example((4, 5), (6, 1)), Example((4, 5), (7, 1))],
        torch.tensor([1.0, -1.0]), Optimizer(model, learn.optim_config(config), 2), config,
        first_step=0, max_tokens=24, device=torch.device("cpu"),
    )  # fmt: skip
    assert seen == [0.7, 0.7, 0.7]  # the reference once, the policy at each update
