"""Log-probabilities of tokens from hidden states, without ever holding all logits.

The vocabulary projection runs on ``chunk`` tokens at a time and is repeated in the backward pass,
so beside the gradient of the output embedding itself, memory is bounded by ``chunk`` times the
vocabulary, whatever the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spct.training import head
from spct.training.head import Head, scaled


class Logprobs(NamedTuple):
    """Per token: ``logprobs`` [N] (nats, differentiable), ``entropy`` [N] (nats, no gradient)."""

    logprobs: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class _Rows:
    """Logits of ``chunk`` tokens at a time, by the model's head, and their gradient."""

    head: Head
    temperature: float
    chunk: int

    def logits(self, states: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
        """Logits [n, V] in the first rows of ``out``, which fixes their precision."""
        logits = out[: len(states)]
        if bias is None and out.dtype == weight.dtype:
            torch.mm(states, weight.T, out=logits)
        else:
            logits.copy_(nn.functional.linear(states, weight, bias))
        return self.head(logits, self.temperature)

    def slope(self, logits: Tensor, normalizer: Tensor, targets: Tensor, grad: Tensor) -> Tensor:
        """Gradient [n, V] on the projection from ``grad`` [n] on the log-probs; eats ``logits``."""
        bend = None
        if self.head.cap is not None:  # 1 - tanh^2, with tanh read back from the logits
            bend = (logits * (self.temperature / self.head.cap)).square_().neg_().add_(1.0)
        slope = logits.sub_(normalizer[:, None]).exp_().mul_(-grad[:, None])
        slope.scatter_add_(1, targets[:, None], grad[:, None])
        slope = slope if bend is None else slope.mul_(bend)
        return scaled(slope, self.head.scale / self.temperature)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows: _Rows,
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(weight.dtype, torch.float32)
        normalizer, chosen, entropy = (
            torch.empty(len(states), dtype=exact, device=states.device) for _ in range(3)
        )
        room, second = (_room(states, weight, rows.chunk) for _ in range(2))
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(states), rows.chunk):
                part = slice(start, start + rows.chunk)
                logits = rows.logits(states[part], weight, bias, room)
                chosen[part] = logits.gather(1, targets[part, None]).squeeze(1)
                normalizer[part], entropy[part] = _sums(logits, second)
        ctx.save_for_backward(states, weight, bias, targets, normalizer)
        ctx.rows = rows
        ctx.mark_non_differentiable(entropy)
        return chosen - normalizer, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, targets, normalizer = ctx.saved_tensors
        rows: _Rows = ctx.rows
        exact = normalizer.dtype
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        d_states = torch.empty_like(states) if to_states else None
        d_weight = torch.zeros_like(weight, dtype=exact) if to_weight else None
        d_bias = torch.zeros_like(bias, dtype=exact) if to_bias else None
        room = _room(states, weight, rows.chunk)
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(states), rows.chunk):
                part = slice(start, start + rows.chunk)
                logits = rows.logits(states[part], weight, bias, room)
                slope = rows.slope(logits, normalizer[part], targets[part], grad[part])
                if d_bias is not None:
                    d_bias += slope.sum(dim=0)
                slope = slope.to(weight.dtype)
                if d_states is not None:
                    d_states[part] = slope @ weight
                if d_weight is not None:
                    _add_product(d_weight, slope, states[part])
        return (
            d_states,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
        )


def _room(states: Tensor, weight: Tensor, chunk: int) -> Tensor:
    """Space for one chunk of logits, used again by all: fresh pages cost more than arithmetic."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    return states.new_empty(min(chunk, len(states)), len(weight), dtype=exact)


def _sums(logits: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """``log Z`` and the entropy ``log Z - sum p x`` of each row, with one exponential; eats it."""
    top = logits.amax(dim=1)
    logits.sub_(top[:, None])
    mass = torch.exp(logits, out=room[: len(logits)])
    total = mass.sum(dim=1)
    return top + total.log(), total.log() - logits.mul_(mass).sum(dim=1) / total


def _add_product(total: Tensor, slope: Tensor, states: Tensor) -> None:
    """``total += slope^T states`` [V, D], summed over chunks in ``total``'s own precision."""
    if total.dtype == slope.dtype:
        total.addmm_(slope.T, states)
    else:
        total += slope.T @ states


def token_logprobs(
    model: nn.Module,
    states: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    chunk: int = 1024,
) -> Logprobs:
    """``log softmax(logits / temperature)[target]`` and its entropy for each token.

    ``states`` [N, D] are last hidden states, ``targets`` [N] int64 the tokens to score; the results
    are [N], float32 (float64 for float64 weights) also where weights are bfloat16. The gradient
    reaches the states and the output embedding, tied to the input embedding or not. Logits are
    those of the model, as :mod:`spct.training.head` makes them.

    Peak memory beyond inputs, results and the gradient of the embedding: forward and backward hold
    at most two tensors of ``chunk`` x V float32 (for bfloat16 weights one more of half the size).
    Raises ``ValueError`` on an output embedding that is no plain linear layer (LoRA on ``lm_head``)
    and on a chunk or temperature that is not positive, and as :func:`spct.training.head.of`.
    """
    if chunk < 1 or temperature <= 0:
        raise ValueError(f"chunk is {chunk}, temperature is {temperature}; both must be positive")
    layer = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"the output embedding is a {type(layer).__name__}, not a plain linear layer; "
            "take lm_head out of the adapter's target modules"
        )
    rows = _Rows(head.of(model), temperature, chunk)
    states = states.to(layer.weight.dtype)
    values, entropy = _ChunkedLogprobs.apply(states, layer.weight, layer.bias, targets, rows)
    return Logprobs(values, entropy)
