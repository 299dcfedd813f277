"""One policy update from a step's rollouts: micro-batches, reference log-probs, optimiser steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spct.grpo.loss import objective
from spct.schema import GrpoConfig
from spct.training.batching import Batch, Example, collate, completion_logprobs
from spct.training.optim import Optimizer


@dataclass
class _Micro:
    """A micro-batch with what stays fixed over the updates of a rollout."""

    batch: Batch
    advantages: Tensor  # [S]
    sequence: Tensor  # [N] owner of each completion token
    reference: Tensor | None  # [N]
    old: Tensor | None = None  # [N], set by the first update


def _micro_batches(
    examples: Sequence[Example],
    advantages: Tensor,
    reference: nn.Module | None,
    config: GrpoConfig,
    pad: int,
    device: torch.device,
) -> list[_Micro]:
    """Sequences of similar length together; reference log-probs once, without gradients."""
    ranked = sorted(range(len(examples)), key=lambda i: (len(examples[i]), i))
    result = []
    size = config.micro_batch
    for start in range(0, len(ranked), size):
        chosen = ranked[start : start + size]
        batch = collate([examples[i] for i in chosen], pad, device)
        frozen = None
        if reference is not None:
            with torch.no_grad():
                frozen = completion_logprobs(reference, batch, config.temperature)
        sequence = torch.repeat_interleave(
            torch.arange(len(chosen), device=device), torch.tensor(batch.lengths, device=device)
        )
        result.append(_Micro(batch, advantages[chosen].to(device), sequence, frozen))
    return result


def update(
    policy: nn.Module,
    reference: nn.Module | None,
    examples: Sequence[Example],
    advantages: Tensor,
    optimizer: Optimizer,
    config: GrpoConfig,
    *,
    first_step: int,
    pad: int,
    device: torch.device,
) -> dict[str, float]:
    """``updates_per_rollout`` optimiser steps on all sequences; returns loss, KL, clip share, norm.

    ``advantages`` [S] one per example. Log-probs are of the distribution sampled from, at the
    rollouts' temperature. The log-probs of the first update are the old ones, so a
    single update needs no pass of its own for them. Raises ``FloatingPointError`` on a loss or
    gradient that is not finite.
    """
    micros = _micro_batches(examples, advantages, reference, config, pad, device)
    count = len(examples)
    totals: dict[str, float] = {}
    for number in range(config.updates_per_rollout):
        totals = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0}
        for micro in micros:
            logprobs = completion_logprobs(policy, micro.batch, config.temperature)
            if micro.old is None:
                micro.old = logprobs.detach()
            terms = objective(
                logprobs,
                micro.old,
                micro.reference,
                micro.advantages,
                micro.sequence,
                clip=config.clip,
                kl_coef=config.kl_coef,
            )
            if not torch.isfinite(terms.loss):
                raise FloatingPointError(f"grpo: loss is {terms.loss.item()}; lower grpo.lr")
            (terms.loss / count).backward()
            totals["loss"] += float(terms.loss.detach()) / count
            totals["kl"] += float(terms.kl) / count
            totals["clip_fraction"] += float(terms.clipped) / count
        totals["grad_norm"] = optimizer.step(first_step + number)
    return totals
