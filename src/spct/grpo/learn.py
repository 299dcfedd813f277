"""The update of a step with what can go wrong in it: memory, NaN."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spct import lm, seeds
from spct.errors import StageStopped
from spct.grpo import dump
from spct.grpo.sequences import Sequences
from spct.grpo.timing import Clock, needed_tokens
from spct.grpo.trace import Trace
from spct.grpo.update import update
from spct.schema import GrpoConfig, OptimConfig
from spct.training import parallel, whole
from spct.training.optim import Optimizer
from spct.training.world import World

MICRO = "micro_tokens"  # the setting that bounds a forward pass


def optim_config(config: GrpoConfig) -> OptimConfig:
    """AdamW as GRPO uses it."""
    return OptimConfig(
        name="adamw",
        lr=config.lr,
        muon_lr=0.0,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        final_lr=config.final_lr,
        max_grad_norm=config.max_grad_norm,
    )


class Learner:
    """The optimiser of the policy, and the micro-batch that fits."""

    def __init__(
        self,
        policy: lm.LM,
        reference: nn.Module | None,
        config: GrpoConfig,
        seed: int,
        clock: Clock,
        origin: dump.Origin,
        world: World,
    ) -> None:
        self.policy, self.reference, self.config = policy, reference, config
        self.seed, self.clock, self.origin, self.world = seed, clock, origin, world
        total = config.steps * config.updates_per_rollout
        self.optimizer = Optimizer(policy.model, optim_config(config), total)
        self.halved = False
        self._begun = 0  # optimiser steps
        self.optimizer.inner[0].register_step_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self._begun += 1

    def state(self) -> dict[str, Any]:
        """The optimiser's state, whole on the main process, and the micro-batch in use."""
        return {
            "optimizer": whole.gathered(self.optimizer.state_dict(), self.world),
            "micro": getattr(self.config, MICRO),
            "halved": self.halved,
        }

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a :meth:`state`, None but on the main process."""
        states = None if state is None else state["optimizer"]
        whole.load_optimizers(self.optimizer.inner, states, self.world)
        told = None if state is None else (state["micro"], state["halved"])
        micro, self.halved = self.world.from_main(told)
        self.config = replace(self.config, **{MICRO: micro})

    def learn(self, sequences: Sequences, step: int) -> dict[str, float]:
        """Update the policy; what :func:`spct.grpo.update.update` and the trace say of it.

        Whatever the model draws (dropout) is seeded by the step. Out of memory, a process that is
        alone halves its micro-batch once for the rest of the run (``out_of_memory`` is then 1 at
        this step). Raises ``StageStopped`` naming the setting if that does not do, or on the one of
        several processes that has no memory left; ``FloatingPointError``, on all of them, on a loss
        or gradient that is not finite, with the batch dumped for replay.
        """
        if not len(sequences):
            return {"skipped_update": 1.0}
        trace = Trace(sequences.sampler, self.clock)
        self.policy.model.train()
        begun = self._begun
        values: dict[str, float] | None
        try:
            values = self._update(sequences, trace, step)
        except FloatingPointError as error:
            path = self._dump(sequences, trace, step)
            raise FloatingPointError(f"{error}; {dump.told(path, step)}") from error
        except torch.OutOfMemoryError as error:
            self._make_room(step, self._begun > begun, error)
            values = None
        if values is None:  # outside the handler, which holds on to the tensors of the failed pass
            return self.learn(sequences, step) | {"out_of_memory": 1.0}
        trace.gather(self.world)
        bounds = self.config.clip_low, self.config.clip_high
        values |= trace.metrics(sequences.domains, sequences.advantages, *bounds)
        return values | self._read(sequences)

    def _read(self, sequences: Sequences) -> dict[str, float]:
        """Tokens that the policy's updates and the reference read, for training compute."""
        needed = needed_tokens(sequences.examples)
        return {
            "update_tokens": float(needed * self.config.updates_per_rollout),
            "reference_tokens": float(needed * (self.reference is not None)),
        }

    def _update(self, sequences: Sequences, trace: Trace, step: int) -> dict[str, float]:
        own = [self.world.rank] if self.world.rank else []  # the first draws as one alone does
        torch.manual_seed(seeds.derive(self.seed, "grpo update", step, *own))
        return update(
            self.policy.model,
            self.reference,
            sequences.examples,
            sequences.advantages,
            self.optimizer,
            self.config,
            first_step=step * self.config.updates_per_rollout,
            max_tokens=self.origin.max_tokens,
            device=self.world.device,
            totals=sequences.totals,
            trace=trace,
            world=self.world,
        )

    def _dump(self, sequences: Sequences, trace: Trace, step: int) -> Path:
        """Keep a step that failed on all processes alike."""
        trace.gather(self.world)
        weights = whole.weights(self.policy.model, self.world)
        self.world.on_main(dump.write, self.origin, weights, self.config, sequences, trace, step)
        return self.origin.file(step)

    def _make_room(self, step: int, stepped: bool, error: torch.OutOfMemoryError) -> None:
        """Halve the micro-batch, or say that it must be lowered by hand.

        An update that has changed weights cannot be repeated, nor one in which other processes wait
        for this one.
        """
        size = getattr(self.config, MICRO)
        if self.world.size > 1 or self.halved or stepped or size == 1:
            way_out = f"grpo.{MICRO}, now {size}" if size > 1 else "sampler.max_new_tokens"
            raise StageStopped(
                f"grpo: out of memory in the update of step {step}; lower {way_out}"
            ) from error
        self.config, self.halved = replace(self.config, **{MICRO: size // 2}), True
        for model in (self.policy.model, self.reference):
            if model is not None:
                parallel.recover(model)
        for parameter in self.optimizer.parameters:
            parameter.grad = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"grpo: out of memory in the update of step {step}; grpo.{MICRO} is halved to "
            f"{size // 2} from here on",
            file=sys.stderr,
        )
