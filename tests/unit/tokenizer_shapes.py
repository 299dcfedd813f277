"""Tokenizers in the shapes of well-known families, and models that say what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

from spct.lm import LM

WORDS = ("<unk>", "a", "judge", "user", "assistant", "model", "Critique:", "good", "Scores:")
BOXES = ("\\boxed{9, 2}", "\\boxed{2, 9}", "Human:", "Next:", "so")


@dataclass(frozen=True)
class Shape:
    """``special`` tokens are added ones, ``plain`` are ordinary words of the vocabulary.

    ``post``: what the tokenizer itself puts around a text, as ``<s> $A``.
    """

    template: str | None
    eos: str | None
    special: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    bos: str | None = None
    post: str = "$A"


def tokenizer(shape: Shape) -> transformers.PreTrainedTokenizerFast:
    """A word-level tokenizer of that shape."""
    vocabulary = {word: i for i, word in enumerate((*WORDS, *BOXES, *shape.plain))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words = Regex(r"\\boxed\{[^}]*\}|<\|\w+\|>|<|[^\s<]+")
    inner.pre_tokenizer = pre_tokenizers.Split(words, "removed", invert=True)
    named = [mark for mark in (shape.bos, shape.eos) if mark]
    marks = [AddedToken(mark, special=True, normalized=False) for mark in (*named, *shape.special)]
    inner.add_special_tokens(list(dict.fromkeys(marks)))
    around = [mark for mark in dict.fromkeys(named) if mark in shape.post]
    if around:
        pairs = [(mark, inner.token_to_id(mark)) for mark in around]
        inner.post_processor = processors.TemplateProcessing(shape.post, special_tokens=pairs)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=shape.eos, bos_token=shape.bos, unk_token="<unk>"
    )
    made.chat_template = shape.template
    return made


def scripted(
    made: transformers.PreTrainedTokenizerFast,
    chain: Sequence[str],
    stated: int | list[int] | None = None,
) -> LM:
    """A model that, greedy, says the words of ``chain`` one behind the other, each but once.

    A Llama whose layers do nothing and whose output layer is the successor relation. ``stated`` is
    ``eos_token_id`` of its generation config.
    """
    ids = [made.convert_tokens_to_ids(word) for word in chain]
    assert len(set(ids)) == len(ids) and made.unk_token_id not in ids
    size = len(made)
    config = transformers.LlamaConfig(
        vocab_size=size, hidden_size=size + size % 2, intermediate_size=2, num_hidden_layers=1,
        num_attention_heads=1, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
        max_position_embeddings=128,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        model.lm_head.weight.zero_()
        for one, two in zip(ids, ids[1:], strict=False):
            model.lm_head.weight[two, one] = 9.0
    model.generation_config.eos_token_id = stated
    return LM(model, made, "scripted")


def _turns(body: str, opening: str, before: str = "") -> str:
    """A template of a turn's body and what opens an answer."""
    return (
        f"{before}{{% for m in messages %}}{body}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{opening}{{% endif %}}"
    )


_IM = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
_ROLE = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
_ONLY_ASKS = "{% if m.role == 'user' %}"
CHATML = Shape(
    _turns(_IM, "<|im_start|>assistant\n"), "<|endoftext|>", ("<|im_start|>", "<|im_end|>")
)
GEMMA = Shape(
    _turns(
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n",
        "<start_of_turn>model\n", "{{ bos_token }}",
    ),
    "<eos>", ("<start_of_turn>", "<end_of_turn>"), bos="<bos>", post="<bos> $A",
)  # fmt: skip
PHI = Shape(
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    "<|endoftext|>", ("<|user|>", "<|assistant|>", "<|end|>"), bos="<s>",
)  # fmt: skip
LLAMA3 = Shape(
    _turns(
        f"{_ROLE}{{{{ m.content }}}}<|eot_id|>", _ROLE.replace("{{ m.role }}", "assistant"),
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\na<|eot_id|>",
    ),
    "<|end_of_text|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>", post="<|begin_of_text|> $A",
)  # fmt: skip
MISTRAL = Shape(
    "{{ bos_token }}{% for m in messages %}" + _ONLY_ASKS + "[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "</s>", ("[INST]", "[/INST]"), bos="<s>", post="<s> $A",
)  # fmt: skip
ZEPHYR = Shape(
    _turns("<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n", "<|assistant|>\n"),
    "</s>", bos="<s>", post="<s> $A",
)  # fmt: skip
GPT_OSS = Shape(
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final"
    "{% endif %}<|message|>{{ m.content }}{% if loop.last and m.role == 'assistant' %}<|return|>"
    "{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "<|endoftext|>", ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
)  # fmt: skip
DEEPSEEK = Shape(
    "{{ bos_token }}{% for m in messages %}" + _ONLY_ASKS + "<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>{{ m.content }}<|end_of_sentence|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
    "<|end_of_sentence|>", ("<|User|>", "<|Assistant|>"), bos="<|begin_of_sentence|>",
    post="<|begin_of_sentence|> $A",
)  # fmt: skip
_MARKED = "<|{{ m.role }}|>\n{{ m.content }}"
NO_CLOSE = Shape(_turns(_MARKED, "<|assistant|>"), "<|endoftext|>", ("<|user|>", "<|assistant|>"))
ALWAYS_OPENS = Shape(
    f"{{% for m in messages %}}{_MARKED}{{% endfor %}}<|assistant|>", "<|endoftext|>",
    ("<|user|>", "<|assistant|>"),
)  # fmt: skip
ALPACA = Shape(
    "{% for m in messages %}" + _ONLY_ASKS + "### Instruction:\n{{ m.content }}\n\n### Response:\n"
    "{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}", "</s>", bos="<s>", post="<s> $A",
)  # fmt: skip
SEPARATED = Shape(
    "{% for m in messages %}{{ m.content }}<|sep|>{% endfor %}", "<eos>", ("<|sep|>",)
)
DIALOGUE = Shape(
    "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    "<|endoftext|>", bos="<|endoftext|>",
)  # fmt: skip
CLOSED_BETWEEN = Shape(
    _turns(_IM.replace("<|im_end|>\n", "{{ '' if loop.last else '<|im_end|>' }}\n"),
           "<|im_end|><|im_start|>assistant\n"),
    "<|endoftext|>", ("<|im_start|>", "<|im_end|>"),
)  # fmt: skip
SMOLVLM = Shape(  # its texts are lists of parts
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    "<|im_end|>", ("<end_of_utterance>",), bos="<|im_start|>",
)  # fmt: skip
REFUSES = Shape(
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    "{{ m.content }}{% endfor %}", "</s>",
)  # fmt: skip
AS_A_WORD = Shape(CHATML.template, "<|endoftext|>", ("<|im_start|>",), ("<|im_end|>",))
PHI_UNFLAGGED = replace(PHI, special=("<|user|>", "<|assistant|>"), plain=("<|end|>",))
NO_TOKEN = Shape(CHATML.template, "<|endoftext|>")
PLAIN = Shape(None, "</s>", bos="<s>", post="<s> $A </s>")
NO_END = Shape(None, None)
