"""Sizes of models: from a ``config.json`` at hand, else from a small table of the named ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spct import models
from spct.errors import ConfigError

# What config.json of these holds on the hub; the parameter counts that follow are their cards'.
_GEMMA2 = {"model_type": "gemma2", "tie_word_embeddings": True}
_GEMMA3 = {"model_type": "gemma3_text", "tie_word_embeddings": True}
_QWEN3 = {"model_type": "qwen3", "tie_word_embeddings": True, "vocab_size": 151_936}
NAMED: dict[str, dict[str, Any]] = {
    "google/gemma-2-27b": {
        **_GEMMA2, "hidden_size": 4608, "num_hidden_layers": 46, "num_attention_heads": 32,
        "num_key_value_heads": 16, "head_dim": 128, "intermediate_size": 36_864,
        "vocab_size": 256_000,
    },
    "google/gemma-3-1b-pt": {
        **_GEMMA3, "hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912,
        "vocab_size": 262_144,
    },
    "Qwen/Qwen3-0.6B-Base": {
        **_QWEN3, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
    },
    "Qwen/Qwen3-4B-Base": {
        **_QWEN3, "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728,
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama", "tie_word_embeddings": True, "hidden_size": 576,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "head_dim": 64, "intermediate_size": 1536, "vocab_size": 49_152,
    },
}  # fmt: skip
# Mixtures of experts, as their paper states them (DeepSeek-V2, arXiv 2405.04434, appendix B).
_LITE = "15.7B parameters, 2.4B active, keys and values compressed to 576 values a layer"


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: weights in all, those a token passes, and what memory depends on."""

    params: int
    active: int
    hidden: int
    layers: int
    vocab: int
    kv_values: int  # keys and values kept of a token, over all layers
    source: str  # where this is from, for people


LITE = Shape(15_700_000_000, 2_400_000_000, 2048, 27, 102_400, 576 * 27, f"its paper: {_LITE}")


def shape_of(source: str) -> Shape:
    """The shape of a ``model.source``.

    Raises :class:`~spct.errors.ConfigError` for a model that is neither at hand nor in the table,
    and for an endpoint's, of which nothing is known.
    """
    if source in ("deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-V2-Lite-Chat"):
        return LITE
    if models.served(source) is not None:
        raise ConfigError(f"plan: {source} is an endpoint; its size is not known here")
    folder = models.folder(source)
    if folder is not None and (folder / "config.json").is_file():
        return from_config(json.loads((folder / "config.json").read_text("utf-8")), "config.json")
    if source in NAMED:
        return from_config(NAMED[source], "the hub's config.json")
    raise ConfigError(
        f"plan: the size of {source} is not known: download it and name its folder "
        f"(model.source=…), or choose one of {', '.join(sorted(NAMED))}"
    )


def from_config(config: Mapping[str, Any], source: str) -> Shape:
    """The shape that a ``config.json`` of the Llama, Qwen or Gemma family gives.

    Exact for Llama, Qwen 3, Gemma 2 and Gemma 3; biases, where a family has any, are left out.
    """
    text: Mapping[str, Any] = config.get("text_config") or config
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    heads = text["num_attention_heads"]
    kv = text.get("num_key_value_heads") or heads
    width = text.get("head_dim") or hidden // heads
    gemma = str(text.get("model_type", "")).startswith(("gemma2", "gemma3"))
    normed = str(text.get("model_type", "")).startswith(("qwen3", "gemma3"))
    norms = (4 if gemma else 2) * hidden + (2 * width if normed else 0)
    attention = 2 * hidden * width * (heads + kv)
    layer = attention + 3 * hidden * text["intermediate_size"] + norms
    embeddings = text["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    params = layers * layer + embeddings + hidden
    kv_values = 2 * kv * width * layers
    return Shape(params, params, hidden, layers, text["vocab_size"], kv_values, source)


def local(path: Path) -> Shape:
    """The shape of a model folder."""
    return from_config(json.loads((path / "config.json").read_text("utf-8")), str(path))
