"""The GRPO objective. Pure functions of log-probabilities; nothing here knows a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from spct.kinds import AGGREGATIONS


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Per-token estimate ``logprobs - reference`` (k1, nats): unbiased, of either sign.

    Differentiated, its expectation over the policy is zero: it can be watched, not descended.
    """
    return logprobs - reference


def kl_k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Per-token estimate ``(logprobs - reference)^2 / 2`` (k2, nats, >= 0): biased, low variance.

    Its gradient on the policy's own samples is an unbiased one of KL(policy || reference), token by
    token. TRL 1.16.0's default (``use_bias_correction_kl=True``: k3 times the ratio) has the same
    gradient where the ratio is 1.
    """
    return 0.5 * (logprobs - reference).square()


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Per-token estimate ``exp(d) - d - 1`` with ``d = reference - logprobs`` (k3, nats, >= 0).

    The estimator of DeepSeekMath Eq. 4, unbiased under the policy; its gradient there is one of
    KL(reference || policy). The paper does not name its own.
    """
    gap = reference - logprobs
    return torch.exp(gap) - gap - 1.0


KL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@dataclass(frozen=True)
class Settings:
    """The objective's knobs. Raises ``ValueError`` on an unknown name or a missing length.

    ``length`` (tokens) is the divisor of ``aggregation="constant"``: the longest completion that
    the sampler may write. ``importance_cap`` 0 leaves importance sampling out.
    """

    kl_coef: float
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_estimator: str = "k3"
    aggregation: str = "sequence"
    length: int = 0
    importance_cap: float = 0.0

    def __post_init__(self) -> None:
        if self.kl_estimator not in KL:
            raise ValueError(f"grpo.kl_estimator is {self.kl_estimator!r}; known: {', '.join(KL)}")
        if self.aggregation not in AGGREGATIONS:
            known = ", ".join(AGGREGATIONS)
            raise ValueError(f"grpo.aggregation is {self.aggregation!r}; known: {known}")
        if self.aggregation == "constant" and self.length < 1:
            raise ValueError(f"grpo.aggregation is constant; it needs a length, not {self.length}")


@dataclass(frozen=True)
class Totals:
    """What one optimiser step sees: all its micro-batches, on all processes.

    ``tokens`` are completion tokens. Raises ``ValueError`` if there are none.
    """

    sequences: int
    tokens: int

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.tokens < 1:
            raise ValueError(f"nothing to learn from: {self}")


@dataclass(frozen=True)
class Terms:
    """The loss to differentiate and, detached, sums over sequences of token means for the log."""

    loss: Tensor  # scalar: this micro-batch's part of the batch's loss
    kl: Tensor
    clipped: Tensor  # share of tokens without policy gradient: the sum of the next two
    clipped_low: Tensor  # ratio below 1 - clip_low, negative advantage
    clipped_high: Tensor  # ratio above 1 + clip_high, positive advantage
    ratio: Tensor
    ratio_max: Tensor  # not a sum: the largest of the micro-batch's tokens
    weight: Tensor | None = None  # importance weight after truncation; None without
    truncated: Tensor | None = None  # share of tokens whose importance weight was truncated


