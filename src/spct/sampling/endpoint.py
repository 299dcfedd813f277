"""A model that only an endpoint knows: no weights and no tokenizer here, prompts go out as text."""

from __future__ import annotations

import os
from typing import Any

from spct import artifact, models
from spct.errors import ConfigError
from spct.lm import LM
from spct.schema import ModelConfig, OpenAIConfig

# Which marks an endpoint's tokenizer reads as special is not known, so those of the common chat
# templates (ChatML, Llama 2 and 3, Mistral, Gemma, Phi, DeepSeek, gpt-oss) count as such.
CHAT_MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|begin_of_text|>"),
    *("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    *("<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]"),
    *("[/SYSTEM_PROMPT]", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>", "<|message|>"),
    *("<|channel|>", "<|return|>", "<|call|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    *("<｜User｜>", "<｜Assistant｜>"),
)


class _UnknownTokenizer:
    """What is known of a tokenizer that nobody here has."""

    chat_template = None


class Endpoint(LM):
    """Stands in the place of a language model where only its endpoint has one.

    Its hash is over URL and name: the endpoint may change the model behind them unseen. ``params``
    is 0, unknown; ``context`` None; ``encode_prompt`` gives no ids, so no prompt is too long until
    the endpoint says so.
    """

    def __init__(self, spec: ModelConfig, endpoint: OpenAIConfig) -> None:
        digest = artifact.text_hash(f"{endpoint.base_url.rstrip('/')} {models.served(spec.source)}")
        tokenizer: Any = _UnknownTokenizer()
        super().__init__(None, tokenizer, digest[:16], spec.source, spec)

    @property
    def params(self) -> int:
        return 0

    @property
    def context(self) -> None:
        return None

    @property
    def tokenizer_hash(self) -> str:
        return ""

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(sorted(CHAT_MARKS))

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return ()


def key_of(endpoint: OpenAIConfig) -> str:
    """The key from the environment, ``""`` if none is asked for.

    Raises ``ConfigError`` if it is not there. No message repeats it, and no file may hold it.
    """
    name = endpoint.key_env
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"sampler.openai.key_env: the environment variable {name} is not set; export it where "
            "the stage runs"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"sampler.openai.key_env: the value of {name} cannot be a key")
    return key
