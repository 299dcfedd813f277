"""A local sampler held to the model's own logits: equal on a few tokens, or refused by name.

The native engine keeps keys and values its own way, draws its own masks and makes logits itself
(:mod:`spct.training.head`); ``generate`` pads prompts on the left. A family that needs more than
that (another kind of state, of position, of mask) would be sampled wrongly in silence, so each
model is compared with its own forward pass once, when it is loaded.
"""

from __future__ import annotations

import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spct.errors import ConfigError
from spct.lm import LM
from spct.sampling.prefix import BLOCK
from spct.schema import SamplerConfig
from spct.training import held

STEPS = 3  # decoded after each prompt
LENGTHS = (1, 7, BLOCK + 2)  # of the prompts: nothing cached, one block, a second one on a full one
# Settings that change what a token sees once a text is longer than their value. Up to MOST_TOKENS
# the probe is longer than that; beyond it a family must be one of WINDOWED.
REACH = re.compile(r"window|chunk|topk|local_att|block_size|^index_")
MOST_TOKENS = 640
# Families whose sliding windows the tests have held to the model's own forward pass.
WINDOWED = frozenset(
    {
        *("afmoe", "beam", "cohere2", "cohere2_moe", "cwm", "exaone4", "exaone_moe", "gemma2"),
        *("gemma3_text", "gpt_oss", "granite_swa", "granitemoe_swa", "ministral", "mistral"),
        *("mixtral", "olmo3", "phi3", "qwen2", "qwen3", "starcoder2"),
    }
)

Decode = Callable[[Sequence[int], Sequence[int], int], Tensor]
"""``decode(text, lengths, steps)``: what an engine makes of ``text[:length]``, for each length.

Returns its logits [N * steps, V] of the tokens from there on, by prompt and step, as it would
sample them if it had chosen the text's own tokens.
"""

_verdicts: dict[str, weakref.WeakKeyDictionary[nn.Module, str | None]] = defaultdict(
    weakref.WeakKeyDictionary
)


def check(lm: LM, config: SamplerConfig, decode: Decode) -> None:
    """Raise ``ConfigError`` unless the engine decodes the logits of the model's own forward pass.

    Looks at each model once for an engine; where the model will be sharded, before that.
    """
    longest = config.max_prompt_tokens + config.max_new_tokens
    limit = held.stretches(lm.model)
    if limit is not None and min(longest, lm.context or longest) > limit:
        raise ConfigError(
            f"sampler.max_prompt_tokens: the positions of {lm.source or 'this model'} (longrope) "
            f"change for texts of over {limit} tokens, which {config.engine} cannot follow; let "
            f"max_prompt_tokens and max_new_tokens be {limit} at most together (or sampler=vllm)"
        )
    engine = config.engine if config.engine != "hf" else f"hf, {min(config.batch_size, 2)}"
    reason = held.once(_verdicts[engine], lm.model, lambda: verify(lm, config.engine, decode))
    if reason is not None:
        raise ConfigError(
            f"sampler.engine: {config.engine} cannot sample {lm.source or 'this model'}, a "
            f"{type(lm.model).__name__}: {reason}; {_cure(config)}"
        )


def _cure(config: SamplerConfig) -> str:
    if config.engine == "native":
        return "set sampler=hf (or sampler=vllm)"
    if config.batch_size > 1:
        return "set sampler.batch_size=1, so that no prompt is padded (or sampler=vllm)"
    return "name a causal language model of another family as model.source"


def verify(lm: LM, engine: str, decode: Decode) -> str | None:
    """What speaks against an engine for a model, or None."""
    reach = _reach(lm.config.get_text_config()) if engine == "native" else {}
    if any(name.startswith("index_") for name in reach):
        return "it attends to tokens that an index chooses"
    if far := [name for name, value in reach.items() if value > MOST_TOKENS]:
        return f"no test has held its {far[0]} of {reach[far[0]]} tokens to the model's own"
    longest = max(*LENGTHS, *(value + 2 for value in reach.values()))
    lengths = [*LENGTHS[:-1], longest]
    if lm.context is not None:
        lengths = [max(1, min(length, lm.context - STEPS)) for length in lengths]
    text = held.tokens(lm.model, max(lengths) + STEPS)
    with held.looking(lm.model):
        try:
            if engine == "native" and (gap := held.verify_head(lm.model)) is not None:
                return f"its logits are not the model's own ({gap})"
            own = torch.cat([_own(lm.model, text, length) for length in lengths])
            ours = decode(text, lengths, STEPS)
        except Exception as error:  # an unknown family may fail in any way
            return f"{type(error).__name__}: {error}"
    if (gap := held.differs(own, ours)) is None:
        return None
    return f"its log-probs are not the model's own ({gap})"


def _reach(shape: Any) -> dict[str, int]:
    """Settings of a configuration after so many tokens of which a token may not see them all."""
    found = {
        name: value
        for name, value in vars(shape).items()
        if REACH.search(name) and isinstance(value, int) and not isinstance(value, bool)
    }
    if shape.model_type in WINDOWED:
        found.pop("sliding_window", None)
    return found


def _own(model: nn.Module, text: Sequence[int], length: int) -> Tensor:
    """Logits [STEPS, V] from the end of a prompt on, by the model's own forward pass."""
    return held.logits(model, tuple(text[: length + STEPS - 1]))[length - 1 :]
