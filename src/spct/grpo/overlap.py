"""One-step-off-policy training: the next rollouts are sampled while this step is learned from.

Step t learns from rollouts of weights t - 1, a version being the steps taken; those of step 0 are
its own. So sampling needs nothing of the update beside it, and which weights made a rollout hangs
on no clock: equal seeds give equal runs. The ratio of the trainer's to the sampler's probabilities,
truncated, corrects for the update between (:func:`spct.grpo.loss.importance_weights`).
Off-policy by one step as in arXiv 2410.18252.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from spct import lm
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo.refill import Filled, fill_up
from spct.grpo.rollout import Rollouts, items_from, sample_step, tasks_of_step
from spct.grpo.trainer import Trainer
from spct.records import Item
from spct.sampling.base import Completion, Request, Sampler, build
from spct.sampling.dealt import DealtSampler
from spct.sampling.refresh import Refreshable, check_versions, refresh
from spct.sampling.snapshot import Snapshot
from spct.training import parallel
from spct.training.world import World

LAG = 1  # updates between the weights that sample and those that learn


class Tape:
    """A sampler that notes what came back; what was ``noted`` before comes back once more first.

    So a state holds rollouts, not the weights that made them. ``seconds`` are the engine's own.
    """

    def __init__(self, sampler: Sampler, noted: Sequence[Completion] = ()) -> None:
        self.sampler, self.noted = sampler, list(noted)
        self.seconds = 0.0
        self._played = 0

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        if self._played == len(self.noted):
            begun = time.monotonic()
            self.noted += self.sampler.sample(requests)
            self.seconds += time.monotonic() - begun
        first, self._played = self._played, self._played + len(requests)
        return self.noted[first : self._played]


@dataclass
class _Ahead:
    """The rollouts of a step under way, and the seconds that the trainer waited for them."""

    step: int
    tape: Tape
    future: Future[Filled]
    waited: float = 0.0


class LaggingTrainer(Trainer):
    """A :class:`Trainer` of one process whose sampler works beside the update, on a second thread.

    An engine without weights of its own gets a copy of the policy, once more the memory of its
    weights; one with weights keeps them in device memory during the update. Whoever needs the
    engine or the state waits for the rollouts under way; an error in them is raised there. Of the
    timing, ``rollout`` is the waiting and ``overlap`` the sampler's seconds that no one waited for.
    """

    def __init__(
        self, cfg: Slice, seed: int, items: list[Item], init: str, aside: Path, world: World
    ) -> None:
        """Raises ``StageStopped`` in a world of several processes."""
        if world.size > 1:
            raise StageStopped(
                f"grpo.rollout_lag: 1 is for one process, not for {world.size}; set it to 0"
            )
        super().__init__(cfg, seed, items, init, aside, world)
        if not isinstance(self.engine, Refreshable):
            copy = lm.load(cfg.model, init)
            copy.model.requires_grad_(False)
            self.engine = Snapshot(copy, build(copy, cfg.sampler))
        self.sampler = DealtSampler(self.engine, cfg.sampler, world)
        # the thread computes on as many threads as this one: one in tier cpu
        threads = torch.get_num_threads()
        self._thread = ThreadPoolExecutor(1, "rollouts", torch.set_num_threads, (threads,))
        self._ahead: _Ahead | None = None
        self._sampler_seconds = self._overlap = 0.0  # of the last step's rollouts

    # ---- state -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """As :meth:`Trainer.state`, with the completions of the step ahead."""
        self._wait()
        ahead = self._ahead
        if ahead is None:
            return super().state() | {"ahead": None}
        noted = [asdict(completion) for completion in ahead.tape.noted]
        return super().state() | {"ahead": {"step": ahead.step, "completions": noted}}

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        super().load_state(state)
        assert state is not None  # a world of one
        self._ahead = None
        if (ahead := state["ahead"]) is not None:
            noted = [Completion(**fields) for fields in ahead["completions"]]
            self._start(ahead["step"], Tape(self.engine, noted))

    # ---- a step ------------------------------------------------------------------------------

    def step(self, step: int) -> tuple[dict[str, float], Rollouts]:
        """As :meth:`Trainer.step`; ``staleness`` is the mean lag of its rollouts, in updates."""
        metrics, rollouts = super().step(step)
        versions = [c.version for c in _completions(rollouts) if c.version is not None]
        if versions:
            metrics["staleness"] = step - sum(versions) / len(versions)
        return metrics, rollouts

    def timing(self) -> dict[str, float]:
        values = super().timing() | {"overlap": self._overlap}
        values.pop("sampled_tokens_per_s", None)  # by the seconds of waiting
        if self._sampler_seconds:
            values["sampled_tokens_per_s"] = self._work["sampled"] / self._sampler_seconds
        return values

    def _roll_out(self, step: int) -> Filled:
        """The rollouts of this step, those of the next one being under way from here on.

        Raises ``StageStopped`` if one of them is of other weights than those before the last step.
        """
        if self._ahead is None:
            with self._current(step):
                self._start(step, Tape(self.engine))
        self._wait()
        ahead, self._ahead = self._ahead, None
        assert ahead is not None and ahead.step == step
        filled = ahead.future.result()
        self._sampler_seconds = ahead.tape.seconds
        self._overlap = max(0.0, ahead.tape.seconds - ahead.waited)
        check_versions(self.engine, _completions(filled.rollouts), max(0, step - LAG))
        self.position += filled.prompts
        if step + 1 < self.config.steps:
            with self._current(step):
                self._start(step + 1, Tape(self.engine))
        return filled

    @contextmanager
    def _current(self, version: int) -> Iterator[None]:
        """The engine, free, with the weights of now. It does not rest: it samples in the update."""
        self._wait()
        with parallel.unsharded(self.policy.model):
            refresh(self.engine, self.policy, version)
            yield

    def _wait(self) -> None:
        if self._ahead is not None:
            with self.clock("rollout"):
                begun = time.monotonic()
                self._ahead.future.result()
                self._ahead.waited += time.monotonic() - begun

    def _start(self, step: int, tape: Tape) -> None:
        future = self._thread.submit(self._fill, step, self.position, tape)
        self._ahead = _Ahead(step, tape, future)

    def _fill(self, step: int, position: int, tape: Tape) -> Filled:
        """A step's rollouts, sampled and rewarded; on the second thread."""
        config = self.config

        def draw(first: int, count: int) -> Rollouts:
            chosen = items_from(self.items, position + first, count, self.seed)
            tasks = tasks_of_step(self.judge, chosen, step, config, self.seed, first)
            size = config.group_size
            return sample_step(self.policy, tape, self.cfg.sampler, self.judge, tasks, size)

        try:
            return fill_up(draw, config.prompts_per_step, config.refill)
        except torch.OutOfMemoryError as error:
            raise StageStopped(
                f"grpo: out of memory while sampling for step {step} beside the update; lower "
                f"sampler.batch_size, now {self.cfg.sampler.batch_size}, or set grpo.rollout_lag=0"
            ) from error


def _completions(rollouts: Rollouts) -> list[Completion]:
    return [member.completion for member in rollouts.members if member.completion is not None]
