"""Attention of a packed row of groups, as an attention function of ``transformers``.

Registered through ``AttentionInterface`` (transformers 5.16 to 5.23). A layer that gets a
``layout`` attends by it; without one, the model's own implementation runs, but for a decoding step
of grouped heads (:func:`packed`), so caches and saving are as before. Being a function of the
layer's arguments alone, it composes with activation checkpointing, whose second forward pass runs
inside the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from spct.training.joined import Joined
from spct.training.layout import Layout

PREFIX = "shared_prefix_"
# Extra arguments that leave the result unchanged; any other says that the family does more.
HARMLESS = frozenset({"position_ids", "use_cache", "output_attentions", "cache_position"})

Attention = Callable[..., tuple[Tensor, Tensor | None]]


def implementation(config: Any) -> dict[str, str]:
    """What ``from_pretrained`` is told of attention for a model of this configuration, if anything.

    ``eager`` for a soft cap on attention scores that the installed ``sdpa`` does not apply (Gemma 2
    before transformers 5.21, which took ``sdpa`` all the same); else the library's own choice.
    """
    cap = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return {} if cap is None or _sdpa_caps() else {"attn_implementation": "eager"}


@lru_cache(maxsize=1)
def _sdpa_caps() -> bool:
    """Whether ``sdpa`` of ``transformers`` bends scores by a soft cap, or drops or refuses it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    places = torch.arange(8.0).reshape(1, 1, 2, 4)
    query, value = places - 3, places.square()
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    try:
        bent, plain = (sdpa(nn.Module(), query, query, value, None, softcap=c) for c in (0.5, None))
    except (TypeError, ValueError):
        return False
    return not torch.equal(bent[0], plain[0])


def install(model: Any) -> None:
    """Let the decoder of ``model`` take a ``layout``; does nothing if done already.

    Raises ``ValueError`` if its class does not choose its attention by name, or if its attention is
    neither ``sdpa`` nor ``eager``: flash kernels ask for their own name again.
    """
    decoder = model.get_decoder()
    current = getattr(getattr(decoder, "config", None), "_attn_implementation", None)
    if current is None:
        raise ValueError(f"{type(decoder).__name__} does not choose its attention by name")
    if current.startswith(PREFIX):
        return
    if current not in ("sdpa", "eager"):
        raise ValueError(f"attention is {current}; load the model with sdpa or eager")
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = PREFIX + current
    own = None if current == "eager" else ALL_ATTENTION_FUNCTIONS[current]
    ALL_ATTENTION_FUNCTIONS.register(name, _dispatcher(own))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[current])
    decoder.set_attn_implementation(name)
    if decoder.config._attn_implementation != name:
        raise ValueError(f"{type(decoder).__name__} does not choose its attention by name")


def _dispatcher(own: Attention | None) -> Attention:
    """``attend`` where a layout comes along, else ``own`` (None: the modeling file's eager one)."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        layout: Layout | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if layout is not None:
            return attend(module, query, key, value, layout, **kwargs), None
        if own is not None and _packs(query, key, attention_mask, kwargs):
            return packed(query, key, value, attention_mask, kwargs.get("scaling")), None
        inner = own or sys.modules[type(module).__module__].eager_attention_forward
        result: tuple[Tensor, Tensor | None] = inner(
            module, query, key, value, attention_mask, **kwargs
        )
        return result

    return attention


def _packs(query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether :func:`packed` computes it: one query a row, grouped heads, nothing unusual."""
    known = HARMLESS | {"scaling", "dropout", "is_causal", "sliding_window"}
    more = {name for name, given in options.items() if given is not None} - known
    grouped = query.shape[2] == 1 and key.shape[1] < query.shape[1]
    shared = mask is not None and mask.shape[1] == 1
    return grouped and shared and not more and not options.get("dropout")


