"""The supervised loop: a fixed list of steps, resumable after any of them, metrics by step."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spct.progress import Progress
from spct.schema import OptimConfig
from spct.tracking import MetricsLog
from spct.training.checkpoint import Checkpoint
from spct.training.optim import Optimizer

Loss = Callable[[int], tuple[Tensor, dict[str, float]]]


def fit(
    name: str,
    model: nn.Module,
    steps: int,
    loss_of: Loss,
    config: OptimConfig,
    checkpoint: Checkpoint,
    log: MetricsLog,
    *,
    checkpoint_every: int,
) -> None:
    """Minimise ``loss_of(step)`` for steps 0 to ``steps - 1``, from the newest checkpoint on.

    ``loss_of`` must depend on the step and the weights alone. Raises ``FloatingPointError`` on a
    loss or gradient that is not finite.
    """
    optimizer = Optimizer(model, config, steps)
    state = checkpoint.load()
    start = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
        print(f"{name}: continues from step {start}", file=sys.stderr)
    log.truncate(start)
    model.train()
    with Progress(name, steps, unit="steps") as bar:
        bar.add(start)
        for step in range(start, steps):
            loss, metrics = loss_of(step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{name}: loss is {loss.item()} at step {step}")
            loss.backward()
            norm = optimizer.step(step)
            log.write(step, {"loss": float(loss.detach()), "grad_norm": norm, **metrics})
            bar.add(1)
            if (step + 1) % checkpoint_every == 0 and step + 1 < steps:
                checkpoint.save(
                    step=step + 1, model=model.state_dict(), optimizer=optimizer.state_dict()
                )
    model.eval()
