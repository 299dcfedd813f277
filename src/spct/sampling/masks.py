"""Attention masks from positions alone: what a query at one position may see of keys from 0 on."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel


def additive(model: PreTrainedModel, positions: Tensor, keys: int) -> Tensor | dict[str, Tensor]:
    """Additive mask [B, 1, Q, keys] for queries at ``positions`` [B, Q]; key ``t`` is position t.

    One for each layer type where a model mixes attention windows (Gemma 2 and 3, Qwen 2).
    """
    config = model.config.get_text_config()
    places = torch.arange(keys, device=positions.device)
    seen = places <= positions[..., None]
    window = getattr(config, "sliding_window", None)
    if window is None:
        return _additive(seen, model.dtype)
    near = _additive(seen & (places > positions[..., None] - window), model.dtype)
    if getattr(config, "layer_types", None) is None:
        return near
    return {"full_attention": _additive(seen, model.dtype), "sliding_attention": near}


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    zero = torch.zeros((), dtype=dtype, device=seen.device)
    return torch.where(seen, zero, torch.finfo(dtype).min)[:, None]