def packed(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None
) -> Tensor:
    """A decoding step of grouped heads: those that read one key head become its queries.

    ``query`` [B, H, 1, d], ``key`` and ``value`` [B, K, L, d], ``mask`` [B, 1, 1, L]; returns
    [B, 1, H, d]. transformers does so itself from 5.23 on; before, it copies keys and values for
    every query head.
    """
    rows, heads, _, width = query.shape
    folded = query.reshape(rows, key.shape[1], -1, width)
    seen = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return seen.reshape(rows, 1, heads, width)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **extra: Any,
) -> Tensor:
    """Attention of the packed row: ``query`` [1, H, T, d], ``key`` and ``value`` [1, K, T, d].

    Returns [1, T, H, d]. ``sliding_window`` W lets a token see itself and the W - 1 before it;
    ``softcap`` c bends scores to ``c tanh(s / c)`` (Gemma 2). Raises ``NotImplementedError`` on an
    argument that is not known here, such as attention sinks.
    """
    unknown = {name for name, given in extra.items() if given is not None} - HARMLESS
    if unknown or is_causal is False or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"attention with {sorted(unknown) or 'sight of the future'}")
    kernel = _Kernel(scaling, dropout, softcap)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    prompts, completions, window = layout.prompts, layout.completions, sliding_window
    prompt_keys, prompt_values = prompts.read(k), prompts.read(v)
    if _is_last(module):
        flat = [_ends_alone(kernel, q, prompt_keys, prompt_values, layout, window)]
    else:
        narrow = window is not None and window < prompts.width
        mask = layout.prompt_mask(window) if narrow or softcap is not None else None
        flat = [prompts.flat(kernel(prompts.read(q), prompt_keys, prompt_values, mask))]
    if completions is not None and layout.joins(window) and kernel.plain(query):
        parts = (completions.own(q), prompts.own(k), prompts.own(v))
        own = (completions.own(k), completions.own(v))
        flat.append(Joined.apply(*parts, *own, completions, scaling))
    elif completions is not None:
        first = layout.first_key(window)
        keys, values = (
            torch.cat([prompt[:, :, first:].index_select(0, layout.owner), own], dim=2)
            for prompt, own in (
                (prompt_keys, completions.read(k)),
                (prompt_values, completions.read(v)),
            )
        )
        mask = layout.completion_mask(window)
        flat.append(completions.flat(kernel(completions.read(q), keys, values, mask)))
    return torch.cat(flat)[None]


def _is_last(module: nn.Module) -> bool:
    """Whether it is the decoder's last layer, beyond which of a prompt only its end is read."""
    layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    return layers is not None and getattr(module, "layer_idx", None) == layers - 1


def _ends_alone(
    kernel: _Kernel, row: Tensor, keys: Tensor, values: Tensor, layout: Layout, window: int | None
) -> Tensor:
    """Attention of each prompt's last token, [P, H, d]; zero for the others, which no one reads."""
    ends = layout.prompts.ends
    mask = layout.end_mask(window)
    seen = kernel(row.index_select(0, ends)[:, :, None], keys, values, mask)
    rest = row.new_zeros(layout.prompts.tokens, *row.shape[1:])
    return rest.index_copy(0, ends, seen[:, :, 0])


class _Kernel:
    """Attention of one padded block: fused, or step by step where scores are capped."""

    def __init__(self, scaling: float | None, dropout: float, softcap: float | None) -> None:
        self.scaling, self.dropout, self.softcap = scaling, dropout, softcap

    def plain(self, query: Tensor) -> bool:
        """Whether it is softmax attention and nothing else, on a CPU."""
        return query.device.type == "cpu" and self.softcap is None and self.dropout == 0.0

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """[B, H, Q, d] from keys and values [B, K, L, d]; causal if ``mask`` is None."""
        repeats = query.shape[1] // key.shape[1]
        if self.softcap is not None:
            assert mask is not None
            return self._capped(query, _spread(key, repeats), _spread(value, repeats), mask)
        # CUDA kernels take a mask or grouped heads, not both
        native = repeats > 1 and (mask is None or query.device.type == "cpu")
        if not native:
            key, value = _spread(key, repeats), _spread(value, repeats)
        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout,
            is_causal=mask is None,
            scale=self.scaling,
            enable_gqa=native,
        )

    def _capped(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        assert self.softcap is not None
        scale = query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        scores = query @ key.transpose(2, 3) * (scale / self.softcap)
        scores = (torch.tanh(scores) * self.softcap).masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        return drop(weights, self.dropout) @ value


def _spread(heads: Tensor, repeats: int) -> Tensor:
    """Each key or value head once for every query head that reads it."""
    return heads if repeats == 1 else heads.repeat_interleave(repeats, dim=1)
