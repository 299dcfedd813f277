"""Samples, tokens and FLOPs of every piece of a run's work, from the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from spct.planning import assumed
from spct.planning.assumed import Items, Lengths
from spct.planning.shapes import Shape, shape_of
from spct.runs import Node, Runs
from spct.schema import Config


@dataclass(frozen=True)
class Work:
    """What one piece of work does, for one seed.

    ``prompt_tokens`` count a prompt once for all samples of one order; ``trained_tokens`` are those
    that pass forward and backward, a shared prompt once. ``flops`` are 2 a weight and token forward
    and 4 backward; attention over the context is left out. ``shape`` is None without a model.
    """

    node: Node
    items: float
    samples: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    trained_tokens: float = 0.0
    sampling_flops: float = 0.0
    training_flops: float = 0.0
    steps: int = 0
    jobs: int = 1
    shape: Shape | None = None
    sources: list[str] = field(default_factory=list)

    @property
    def flops(self) -> float:
        return self.sampling_flops + self.training_flops

    @property
    def tokens(self) -> float:
        """Tokens that pass the model, sampled or trained on."""
        return self.prompt_tokens + self.completion_tokens + self.trained_tokens


def orders(n: int, samples: float) -> float:
    """Distinct orders of ``n`` responses among independent draws, so prompts of an item."""
    every = math.factorial(n)
    return every * (1 - (1 - 1 / every) ** samples)


class Planner:
    """Estimates of one run's work, for one seed."""

    def __init__(self, runs: Runs, name: str, lengths: Lengths | None = None) -> None:
        self.runs, self.run = runs, runs.runs[name]
        self.cfg = self.run.cfg
        self.lengths: Lengths = lengths or assumed.lengths(self.cfg)
        self.train: Items = assumed.training_items(self.cfg)
        self.bench: Items = assumed.bench_items(self.cfg)

    def having(self, lengths: Lengths) -> Planner:
        """The same with measured lengths instead of those assumed of such data."""
        return Planner(self.runs, self.run.name, lengths)

    def works(self) -> list[Work]:
        """Every piece of work of the run, upstream first."""
        return [self.work(node) for node in self.runs.work(self.run.name)]

    def work(self, node: Node) -> Work:
        """One piece of work."""
        kinds: dict[str, Callable[[Node], Work]] = {
            "rollout": self._rollout,
            "rollout_policy": self._rollout_policy,
            "judge": self._judge,
            "score": self._score,
            "token_prob": self._score,
            "rft": self._rft,
            "grpo": self._grpo,
            "metarm": self._metarm,
            "baseline": self._baseline,
            "baseline_score": self._baseline_score,
        }
        return kinds.get(node.stage, self._plain)(node)

    # ---- work without a model

    def _plain(self, node: Node) -> Work:
        return Work(node, self.train.total, sources=[f"items: {self.train.source}"])

    # ---- sampling

    def _sampling(
        self,
        node: Node,
        cfg: Config,
        items: Items,
        each: Mapping[int, float],
        sources: list[str],
        hinted: int = 0,
    ) -> Work:
        """``each``: samples of an item by its number of responses; ``hinted``: more of those with
        several, whose prompts are their own."""
        shape = shape_of(cfg.model.source)
        random = cfg.judge.order == "random"
        samples = prompts = 0.0
        for n, count in items.by_responses.items():
            for drawn in (each[n], hinted if n > 1 else 0):
                samples += count * drawn
                prompts += count * (orders(n, drawn) if random else min(drawn, n))
        said, shown = samples * self.lengths.completion, prompts * self.lengths.prompt
        return Work(
            node, items.total, samples, shown, said,
            sampling_flops=2.0 * shape.active * (said + shown),
            shape=shape,
            jobs=len(self.runs.bank(self.run.name, 0, node)),
            sources=[
                *(f"items: {items.source}", *sources),
                f"lengths: prompt {self.lengths.prompt:g}, judgement {self.lengths.completion:g}",
            ],
        )  # fmt: skip

    def _rollout(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        spec = cfg.rollout
        each = dict.fromkeys(self.train.by_responses, float(spec.n_rft))
        told = f"samples: rollout.n_rft={spec.n_rft}, rollout.hinted={spec.hinted} where n > 1"
        return self._sampling(node, cfg, self.train, each, [told], spec.hinted)

    def _rollout_policy(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        spec, policies = cfg.rollout_policy, len(self.runs.tuned(self.run.name, 0, node.size))
        share = min(1.0, spec.items / self.train.total) if spec.items else 1.0
        counts = {n: count * share for n, count in self.train.by_responses.items()}
        items = Items(counts, f"{self.train.source}; rollout_policy.items={spec.items}")
        each = dict.fromkeys(counts, float(spec.n_samples * policies))
        told = f"samples: rollout_policy.n_samples={spec.n_samples} of {policies} policies"
        return self._sampling(node, cfg, items, each, [told])

    def _judge(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        each = dict.fromkeys(self.bench.by_responses, cfg.bench.k_max + float(cfg.bench.greedy))
        told = f"samples: bench.k_max={cfg.bench.k_max}, bench.greedy={cfg.bench.greedy}"
        return self._sampling(node, cfg, self.bench, each, [told])

    def _score(self, node: Node) -> Work:
        """A bank is read once: by the meta RM, or by its own judge for probabilities."""
        judged = self._judge(Node("judge", node.size, node.policy))
        reader = self.cfg.plan.metarm if node.stage == "score" else node.size
        shape = shape_of(self.run.at(reader).model.source)
        flops = 2.0 * shape.active * (judged.prompt_tokens + judged.completion_tokens)
        return Work(
            node, judged.items, judged.samples, judged.prompt_tokens, judged.completion_tokens,
            sampling_flops=flops, shape=shape, jobs=judged.jobs if node.stage == "score" else 1,
            sources=[f"as judge/{node.policy}-{node.size}, read once by {reader}"],
        )  # fmt: skip

    # ---- training

    def _rft(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        spec, rolled = cfg.rft, self._rollout(Node("rollout", node.size))
        kept = rolled.samples * self.lengths.kept
        there = assumed.general_texts(self.cfg)
        wanted = kept * spec.general_share / (1 - spec.general_share)
        general = min(wanted, there.value)
        row = self.lengths.prompt + self.lengths.completion
        tokens = spec.epochs * (kept * row + general * self.lengths.general)
        return self._trained(
            node, cfg, kept + general, tokens, spec.recompute, spec.batch_tokens,
            [
                f"rows: {self.lengths.kept:.1%} of the rollouts kept (see below)",
                f"general text: rft.general_share={spec.general_share} of {there.source}",
                f"tokens: rft.epochs={spec.epochs}; general text of {self.lengths.general:g}; "
                "a prompt with each row",
            ],
        )  # fmt: skip

    def _metarm(self, node: Node) -> Work:
        cfg, main = self.run.at(node.size), self.cfg.plan.main
        above = self.runs.upstream(self.run.name, node)
        banks = [self.work(other) for other in above if other.stage != "prepare"]
        hinted = self.train.hintable * self.run.at(main).rollout.hinted
        rows = sum(bank.samples for bank in banks) - hinted
        rows *= self.lengths.readable * (1 - cfg.metarm.dev_share)
        tokens = cfg.metarm.epochs * rows * (self.lengths.prompt + self.lengths.completion)
        told = [
            f"rows: plain rollouts and rollout_policy, readable ones ({self.lengths.readable:.0%})",
            f"tokens: metarm.epochs={cfg.metarm.epochs}, metarm.dev_share={cfg.metarm.dev_share}; "
            "a prompt with each row",
        ]
        spec = cfg.metarm
        return self._trained(node, cfg, rows, tokens, spec.recompute, spec.batch_tokens, told)

    def _baseline(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        spec = cfg.baseline
        rows = sum(n * count for n, count in self.train.by_responses.items() if n > 1)
        rows *= 1 - spec.dev_share
        tokens = spec.epochs * rows * self.lengths.prompt
        told = [f"rows: a response each of {self.train.source}; tokens: baseline.epochs"]
        told += ["the critiques of cloud are not counted"] if node.policy == "cloud" else []
        return self._trained(node, cfg, rows, tokens, spec.recompute, spec.batch_tokens, told)

    def _baseline_score(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        shape = shape_of(cfg.model.source)
        rows = sum(n * count for n, count in self.bench.by_responses.items())
        shown = rows * self.lengths.prompt
        return Work(
            node, self.bench.total, rows, shown,
            sampling_flops=2.0 * shape.active * shown, shape=shape,
            sources=[f"items: {self.bench.source}; one pass a response"],
        )  # fmt: skip

    def _trained(
        self,
        node: Node,
        cfg: Config,
        rows: float,
        tokens: float,
        recompute: bool,
        batch_tokens: int,
        sources: list[str],
    ) -> Work:
        shape = shape_of(cfg.model.source)
        steps = max(1, round(tokens / batch_tokens))
        return Work(
            node, rows, trained_tokens=tokens, steps=steps, shape=shape,
            training_flops=shape.active * tokens * (8.0 if recompute else 6.0),
            sources=[*sources, _recompute(recompute)],
        )  # fmt: skip

    def _grpo(self, node: Node) -> Work:
        cfg = self.run.at(node.size)
        spec, shape = cfg.grpo, shape_of(cfg.model.source)
        groups = float(spec.steps * spec.prompts_per_step)
        rollouts = groups * spec.group_size
        said = rollouts * self.lengths.completion
        each = orders(2, spec.group_size) if spec.swap_orders else 1.0
        shown = groups * each * self.lengths.prompt
        learned = (shown + said) * spec.updates_per_rollout
        passes = 8.0 if spec.recompute else 6.0
        reference = 2.0 * (shown + said) * shape.active if spec.kl_coef else 0.0
        return Work(
            node, min(groups, self.train.total), rollouts, shown, said, learned,
            sampling_flops=2.0 * shape.active * (shown + said),
            training_flops=shape.active * learned * passes + reference,
            steps=spec.steps, shape=shape,
            sources=[
                f"samples: grpo.steps={spec.steps} x grpo.prompts_per_step="
                f"{spec.prompts_per_step} x grpo.group_size={spec.group_size}",
                f"lengths: prompt {self.lengths.prompt:g}, judgement {self.lengths.completion:g}",
                "tokens: a group's prompt once" + ("; a reference too" if spec.kl_coef else ""),
                _recompute(spec.recompute),
            ],
        )  # fmt: skip


def _recompute(recompute: bool) -> str:
    return f"FLOPs: {8 if recompute else 6} a weight and token (recompute={recompute})"
