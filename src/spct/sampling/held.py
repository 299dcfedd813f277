"""The native sampler held to the model's own logits: equal on a few tokens, or refused by name.

It keeps keys and values its own way (:mod:`spct.sampling.prefix`, :mod:`spct.sampling.slots`),
draws its own masks and makes logits itself (:mod:`spct.training.head`). A family that needs more
than that (another kind of state, of position, of mask) would be sampled wrongly in silence, so each
model is compared with its own forward pass once, when it is loaded.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from spct.errors import ConfigError
from spct.lm import LM
from spct.sampling.base import Request
from spct.sampling.prefix import BLOCK, Prefixes
from spct.sampling.slots import Row, Slots, width
from spct.schema import SamplerConfig
from spct.training import held
from spct.training.choice import WINDOWED

STEPS = 3  # decoded after each prompt
LENGTHS = (1, 7, BLOCK + 2)  # of the prompts: nothing cached, one block, a second one on a full one

_verdicts: weakref.WeakKeyDictionary[nn.Module, str | None] = weakref.WeakKeyDictionary()


def check(lm: LM, config: SamplerConfig) -> None:
    """Raise ``ConfigError`` unless the native engine decodes the logits of the model's own forward.

    Looks at each model once; where the model will be sharded, before that.
    """
    if (reason := held.once(_verdicts, lm.model, lambda: verify(lm, config))) is not None:
        raise ConfigError(
            f"sampler.engine: native cannot sample {lm.source or 'this model'}, a "
            f"{type(lm.model).__name__}: {reason}; set sampler=hf (or sampler=vllm)"
        )


def verify(lm: LM, config: SamplerConfig) -> str | None:
    """What speaks against the native engine for a model, or None.

    ``config`` only gives its settings' form; the probe has sizes of its own.
    """
    shape = lm.config.get_text_config()
    longest = min(max(LENGTHS), (lm.context or max(LENGTHS) + STEPS) - STEPS)
    window = getattr(shape, "sliding_window", None)
    if window and window >= longest and shape.model_type not in WINDOWED:
        return f"a sliding window of {shape.model_type}, which no test has held to the model's own"
    text = held.tokens(lm.model, longest + STEPS)
    prompts = [min(length, longest) for length in LENGTHS]
    with held.looking(lm.model):
        try:
            own = torch.cat([_own(lm.model, text, length) for length in prompts])
            ours = _decoded(lm, replace(config, max_new_tokens=STEPS), text, prompts)
        except Exception as error:  # an unknown family may fail in any way
            return f"{type(error).__name__}: {error}"
    if (gap := held.differs(own, ours)) is None:
        return None
    return f"its log-probs are not the model's own ({gap})"


def _own(model: nn.Module, text: Sequence[int], length: int) -> Tensor:
    """Logits [STEPS, V] from the end of a prompt on, by the model's own forward pass."""
    return held.logits(model, tuple(text[: length + STEPS - 1]))[length - 1 :]


def _decoded(lm: LM, config: SamplerConfig, text: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """The same [N * STEPS, V] as the native engine decodes them."""
    prompts = [tuple(text[:length]) for length in lengths]
    prefixes = Prefixes(lm, 1, prompts)
    slots = Slots(lm, config, width(max(lengths) + STEPS), len(prompts))
    slots.forward = slots._forward  # a few steps are not worth a recording
    slots.seat(
        [
            Row(place, Request(prompt, 0, 1.0), np.zeros(STEPS), prefixes.take(prompt))
            for place, prompt in enumerate(prompts)
        ]
    )
    found = []
    for step in range(STEPS):
        found.append(slots.logits().clone())
        slots.last[:] = [text[length + step] for length in lengths]
        slots.position += 1
    return torch.stack(found, dim=1).flatten(0, 1)
