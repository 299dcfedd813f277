"""The GRPO objective. Pure functions of log-probabilities; nothing here knows a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Per-token estimate ``exp(d) - d - 1`` with ``d = reference - logprobs`` (k3, nats, >= 0).

    The estimator of DeepSeekMath Eq. 4, unbiased under the policy. The paper does not name its own.
    """
    gap = reference - logprobs
    return torch.exp(gap) - gap - 1.0


def sequence_mean(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Mean of ``values`` [N] within each sequence, [count]; ``sequence`` [N] gives the owners."""
    total = torch.zeros(count, dtype=values.dtype, device=values.device)
    tokens = torch.zeros_like(total)
    total = total.index_add(0, sequence, values)
    tokens = tokens.index_add(0, sequence, torch.ones_like(values))
    return total / tokens.clamp(min=1)


@dataclass(frozen=True)
class Terms:
    """Sums over sequences of what the log shows, and the loss to differentiate."""

    loss: Tensor  # scalar: sum over the sequences given, to be divided by the batch's count
    kl: Tensor  # sum over sequences of the token-mean KL
    clipped: Tensor  # sum over sequences of the share of clipped tokens


def objective(
    logprobs: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    sequence: Tensor,
    *,
    clip: float,
    kl_coef: float,
) -> Terms:
    """The paper's objective (Eq. 15), negated, summed over sequences.

    ``min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL`` per token, mean over the tokens of each
    output, then over outputs. ``logprobs``, ``old`` and ``reference`` are [N] over completion
    tokens, ``sequence`` [N] their owner in 0..S-1, ``advantages`` [S]. ``reference`` may be None if
    ``kl_coef`` is 0. With one update per rollout ``old`` is ``logprobs.detach()`` and rho is 1.
    """
    count = len(advantages)
    ratio = torch.exp(logprobs - old)
    advantage = advantages[sequence]
    bounded = ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.minimum(ratio * advantage, bounded * advantage)
    kl = torch.zeros_like(logprobs) if reference is None else kl_k3(logprobs, reference)
    per_token = kl_coef * kl - surrogate
    clipped = (ratio * advantage > bounded * advantage).to(logprobs.dtype)
    return Terms(
        loss=sequence_mean(per_token, sequence, count).sum(),
        kl=sequence_mean(kl.detach(), sequence, count).sum(),
        clipped=sequence_mean(clipped, sequence, count).sum(),
    )
