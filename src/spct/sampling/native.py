"""Our sampler: constant shapes, shared prompt heads, and slots that are refilled at once.

Prompts become blocks of keys and values (:mod:`spct.sampling.prefix`); rows take turns in a fixed
number of slots (:mod:`spct.sampling.slots`), of each width that rows grow to
(:mod:`spct.sampling.pools`). In determinism tier ``cpu`` a completion, text and log-probs, is a
function of model, configuration and its own request, bit for bit: not of the list it was asked in,
of its order, or of how a longer list was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from spct.lm import LM
from spct.sampling import held
from spct.sampling.base import Completion, Request
from spct.sampling.pools import Pools
from spct.sampling.prefix import Prefixes
from spct.sampling.slots import Row, Slots, width
from spct.schema import SamplerConfig
from spct.training import attention


class NativeSampler:
    """See the module docstring."""

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        """Raises ``ConfigError`` for a model whose own logits it would not sample from."""
        self.lm, self.config = lm, config
        with suppress(ValueError):  # another kind of attention goes on as it is
            attention.install(lm.model)
        held.check(lm, replace(config, engine="native"), self._teacher)

    def _teacher(self, text: Sequence[int], lengths: Sequence[int], steps: int) -> Tensor:
        """See :data:`spct.sampling.held.Decode`; by blocks and slots, without a graph of them."""
        prompts = [tuple(text[:length]) for length in lengths]
        prefixes = Prefixes(self.lm, 1, prompts)
        config = replace(self.config, max_new_tokens=steps)
        slots = Slots(self.lm, config, width(max(lengths) + steps), len(prompts))
        slots.forward = slots._forward
        slots.seat(
            [
                Row(place, Request(prompt, 0, 1.0), np.zeros(steps), prefixes.take(prompt))
                for place, prompt in enumerate(prompts)
            ]
        )
        found = []
        for step in range(steps):
            found.append(slots.logits().clone())
            slots.last[:] = [text[length + step] for length in lengths]
            slots.position += 1
        return torch.stack(found, dim=1).flatten(0, 1)

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order asked. Raises ``ValueError`` on an empty prompt."""
        if not requests:
            return []
        if any(not request.prompt for request in requests):
            raise ValueError("a request has an empty prompt; its first token has no context")
        pools = Pools(self.lm, self.config, requests)
        done: dict[int, Completion] = {}
        while len(done) < len(requests):
            done |= pools.step()
        return [done[i] for i in range(len(requests))]
