"""The word-level tokenizer of the toy bases, an ordinary Hugging Face fast tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spct.data import toy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
_WORDS = r"\\boxed\{|</?\w+>|\[\d+\]|\w+:|\w+|[^\w\s]"
_FORMAT = [
    "<judge>", "<read>", "<weigh>", "<score>", "<check>", "self", "none", "given",
    "scores", "verdict", "index", "critique", "principles",
    "Query:", "Reference:", "Criteria:", "Hint:", "Answer:", "Principles:", "Critique:", "Scores:",
    "so", "true", "yes", "no", ",", "}", "[1]", "[2]", "[3]", "[4]", "\\boxed{",
]  # fmt: skip


def vocabulary() -> list[str]:
    """Every word of the toy world, in a fixed order."""
    words = [
        PAD,
        EOS,
        UNK,
        *_FORMAT,
        *map(str, range(11)),
        *toy.CRITERIA,
        *toy.EMPHASIS,
        *toy.TASKS,
    ]
    words += [cue for pair in toy.CUES.values() for cue in pair] + list(toy.READING)
    return list(dict.fromkeys(words))


def build() -> PreTrainedTokenizerFast:
    """One token a word; decoding gives ``\\boxed{8, 7}`` back without stray spaces."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary())}, unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    inner.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(" ,", ","),
            decoders.Replace("{ ", "{"),
            decoders.Replace(" }", "}"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
