"""One step of training after the other: roll out, reward, update; and the state in between.

What is left out on purpose: no format reward, no value model, no old-policy pass for a single
update, no entropy bonus. All randomness is seeded by name, so what a step does is a function of the
state before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spct import lm
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo.dump import Origin
from spct.grpo.evaluate import ACCURACY, evaluate, split
from spct.grpo.learn import Learner
from spct.grpo.refill import Filled, fill_up
from spct.grpo.rollout import Rollouts, items_from, sample_step, tasks_of_step
from spct.grpo.sequences import Sequences
from spct.grpo.timing import Clock, TimedSampler, matmul_throughput, needed_tokens, rates
from spct.judge.task import Judge
from spct.records import Item
from spct.sampling.apart import ApartSampler, own_gpu
from spct.sampling.base import Sampler, build, needs_weights
from spct.sampling.dealt import DealtSampler
from spct.sampling.limits import survey
from spct.sampling.refresh import check_versions, fresh
from spct.training import choice, held, parallel, whole
from spct.training.precision import Precision
from spct.training.world import World

SURVEYED = 2000  # items whose prompts are measured before training: enough to tell a share


@dataclass
class Best:
    """The weights with the highest held-out accuracy so far; of equal ones the earliest."""

    step: int  # steps taken
    accuracy: float
    model: Mapping[str, Tensor] | None  # whole; None but on the main process


class Trainer:
    """Policy, reference, judge and sampler of a run. ``aside``: folder for a step that fails.

    Every process of the ``world`` has one and calls all of its methods, in the same order.
    """

    def __init__(
        self, cfg: Slice, seed: int, items: list[Item], init: str, aside: Path, world: World
    ) -> None:
        self.cfg, self.config, self.seed, self.world = cfg, cfg.grpo, seed, world
        self.items, self.held_out = split(items, self.config.eval_items, seed)
        self.precision = Precision.of(cfg.model.dtype, world.device)
        self.policy = self._load(init, trained=True)
        reference = None
        if self.config.kl_coef != 0:
            reference = self._load(init, trained=False).model
        self.judge = Judge.build(cfg.judge, self.policy.marks)
        self._hold_prompts()
        self.clock = Clock()
        self.engine = self._engine(init)
        self.sampler = DealtSampler(self.engine, cfg.sampler, world)
        origin = Origin(aside, cfg.model, init, cfg.sampler.max_new_tokens)
        self.learner = Learner(self.policy, reference, self.config, seed, self.clock, origin, world)
        self.position = 0  # prompts drawn so far
        self.best: Best | None = None
        self._work = {"sampled": 0, "needed": 0}  # tokens of the last step

    def _load(self, init: str, *, trained: bool) -> lm.LM:
        """The model at ``init``, sharded where the world or the precision asks for it."""
        loaded = lm.load(
            self.cfg.model, init, dtype=self.precision.weights, place=self.world.loads_on
        )
        if trained:  # these run the model too
            sampled = self.cfg.sampler.max_prompt_tokens + self.cfg.sampler.max_new_tokens
            held.check(loaded.model, loaded.source, min(sampled, loaded.context or sampled))
            if self.config.colocate and needs_weights(self.cfg.sampler):
                build(loaded, self.cfg.sampler)
        loaded.model.requires_grad_(trained)
        choice.serves(loaded.model)  # runs the model, which must still be whole for that
        recompute = trained and self.config.recompute
        parallel.shard(loaded.model, self.world, self.precision, recompute=recompute)
        return loaded

    def _hold_prompts(self) -> None:
        """Raises ``StageStopped`` if too many prompts of the first items to come do not fit."""
        planned = min(self.config.steps * self.config.prompts_per_step, len(self.items), SURVEYED)
        first = items_from(self.items, 0, planned, self.seed)
        alone, name = replace(self.config, group_size=1), f"grpo {self.cfg.model.name}"
        for title, some in ((name, first), (f"{name}, held out", self.held_out[:SURVEYED])):
            tasks = tasks_of_step(self.judge, some, 0, alone, self.seed)
            survey(title, self.policy, self.cfg.sampler, tasks, self.cfg.judge.max_too_long)

    def _engine(self, init: str) -> Sampler:
        if self.config.colocate:
            return build(self.policy, self.cfg.sampler)
        return ApartSampler(self.cfg.model, init, self.cfg.sampler, own_gpu())

    # ---- state -------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The policy's, whole on the main process."""
        return whole.weights(self.policy.model, self.world)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, whole on the main process."""
        return {
            "model": self.weights(),
            "learner": self.learner.state(),
            "position": self.position,
            "best": None if self.best is None else vars(self.best),
        }

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a :meth:`state`, None but on the main process."""
        whole.load_model(self.policy.model, state and state["model"], self.world)
        self.learner.load_state(state and state["learner"])
        best = state and state["best"]
        numbers = None if best is None else (best["step"], best["accuracy"])
        told = None if state is None else (state["position"], numbers)
        self.position, numbers = self.world.from_main(told)
        self.best = None
        if numbers is not None:
            self.best = Best(*numbers, model=None if best is None else best["model"])

    def take_best(self) -> dict[str, Any]:
        """Go back to the best weights with ``keep: best``; what the manifest says of them."""
        if self.best is None:
            return {}
        whole.load_model(self.policy.model, self.best.model, self.world)
        return {"kept_step": self.best.step, ACCURACY: self.best.accuracy}

    # ---- a step ------------------------------------------------------------------------------

    def step(self, step: int) -> tuple[dict[str, float], Rollouts]:
        """One round of rollouts and updates; its metrics and its rollouts.

        Raises as :meth:`spct.grpo.learn.Learner.learn`, and ``StageStopped`` if sampling runs out
        of memory.
        """
        config = self.config
        with self.clock("reward"):  # less the sampler's own seconds
            filled = self._roll_out(step)
        metrics = filled.rollouts.metrics()
        if config.refill:
            metrics |= filled.metrics(config.prompts_per_step)
        if config.skip_dead:
            metrics["skipped_groups"] = float(sum(filled.learned.dead()))
        sequences = Sequences.of(filled.learned, config)
        with self.clock("update"):
            metrics |= self.learner.learn(sequences, step)
        if config.eval_every and ((step + 1) % config.eval_every == 0 or step + 1 == config.steps):
            with self.clock("eval"):
                metrics |= self._evaluate(step)
        self._work = {
            "sampled": sum(m.row.completion_tokens for m in filled.rollouts.members),
            "needed": needed_tokens(sequences.examples),
        }
        return metrics, filled.rollouts

    def timing(self) -> dict[str, float]:
        """Seconds by phase since the last call and the rates of the last step."""
        seconds = self.clock.take()
        one = matmul_throughput(self.world.device.type, self.precision.compute)
        return seconds | rates(
            seconds,
            **self._work,
            params=self.policy.params,
            updates=self.config.updates_per_rollout,
            reference=self.learner.reference is not None,
            throughput=one * self.world.size,
        )

    @contextmanager
    def _current(self, version: int) -> Iterator[None]:
        """Whole weights, in the engine of the sampler too; ``version`` is the steps taken."""
        with parallel.unsharded(self.policy.model), fresh(self.engine, self.policy, version):
            yield

    def _roll_out(self, step: int) -> Filled:
        self.policy.model.eval()
        sampler = TimedSampler(self.sampler, self.clock)

        def draw(first: int, count: int) -> Rollouts:
            chosen = items_from(self.items, self.position + first, count, self.seed)
            tasks = tasks_of_step(self.judge, chosen, step, self.config, self.seed, first)
            size = self.config.group_size
            rollouts = sample_step(self.policy, sampler, self.cfg.sampler, self.judge, tasks, size)
            # a reward function that fails now and then must fail for all processes alike
            agreed = self.world.from_main((rollouts.rewards, rollouts.valid))
            return Rollouts(rollouts.members, *agreed)

        try:
            with self._current(step):
                filled = fill_up(draw, self.config.prompts_per_step, self.config.refill)
        except torch.OutOfMemoryError as error:
            raise StageStopped(
                f"grpo: out of memory while sampling for step {step}; "
                f"lower sampler.batch_size, now {self.cfg.sampler.batch_size}"
            ) from error
        sampled = [member.completion for member in filled.rollouts.members if member.completion]
        check_versions(self.engine, sampled, step)
        self.position += filled.prompts
        return filled

    def _evaluate(self, step: int) -> dict[str, float]:
        self.policy.model.eval()
        with self._current(step + 1):
            values = evaluate(
                self.policy, self.sampler, self.cfg.sampler, self.judge, self.held_out, self.seed
            )
        accuracy = values.get(ACCURACY, float("-inf"))
        if self.config.keep == "best" and (self.best is None or accuracy > self.best.accuracy):
            weights = self.weights()
            copies = None
            if self.world.main:
                copies = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self.best = Best(step + 1, accuracy, copies)
        return values
