"""Trained reward models: every value is that of the model's own forward pass on the text alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from family_world import config_of
from tokenizers import Tokenizer, models, pre_tokenizers

from spct.baselines import stock
from spct.baselines.encoding import Encoder
from spct.config import Slice
from spct.judge.task import Judge
from spct.lm import LM
from spct.metarm import model as scalar
from spct.records import Item, Label
from spct.schema import ModelConfig

WORDS = ["<unk>", "<eot>", "<pad>", "user", "assistant", "which", "river", "Ucayali", "Danube", "a"]
EOT, PAD = 1, 2
ENDING = "{% for m in messages %}{{ m.role }} {{ m.content }} <eot> {% endfor %}"
TRAILING = "{% for m in messages %}{{ m.role }} {{ m.content }} <eot> <pad> {% endfor %}"


def tokenizer_of(pad: str | None) -> Any:
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    more = {} if pad is None else {"pad_token": pad}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eot>", unk_token="<unk>", **more
    )


def classifier(name: str, pad: int | None) -> Any:
    """A one-label classifier of a family, its head and matrices large enough to tell texts by."""
    config = config_of(name)
    config.num_labels, config.pad_token_id, config.eos_token_id = 1, pad, EOT
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


def alone(model: Any, ids: tuple[int, ...]) -> float:
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])


TEXTS = [
    (3, 5, 6, EOT, 4, 7, EOT),
    (3, 5, EOT, 4, 8, EOT),
    (3, 5, 6, 9, EOT, 4, 8, 7, 9, EOT, PAD),
    (3, PAD, 4, 8),
    (3,),
    (3, 9, 4, PAD, EOT, EOT),
]
PADS = {"none": None, "eos": EOT, "own": PAD, "outside": -1}


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "gemma2", "gpt2"])
@pytest.mark.parametrize("pad", list(PADS))
def test_padding_changes_no_value(name: str, pad: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier(name, None if pad == "outside" else PADS[pad])
    model.config.pad_token_id = PADS[pad]
    expected = [alone(model, text) for text in TEXTS]
    for filler in (EOT, PAD):
        found = stock._logits("t", model, filler, TEXTS, 1000)
        assert found == pytest.approx(expected, abs=1e-5)
    assert "one response at a time" not in capsys.readouterr().err
    assert model.config.pad_token_id == PADS[pad]


def test_where_no_token_is_free_texts_pass_alone() -> None:
    model = classifier("llama", None)
    every = tuple(range(model.config.vocab_size))
    texts = [every, every[5:], (3, 4)]
    expected = [alone(model, text) for text in texts]
    assert stock._logits("t", model, EOT, texts, 10_000) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["fnet", "bart"])
def test_families_that_padding_changes_are_read_one_by_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """FNet mixes all positions whatever the mask; BART wants as many ends in every text."""
    model = classifier(name, PAD)
    texts = [(3, 5, 6, 4, 7, EOT), (3, 5, 4, EOT), (3, 5, 6, 9, 4, 8, 7, 9, EOT)]
    expected = [alone(model, text) for text in texts]
    assert stock._logits("t", model, PAD, texts, 1000) == pytest.approx(expected, abs=1e-5)
    assert "one response at a time" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_the_longest_text_that_fits_can_be_read(name: str) -> None:
    """RoBERTa counts positions from behind its padding's, so the first of them are no token's."""
    model = classifier(name, PAD)
    text = LM(model, tokenizer_of("<pad>"), "x")
    assert text.context == 512 - (PAD + 1 if name == "roberta" else 0)
    assert stock._logits("t", model, EOT, [(5,) * text.context], 1000)
    with pytest.raises((IndexError, RuntimeError)):
        stock._logits("t", model, EOT, [(5,) * (text.context + 1)], 1000)


@pytest.mark.parametrize(
    ("pad", "template"),
    [
        pytest.param(None, ENDING, id="no pad"),
        pytest.param("<eot>", ENDING, id="pad is eos"),
        pytest.param("<pad>", ENDING, id="own pad"),
        pytest.param("<pad>", TRAILING, id="pad ends texts"),
    ],
)
@pytest.mark.parametrize("stated", ["none", "eos", "own"])
def test_a_folder_scores_as_its_card_shows(
    pad: str | None, template: str, stated: str, judge: Judge, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(pad)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    classifier("llama", PADS[stated]).save_pretrained(tmp_path)
    rm = stock.load(ModelConfig("rm", str(tmp_path), None, "float32", False))
    asked = ({"role": "user", "content": "which river"},)
    item = Item("1", "t", "t", "t", asked, ("a Ucayali", "Danube"), Label("best", 0))
    (row,) = stock.score("t", rm.model, Encoder(rm.text, judge), [item], 1000)
    card = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = [
        tokenizer.apply_chat_template(
            [*asked, {"role": "assistant", "content": response}], return_dict=True
        )["input_ids"]
        for response in item.responses
    ]
    assert row.scores == pytest.approx([alone(card, tuple(text)) for text in ids], abs=1e-5)


@pytest.mark.parametrize("pad", [None, "</s>"], ids=["no pad", "pad is eos"])
def test_our_own_folder_reads_alike_elsewhere(
    pad: str | None, slice_of: Callable[..., Slice], talker_folder: Path, tmp_path: Path
) -> None:
    """A pad that is the end would let the stock forward pass read one token too early."""
    spec = slice_of("metarm").model
    base = transformers.AutoModelForCausalLM.from_pretrained(talker_folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(talker_folder)
    tokenizer.pad_token = pad
    base.config.pad_token_id = None
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rm = scalar.load(spec, tmp_path / "base")
    torch.nn.init.normal_(rm.model.score.weight)
    rm.model.save_pretrained(tmp_path / "rm")
    text = rm.text.example("one", "two")
    (ours,) = scalar.score("t", rm.model, [text], 100)
    elsewhere = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    assert alone(elsewhere.eval(), text.prompt + text.completion) == pytest.approx(ours, abs=1e-5)
