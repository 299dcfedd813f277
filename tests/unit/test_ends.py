"""Where prompts begin and texts end, over the shapes of tokenizers that people use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import tokenizer_shapes as shapes
from tokenizer_shapes import Shape, scripted, tokenizer

from spct import ends, lm
from spct.baselines.encoding import Encoder
from spct.errors import ConfigError
from spct.judge.parse import Outcome, parse
from spct.judge.task import Judge
from spct.lm import LM
from spct.records import Item
from spct.sampling.base import Request, build, text_of
from spct.schema import ModelConfig, SamplerConfig
from spct.training.batching import collate

CONFIG = SamplerConfig("native", 12, 64, 4, 100, 1.0)
SAID = ("Critique:", "good", "Scores:", "\\boxed{9, 2}")
NEXT = ("user", "Next:", "Human:", "\\boxed{2, 9}")
# Shape, the end that is taught, all ends.
ENDS = [
    pytest.param(shapes.CHATML, "<|im_end|>", {"<|endoftext|>"}, id="chatml"),
    pytest.param(shapes.GEMMA, "<end_of_turn>", {"<eos>"}, id="gemma"),
    pytest.param(shapes.PHI, "<|end|>", {"<|endoftext|>"}, id="phi"),
    pytest.param(shapes.LLAMA3, "<|eot_id|>", {"<|end_of_text|>"}, id="llama3"),
    pytest.param(shapes.MISTRAL, "</s>", set(), id="mistral"),
    pytest.param(shapes.ZEPHYR, "</s>", set(), id="zephyr"),
    pytest.param(shapes.GPT_OSS, "<|return|>", {"<|endoftext|>"}, id="gpt_oss"),
    pytest.param(shapes.DEEPSEEK, "<|end_of_sentence|>", set(), id="deepseek"),
    pytest.param(shapes.NO_CLOSE, "<|endoftext|>", set(), id="no_close"),
    pytest.param(shapes.ALWAYS_OPENS, "<|endoftext|>", set(), id="always_opens"),
    pytest.param(shapes.ALPACA, "</s>", set(), id="alpaca"),
    pytest.param(shapes.SEPARATED, "<|sep|>", {"<eos>"}, id="separated"),
    pytest.param(shapes.DIALOGUE, "<|endoftext|>", set(), id="dialogue"),
    pytest.param(shapes.CLOSED_BETWEEN, "<|im_end|>", {"<|endoftext|>"}, id="closed_between"),
    pytest.param(shapes.SMOLVLM, "<end_of_utterance>", {"<|im_end|>"}, id="smolvlm"),
    pytest.param(shapes.REFUSES, "</s>", set(), id="refuses"),
    pytest.param(shapes.AS_A_WORD, "<|im_end|>", {"<|endoftext|>"}, id="as_a_word"),
    pytest.param(shapes.PHI_UNFLAGGED, "<|end|>", {"<|endoftext|>"}, id="phi_unflagged"),
    pytest.param(shapes.PLAIN, "</s>", set(), id="plain"),
]
ENGINES = [pytest.param("native", id="native"), pytest.param("hf", id="hf")]


def words(model: LM, ids: Sequence[int]) -> list[str]:
    return model.tokenizer.convert_ids_to_tokens(list(ids))


# ---- which tokens end a text -------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "taught", "others"), ENDS)
def test_a_turn_ends_as_in_the_chat_template(shape: Shape, taught: str, others: set[str]) -> None:
    model = LM(None, tokenizer(shape), "x")
    assert words(model, [model.end]) == [taught]
    assert set(words(model, model.eos)) == {taught} | others
    assert words(model, model.encode_completion("good a")) == ["good", "a", taught]
    assert words(model, model.encode_completion("good a", ended=False)) == ["good", "a"]


@pytest.mark.parametrize(
    ("stated", "more"),
    [
        pytest.param(None, [], id="none"),
        pytest.param(3, [3], id="an_int"),
        pytest.param([3, 4], [3, 4], id="a_list"),
        pytest.param([3, 999, -1], [3], id="outside_the_vocabulary"),
    ],
)
def test_the_generation_config_adds_its_ends(
    stated: int | list[int] | None, more: list[int]
) -> None:
    model = scripted(tokenizer(shapes.CHATML), SAID, stated)
    own = model.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert model.eos == {*own, *more}
    assert words(model, [model.end]) == ["<|im_end|>"]


def saved(model: LM, folder: Path) -> ModelConfig:
    folder.mkdir(exist_ok=True)
    lm.save(model, folder)
    return ModelConfig("m", str(folder), None, "float32", False)


def test_a_folder_says_the_same_with_and_without_its_weights(tmp_path: Path) -> None:
    config = saved(scripted(tokenizer(shapes.CHATML), SAID, [3, 999]), tmp_path)
    whole, hollow = lm.load(config), lm.load(config, weights=False)
    assert whole.eos == hollow.eos and 3 in whole.eos and 999 not in whole.eos


def test_without_a_generation_config_the_models_own_counts_if_it_is_a_token_that_ends(
    tmp_path: Path,
) -> None:
    """``config.json`` may hold the default of the architecture, which is any word here."""
    model = scripted(tokenizer(shapes.CHATML), SAID)
    for stated, more in ((2, set()), (model.tokenizer.convert_tokens_to_ids("<|im_start|>"), 1)):
        model.model.config.eos_token_id = stated
        config = saved(model, tmp_path)
        (tmp_path / "generation_config.json").unlink(missing_ok=True)
        whole, hollow = lm.load(config), lm.load(config, weights=False)
        assert whole.eos == hollow.eos
        assert (stated in whole.eos) is bool(more)


def test_a_model_without_any_end_is_refused_by_name() -> None:
    model = scripted(tokenizer(shapes.NO_END), SAID)
    assert model.eos == frozenset() and model.encode_completion("good") != ()
    assert model.pad == 0
    for act in (lambda: build(model, CONFIG), lambda: model.end):
        with pytest.raises(ConfigError, match=r"no token ends a text of .*sampler\.stop"):
            act()


def test_a_turn_closed_by_a_mark_that_is_no_token_is_refused_by_name() -> None:
    model = scripted(tokenizer(shapes.NO_TOKEN), SAID)
    with pytest.raises(ConfigError, match=r"closes a turn with <\|im_end\|>, which is no token"):
        build(model, CONFIG)
    assert build(model, replace(CONFIG, stop=["<|im_end|>"]))


@pytest.mark.parametrize(
    ("shape", "end"),
    [
        pytest.param(shapes.CHATML, "<|im_end|>", id="flagged"),
        pytest.param(shapes.AS_A_WORD, "<|im_end|>", id="as_a_word"),
        pytest.param(shapes.PHI_UNFLAGGED, "<|end|>", id="unflagged"),
    ],
)
def test_an_end_written_out_within_a_text_ends_nothing(shape: Shape, end: str) -> None:
    model = LM(None, tokenizer(shape), "x")
    assert end in model.marks  # which no prompt takes over from data
    found = model.encode_completion(f"good {end} a")
    assert [token for token in found if token in model.eos] == [model.end] == [found[-1]]


def test_what_a_template_writes_is_a_mark_unflagged_too_but_thoughts_are_not() -> None:
    made = tokenizer(replace(shapes.DEEPSEEK, special=()))
    made.add_tokens(["<|User|>", "<think>", "<|unused|>"])
    named = {"<unk>", "<|begin_of_sentence|>", "<|end_of_sentence|>"}
    assert set(LM(None, made, "x").marks) == named | {"<|User|>"}


# ---- the judge that ran on (case 02) -----------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("shape", "end"), [
    pytest.param(shapes.CHATML, "<|im_end|>", id="chatml"),
    pytest.param(shapes.GEMMA, "<end_of_turn>", id="gemma"),
    pytest.param(shapes.PHI, "<|end|>", id="phi"),
    pytest.param(shapes.LLAMA3, "<|eot_id|>", id="llama3"),
    pytest.param(shapes.MISTRAL, "</s>", id="mistral"),
    pytest.param(shapes.AS_A_WORD, "<|im_end|>", id="as_a_word"),
])  # fmt: skip
def test_no_turn_is_invented_and_training_ends_where_sampling_stops(
    shape: Shape, end: str, engine: str
) -> None:
    model = scripted(tokenizer(shape), ("a", *SAID, end, *NEXT))
    prompt = tuple(model.tokenizer.convert_tokens_to_ids(["judge", "a"]))
    (done,) = build(model, replace(CONFIG, engine=engine)).sample([Request(prompt, 1, 0.0)])
    text = text_of(model, done)
    assert (done.finish, done.count, words(model, [done.end])) == ("stop", 5, [end])
    assert parse(text, 2, 1, 10, done.finish).scores == (9, 2)
    assert model.encode_completion(text) == done.sampled


@pytest.mark.parametrize("engine", ENGINES)
def test_an_end_of_the_generation_config_alone_stops_a_text(engine: str) -> None:
    made = tokenizer(shapes.CHATML)
    stated = [made.convert_tokens_to_ids("user"), 999]
    model = scripted(made, ("a", *SAID, *NEXT), stated)
    (done,) = build(model, replace(CONFIG, engine=engine)).sample([Request((1,), 1, 0.0)])
    assert (done.finish, done.end, len(done.ids)) == ("stop", stated[0], 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_that_the_limit_cuts_is_not_read(engine: str) -> None:
    model = scripted(tokenizer(shapes.CHATML), ("a", *SAID, *NEXT))
    config = replace(CONFIG, engine=engine, max_new_tokens=8)
    (done,) = build(model, config).sample([Request((1,), 1, 0.0)])
    assert (done.finish, done.end, done.count) == ("length", None, 8)
    assert parse(text_of(model, done), 2, 1, 10, done.finish).outcome is Outcome.truncated


# ---- prompts (case 16) -------------------------------------------------------------------------

ROUND = "<s> $A </s>"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param(shapes.PLAIN, ["<s>", "judge", "a"], id="adds_both"),
        pytest.param(replace(shapes.PLAIN, post="$A </s>"), ["judge", "a"], id="adds_its_end"),
        pytest.param(replace(shapes.PLAIN, post="$A"), ["judge", "a"], id="adds_nothing"),
        pytest.param(
            replace(shapes.PLAIN, bos="</s>", post="</s> $A"), ["</s>", "judge", "a"],
            id="begins_with_its_end",
        ),
        pytest.param(
            replace(shapes.ZEPHYR, post=ROUND),
            ["<s>", "<unk>", "judge", "a", "</s>", "<unk>"], id="template_writes_no_begin",
        ),
        pytest.param(
            replace(shapes.MISTRAL, post=ROUND),
            ["<s>", "[INST]", "judge", "a", "[/INST]"], id="template_writes_the_begin",
        ),
        pytest.param(
            replace(shapes.MISTRAL, template="{{ bos_token }}" + str(shapes.MISTRAL.template)),
            ["<s>", "[INST]", "judge", "a", "[/INST]"], id="template_writes_it_twice",
        ),
        pytest.param(
            replace(
                shapes.MISTRAL, post="$A", template="{{ bos_token }}" + str(shapes.MISTRAL.template)
            ),
            ["<s>", "[INST]", "judge", "a", "[/INST]"], id="template_alone_writes_it_twice",
        ),
        pytest.param(
            shapes.PHI, ["<|user|>", "judge", "a", "<|end|>", "<|assistant|>"],
            id="tokenizer_adds_no_begin",
        ),
    ],
)  # fmt: skip
def test_a_prompt_has_one_begin_and_no_end_of_the_tokenizers_own(
    shape: Shape, expected: list[str]
) -> None:
    model = LM(None, tokenizer(shape), "x")
    assert words(model, model.encode_prompt("judge a")) == expected
    rendered = model._rendered("judge a") if shape.template else "judge a"
    assert words(model, model.encode_rendered(rendered)) == expected


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shapes.PLAIN, id="no_template"),
        pytest.param(replace(shapes.ZEPHYR, post=ROUND), id="template_writes_no_begin"),
        pytest.param(replace(shapes.MISTRAL, post=ROUND), id="template_writes_the_begin"),
    ],
)
def test_what_a_reward_model_reads_has_one_begin_and_ends_once(
    shape: Shape, judge: Judge, items: list[Item]
) -> None:
    model = LM(None, tokenizer(shape), "x")
    encoder = Encoder(model, judge)
    group = encoder.responses(items[0])
    texts = [(*group.prompt, *completion) for completion in group.completions]
    texts.append(sum(astuple(encoder.pair(items[0], 0, 1)), ()))
    turns = 1 + (shape.template == shapes.ZEPHYR.template)  # which closes the question too
    for text in texts[:-1]:
        found = words(model, text)
        assert found.count("<s>") == 1 == found.index("<s>") + 1
        assert found.count("</s>") == turns
    last = words(model, texts[-1])
    assert last.count("<s>") == 1 == last.index("<s>") + 1 and last[-1] == "</s>"


def test_the_begin_is_found_where_most_words_are_unknown() -> None:
    made = tokenizer(shapes.PLAIN)
    assert ends.begin(made) == (made.bos_token_id,)


# ---- pads --------------------------------------------------------------------------------------


def test_a_pad_that_is_the_end_is_not_taught_and_the_end_is() -> None:
    model = scripted(tokenizer(shapes.MISTRAL), ("a", *SAID))
    assert model.tokenizer.pad_token_id is None and model.pad == model.end
    examples = [model.example("judge", "good"), model.example("judge a", "good good a")]
    batch = collate(examples, model.pad)
    taught = [batch.ids[row, batch.columns[batch.rows == row]].tolist() for row in range(2)]
    assert [tuple(ids) for ids in taught] == [example.completion for example in examples]
    assert [ids.count(model.end) for ids in taught] == [1, 1]
    assert batch.ids[0].tolist().count(model.end) > 1  # the others are pads


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_padded_with_the_end_do_not_end_each_other(engine: str) -> None:
    model = scripted(tokenizer(shapes.MISTRAL), ("a", *SAID, "</s>"))
    starts = model.tokenizer.convert_tokens_to_ids(["Scores:", "a", "good"])
    requests = [Request((2, start), 1, 0.0) for start in starts]
    done = build(model, replace(CONFIG, engine=engine)).sample(requests)
    assert [(c.finish, c.count, c.end) for c in done] == [
        ("stop", 2, model.end), ("stop", 5, model.end), ("stop", 3, model.end)
    ]  # fmt: skip
