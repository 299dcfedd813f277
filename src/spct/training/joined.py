"""Attention of one prompt's completions on CPU: to the prompt and to themselves, then joined.

All completion tokens look at the same prompt keys, so one unmasked call serves them and no key is
copied; a causal call serves each completion alone. The two results are weighed by their
log-sum-exps, which is exact. A flash kernel's backward pass needs of a softmax only its output and
its log-sum-exp, so both parts run backward with those of the whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spct.training.layout import Block

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Joined(torch.autograd.Function):
    """``apply(query, prompt_key, prompt_value, key, value, block, scaling)``.

    ``query`` [N, H, d], ``key`` and ``value`` [N, K, d] of the N completion tokens in ``block``,
    the prompt's [P, K, d]; H is a multiple of K. Returns [N, H, d]. ``scaling`` None is
    ``d ** -0.5``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        key: Tensor,
        value: Tensor,
        block: Block,
        scaling: float | None,
    ) -> Tensor:
        seen, mass = _forward(
            *map(_alone, (query, prompt_key, prompt_value)), 0.0, False, scale=scaling
        )
        own, own_mass = _forward(*map(block.padded, (query, key, value)), 0.0, True, scale=scaling)
        seen, own = seen[0].transpose(0, 1), block.flat(own)
        mass, own_mass = mass[0].T, block.flat(own_mass[..., None]).squeeze(2)
        total = torch.logaddexp(mass, own_mass)  # [N, H]
        weight, own_weight = ((part - total).exp()[..., None] for part in (mass, own_mass))
        out = (seen * weight + own * own_weight).to(query.dtype)
        ctx.save_for_backward(query, prompt_key, prompt_value, key, value, out, total)
        ctx.block, ctx.scaling = block, scaling
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, prompt_key, prompt_value, key, value, out, total = ctx.saved_tensors
        block: Block = ctx.block
        to_query, to_prompt_key, to_prompt_value = _backward(
            *map(_alone, (grad, query, prompt_key, prompt_value, out)),
            *(_masses(_alone(total[..., None])), 0.0, False),
            scale=ctx.scaling,
        )
        own = _backward(
            *map(block.padded, (grad, query, key, value, out)),
            *(_masses(block.padded(total[..., None])), 0.0, True),
            scale=ctx.scaling,
        )
        own_query, to_key, to_value = map(block.flat, own)
        return (
            _tokens(to_query) + own_query,
            *map(_tokens, (to_prompt_key, to_prompt_value)),
            *(to_key, to_value, None, None),
        )


def _alone(tokens: Tensor) -> Tensor:
    """[N, H, d] as one sequence: [1, H, N, d]."""
    return tokens.transpose(0, 1)[None]


def _tokens(alone: Tensor) -> Tensor:
    """[1, H, N, d] back to [N, H, d]."""
    return alone[0].transpose(0, 1)


def _masses(block: Tensor) -> Tensor:
    """Log-sum-exps [B, H, Q, 1] as the kernel takes them: [B, H, Q], contiguous."""
    return block.squeeze(3).contiguous()
