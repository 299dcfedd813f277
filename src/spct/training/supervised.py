"""The supervised loop: seeded steps, resumable after any of them, on one process or several."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from spct import seeds
from spct.errors import StageStopped
from spct.preempt import Preempted, notice
from spct.progress import Progress
from spct.schema import OptimConfig
from spct.tracking import MetricsLog
from spct.training import choice, parallel, whole
from spct.training.batching import Example
from spct.training.checkpoint import Checkpoint
from spct.training.optim import Optimizer
from spct.training.precision import Precision
from spct.training.steps import Pass, compose, dealt
from spct.training.world import World

Shares = dict[str, Tensor]
"""What a pass adds to the step's ``loss`` and to whatever else is logged: scalars."""


class Loss(Protocol):
    """A loss by shares."""

    def __call__(self, model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        """The shares of pass ``one``; ``chosen`` are the places of all the step's examples."""


class Spec(Protocol):
    """The part of ``conf/rft`` and ``conf/metarm`` that says how to fit."""

    optim: OptimConfig
    epochs: float
    batch_tokens: int
    micro_tokens: int
    recompute: bool
    checkpoint_every: int


def fit(
    name: str,
    model: nn.Module,
    examples: Sequence[Example],
    loss_of: Loss,
    spec: Spec,
    checkpoint: Checkpoint,
    log: MetricsLog,
    *,
    seed: int,
    world: World,
    precision: Precision,
) -> None:
    """Minimise the loss over the steps of :func:`spct.training.steps.compose`, from the newest
    checkpoint on.

    All processes call it with the same arguments and a model in ``precision.weights``, which is
    sharded if there are several. ``loss_of`` must depend on its arguments and random draws alone:
    dropout is seeded by the step. Raises ``FloatingPointError`` on a loss or gradient that is not
    finite, before any weight changes, ``StageStopped`` out of memory or without a step to take, and
    ``Preempted`` after SIGTERM, with the steps so far kept.
    """
    steps = compose(examples, spec.epochs, spec.batch_tokens, seed)
    if not steps:
        raise StageStopped(
            f"{name}: {spec.epochs:g} epochs of {len(examples)} examples are no step; raise epochs "
            "or lower batch_tokens"
        )
    shared = world.from_main(choice.serves(model))  # every process must ask before sharding
    parallel.shard(model, world, precision, recompute=spec.recompute)
    optimizer = Optimizer(model, spec.optim, len(steps))
    start = _resume(name, model, optimizer, checkpoint, world)
    world.on_main(log.truncate, start)
    model.train()
    with Progress(name, len(steps), unit="steps", quiet=not world.main) as bar, notice() as term:
        bar.add(start)
        for step in range(start, len(steps)):
            torch.manual_seed(seeds.derive(seed, "fit", step, world.rank))
            own = dealt(examples, steps[step], spec.micro_tokens, world, shared=shared)
            try:
                values = _backward(model, own, partial(loss_of, chosen=steps[step]), world)
            except torch.OutOfMemoryError as error:
                raise StageStopped(
                    f"{name}: out of memory at step {step}; lower micro_tokens, "
                    f"now {spec.micro_tokens}, or set recompute=true"
                ) from error
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(f"{name}: loss is {values['loss']} at step {step}")
            norm = optimizer.step(step)
            if world.main:
                log.write(step, {"loss": values.pop("loss"), "grad_norm": norm, **values})
            bar.add(1)
            leave = any(world.gather(term.asked))
            due = (step + 1) % spec.checkpoint_every == 0 and step + 1 < len(steps)
            if leave or due:
                _save(step + 1, model, optimizer, checkpoint, world)
            if leave:
                raise Preempted(f"{name}: ended by SIGTERM after {step + 1} steps, which are kept")
    model.eval()


def _backward(
    model: nn.Module, own: Sequence[Pass], loss_of: Callable[..., Shares], world: World
) -> dict[str, float]:
    """Gradients of a step; its values, summed over the passes of all processes."""
    parts = []
    for number, one in enumerate(own, 1):
        shares = parallel.through(model, partial(loss_of, one=one))
        if one.idle:
            shares = {name: share * 0 for name, share in shares.items()}
        parallel.backward(model, shares["loss"], world, last=number == len(own))
        parts.append({name: share.detach() for name, share in shares.items()})
    return world.totals(
        {name: float(torch.stack([part[name] for part in parts]).sum()) for name in parts[0]}
    )


def _resume(
    name: str, model: nn.Module, optimizer: Optimizer, checkpoint: Checkpoint, world: World
) -> int:
    """Load the newest checkpoint, if there is one; the steps it has taken."""
    state = world.on_main(checkpoint.load)
    start = world.from_main(0 if state is None else int(state["step"]))
    if start:
        weights, moments = (None, None) if state is None else (state["model"], state["optimizer"])
        whole.load_model(model, weights, world)
        whole.load_optimizers(optimizer.inner, moments, world)
        if world.main:
            print(f"{name}: continues from step {start}", file=sys.stderr)
    return start


def _save(
    step: int, model: nn.Module, optimizer: Optimizer, checkpoint: Checkpoint, world: World
) -> None:
    weights = whole.weights(model, world)
    moments = whole.gathered(optimizer.state_dict(), world)
    world.on_main(checkpoint.save, step, model=weights, optimizer=moments)