def sequence_mean(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """Mean of ``values`` [N] within each sequence, [count]; ``sequence`` [N] gives the owners."""
    total = torch.zeros(count, dtype=values.dtype, device=values.device)
    tokens = torch.zeros_like(total)
    total = total.index_add(0, sequence, values)
    tokens = tokens.index_add(0, sequence, torch.ones_like(values))
    return total / tokens.clamp(min=1)


def aggregate(
    values: Tensor, sequence: Tensor, count: int, settings: Settings, totals: Totals
) -> Tensor:
    """The part that these tokens have in the batch's loss; ``values`` [N], ``sequence`` [N].

    - ``sequence``: ``sum_i mean_t v_it / sequences`` (paper Eq. 15; TRL ``grpo``, verl
      ``seq-mean-token-mean``). A token weighs less the longer its completion.
    - ``token``: ``sum_it v_it / tokens`` (TRL ``dapo``, verl ``token-mean``; DAPO Eq. 8 divides by
      the tokens of each group instead).
    - ``constant``: ``sum_it v_it / (sequences * length)`` (Dr. GRPO, arXiv 2503.20783; TRL
      ``dr_grpo``, verl ``seq-mean-token-sum-norm``).
    """
    if settings.aggregation == "sequence":
        return sequence_mean(values, sequence, count).sum() / totals.sequences
    if settings.aggregation == "token":
        return values.sum() / totals.tokens
    return values.sum() / (totals.sequences * settings.length)


def importance_weights(old: Tensor, sampler: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Weights ``min(exp(old - sampler), cap)`` [N] and which of them were truncated, 0 or 1 [N].

    Corrects for a sampler whose probabilities differ from the trainer's for the same weights (other
    kernels, other precision): truncated importance sampling **per token**. verl's
    ``rollout_is=token`` is the same (off by default, its cap 2.0); its ``sequence`` takes the
    product over a completion first. TRL 1.16.0 does it only with vLLM, by default as
    ``sequence_mask``: the product of a completion's ratios, and the completion left out above 3.0;
    its ``token_truncate`` is ours.
    """
    weights = torch.exp(old - sampler).detach()
    return weights.clamp(max=cap), (weights > cap).to(weights.dtype)


def objective(
    logprobs: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    sequence: Tensor,
    settings: Settings,
    totals: Totals,
    sampler: Tensor | None = None,
) -> Terms:
    """The negated objective of a micro-batch: the parts of a batch add up to its loss.

    ``w min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) - beta KL`` per token, with ``rho =
    exp(logprobs - old)``, aggregated as :func:`aggregate` says (paper Eq. 15 with ``sequence``, one
    epsilon and ``w = 1``). ``w`` (:func:`importance_weights`) weighs the policy term alone, not the
    KL, as in TRL and verl. Gradients must be summed over micro-batches and processes; where
    processes average theirs, multiply the loss by their number.

    ``logprobs``, ``old``, ``reference`` and ``sampler`` are [N] over completion tokens, of the
    distribution that was sampled from; ``sequence`` [N] their owner in 0..S-1, ``advantages`` [S].
    All but ``logprobs`` are constants. With one update per rollout ``old`` is ``logprobs.detach()``
    and rho is 1. ``reference`` may be None if ``kl_coef`` is 0, ``sampler`` if ``importance_cap``
    is. Raises ``ValueError`` where one is missing.
    """
    _check(settings, reference, sampler)
    count = len(advantages)

    def logged(values: Tensor) -> Tensor:
        return sequence_mean(values.detach(), sequence, count).sum()

    ratio = torch.exp(logprobs - old)
    advantage = advantages[sequence]
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    surrogate = torch.minimum(ratio * advantage, bounded * advantage)
    clipped = (ratio * advantage > bounded * advantage).to(logprobs.dtype)
    weight = truncated = None
    if settings.importance_cap > 0 and sampler is not None:
        weight, truncated = importance_weights(old, sampler, settings.importance_cap)
        surrogate = weight * surrogate
    if reference is None:
        kl = torch.zeros_like(logprobs)
    else:
        kl = KL[settings.kl_estimator](logprobs, reference)
    per_token = settings.kl_coef * kl - surrogate
    return Terms(
        loss=aggregate(per_token, sequence, count, settings, totals),
        kl=logged(kl),
        clipped=logged(clipped),
        clipped_low=logged(clipped * (advantage < 0)),
        clipped_high=logged(clipped * (advantage > 0)),
        ratio=logged(ratio),
        ratio_max=ratio.detach().max() if len(ratio) else ratio.new_zeros(()).detach(),
        weight=None if weight is None else logged(weight),
        truncated=None if truncated is None else logged(truncated),
    )


def _check(settings: Settings, reference: Tensor | None, sampler: Tensor | None) -> None:
    if settings.kl_coef != 0 and reference is None:
        raise ValueError(f"grpo.kl_coef is {settings.kl_coef}; it needs the reference's log-probs")
    if settings.importance_cap > 0 and sampler is None:
        raise ValueError("grpo.importance_cap is set; it needs the sampler's log-probs")


def means(terms: Sequence[Terms], totals: Totals) -> dict[str, float]:
    """A batch's loss and log values from its micro-batches: means over sequences of token means.

    ``ratio_max`` is a maximum. With several processes these are one process's parts: the sum over
    processes (of ``ratio_max``: the maximum) is the batch's.
    """
    values = {}
    for field in fields(Terms):
        parts = [getattr(one, field.name) for one in terms]
        if None not in parts:
            stacked = torch.stack([part.detach() for part in parts])
            values[field.name] = stacked.max() if field.name == "ratio_max" else stacked.sum()
    result = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
    kept = {"loss", "ratio_max"}
    return {name: x if name in kept else x / totals.sequences for name, x in result.items()}
