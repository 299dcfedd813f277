"""How far a sampler's log-probs are from those of the trainer's forward pass, for any engine.

Policy gradients weigh a token by the ratio of two such log-probs, so the gap between the two ways
of computing them is an error in the gradient. Its causes are rounding (other kernels, other batch
shapes), weights of another version, and bugs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spct.errors import StageStopped
from spct.sampling.base import Completion, Request
from spct.training.batching import Example
from spct.training.choice import completion_logprobs
from spct.training.groups import grouped


@dataclass(frozen=True)
class Agreement:
    """Over all tokens, in nats: ``|sampler - trainer|``, its mean and its largest value."""

    mean: float
    max: float
    tokens: int


# The largest mean and maximum that rounding explains. float32: 1.4e-6 and 4e-5 were seen, with vLLM
# on a CPU. bfloat16, not yet seen on a GPU: its 8 bits put a logit near 20 off by up to 0.06.
GATES = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (0.02, 0.5)}


@torch.no_grad()
def measure(
    model: nn.Module, requests: Sequence[Request], completions: Sequence[Completion]
) -> Agreement:
    """The gap on sampled tokens, the end included where a completion ended itself.

    Only for the whole distribution (``top_p`` 1). Raises ``ValueError`` if there is no token, or a
    completion without a log-prob for each of its tokens.
    """
    gaps = []
    for temperature in sorted({request.temperature for request in requests}):
        pairs = [
            (request, completion)
            for request, completion in zip(requests, completions, strict=True)
            if request.temperature == temperature
        ]
        gaps.append(_gaps(model, pairs, temperature or 1.0))
    every = torch.cat(gaps) if gaps else torch.zeros(0)
    if not len(every):
        raise ValueError("no tokens to compare")
    return Agreement(float(every.mean()), float(every.max()), len(every))


def _gaps(
    model: nn.Module, pairs: Sequence[tuple[Request, Completion]], temperature: float
) -> torch.Tensor:
    """``|sampler - trainer|`` of all tokens of requests of one temperature, [N] float32."""
    examples, sampled = [], []
    for request, completion in pairs:
        tokens = completion.sampled
        if len(completion.logprobs) != len(tokens):
            raise ValueError(f"{len(completion.logprobs)} log-probs for {len(tokens)} tokens")
        if tokens:
            examples.append(Example(request.prompt, tokens))
            sampled.append(completion.logprobs)
    if not examples:
        return torch.zeros(0)
    groups, places = grouped(examples)
    trained = completion_logprobs(model, groups, temperature).logprobs.float().cpu()
    by_place = dict(zip(places, sampled, strict=True))
    ordered = [
        value
        for number, group in enumerate(groups)
        for member in range(len(group.completions))
        for value in by_place[number, member]
    ]
    return (torch.tensor(ordered) - trained).abs()


def gate(agreement: Agreement, dtype: torch.dtype, engine: str) -> None:
    """Raises ``StageStopped`` if the gap is more than rounding to ``dtype`` explains."""
    mean, most = GATES.get(dtype, GATES[torch.bfloat16])
    if not (agreement.mean <= mean and agreement.max <= most):  # NaN is above every gate
        raise StageStopped(
            f"{engine}: log-probs differ from the trainer's by {agreement.mean:.1e} on average "
            f"(gate {mean:.0e}) and {agreement.max:.1e} at most (gate {most:.0e})"
        )
