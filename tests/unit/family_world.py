"""Tiny models of every causal family that ``transformers`` ships, at random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from spct.lm import LM
from spct.pretrain import tokenizer

VOCABULARY, WINDOW = 160, 8
# Whatever of these a configuration knows. The window is shorter than all prompts of the tests.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 32),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("decoder_layers", "num_experts_per_tok"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("n_routed_experts", "mamba_n_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("mamba_d_state", "kv_lora_rank", "q_lora_rank", "mamba_d_head"), 16),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "mamba_n_groups"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    **{"vocab_size": VOCABULARY, "num_key_value_heads": 2, "decoder_ffn_dim": 64},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": WINDOW},
    **{"mamba_d_ssm": 64, "mamba_expand": 2, "num_logits_to_keep": 1},
}
# Where the sizes above do not fit together, or leave what is to be tested at rest.
MORE: dict[str, dict[str, Any]] = {
    "axk1": {"num_key_value_heads": 4},
    "axk2": {"num_key_value_heads": 4},
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    **{name: {"num_key_value_heads": 4} for name in ("deepseek_v2", "deepseek_v3")},
    "deepseek_v32": {"num_key_value_heads": 4},
    "falcon_h1": {"lm_head_multiplier": 0.5},
    "gemma2": {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.0},
    "gemma3_text": {"final_logit_softcapping": 2.0},
    "glm4_moe_lite": {"num_key_value_heads": 4},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "granite": {"logits_scaling": 8.0},
    "granitemoe": {"logits_scaling": 8.0},
    "granitemoehybrid": {"logits_scaling": 8.0, "layer_types": ["mamba", "attention"]},
    "granitemoeshared": {"logits_scaling": 8.0},
    "hyperclovax": {"logits_scaling": 0.25},
    "minicpm3": {"dim_model_base": 8, "num_key_value_heads": 4},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    **{
        name: {"layer_types": ["linear_attention", "full_attention"]}
        for name in ("qwen3_next", "qwen3_5_text")
    },
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "max_window_layers": 1},
}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 160}
WRAPPED_TEXT = {**TEXT, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


def names() -> list[str]:
    """The families by ``model_type``."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def config_of(name: str) -> Any:
    """A small configuration of a family, or whatever its class raises on these sizes."""
    kind = transformers.CONFIG_MAPPING[name]
    usual = kind()
    own = type(usual)
    fitting = {
        key: value
        for key, value in SIZES.items()
        if hasattr(usual, key) and not isinstance(getattr(own, key, None), property)
    }
    return kind(**{**fitting, **MORE.get(name, {})})


def wrapped_gemma3(**text: Any) -> Any:
    """Gemma 3 from 4B on: a language model beside a vision tower."""
    vision = {**VISION, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    return transformers.Gemma3Config(
        text_config={**WRAPPED_TEXT, "sliding_window": WINDOW, **text}, vision_config=vision
    )


def model_of(config: Any, seed: int = 0) -> Any:
    """The causal model of a configuration; its matrices are large enough to tell faults by."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    return model


def lm_of(model: Any) -> LM:
    return LM(model, tokenizer.build(), "family")


def own_logprobs(model: Any, prompt: tuple[int, ...], ids: tuple[int, ...]) -> Tensor:
    """Log-probs [T] of a completion by the model's own forward pass over this text alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + ids]), use_cache=False).logits
    table = logits[0].float().log_softmax(-1)
    return torch.stack([table[len(prompt) - 1 + i, token] for i, token in enumerate(ids)])
