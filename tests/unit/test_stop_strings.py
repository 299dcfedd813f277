"""``sampler.stop``: one rule for where a text ends at a string."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tokenizer_shapes as shapes
from tokenizer_shapes import scripted, tokenizer

from spct import config
from spct.config import Slice
from spct.errors import ConfigError
from spct.judge.parse import Outcome, parse
from spct.lm import LM
from spct.sampling.base import Request, build, text_of, wanted
from spct.sampling.stops import Stops
from spct.schema import SamplerConfig

CONFIG = SamplerConfig("native", 12, 64, 4, 100, 1.0, stop=["Human:"])
CHAIN = ("a", "Critique:", "\\boxed{9, 2}", "Human:", "Next:", "\\boxed{2, 9}")
ENGINES = [pytest.param("native", id="native"), pytest.param("hf", id="hf")]


@pytest.fixture(scope="module")
def base() -> LM:
    """A base model: no token ends its texts."""
    return scripted(tokenizer(shapes.NO_END), CHAIN)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_ends_before_the_string_and_holds_its_tokens(base: LM, engine: str) -> None:
    sampler = build(base, replace(CONFIG, engine=engine))
    (done,) = sampler.sample([Request((1,), 1, 0.0)])
    assert (done.finish, done.end, text_of(base, done)) == (
        "stop_string", None, "Critique: \\boxed{9, 2} "
    )  # fmt: skip
    assert base.tokenizer.convert_ids_to_tokens(done.sampled) == list(CHAIN[1:4])
    assert len(done.logprobs) == done.count == 3
    assert parse(text_of(base, done), 2, 1, 10, done.finish).scores == (9, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_stop_each_by_itself(base: LM, engine: str) -> None:
    starts = base.tokenizer.convert_tokens_to_ids(["Next:", "a", "\\boxed{9, 2}"])
    sampler = build(base, replace(CONFIG, engine=engine, max_new_tokens=3))
    done = sampler.sample([Request((2, start), 1, 0.0) for start in starts])
    assert [(c.finish, c.count) for c in done] == [
        ("length", 3), ("stop_string", 3), ("stop_string", 1)
    ]  # fmt: skip
    assert text_of(base, done[2]) == ""


def letters(*stop: str, end: int = 9) -> Stops:
    """Tokens 0..8 read "ab", "bc", "cd", …; 9 ends a text."""

    def decode(ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(f"{chr(97 + i)}{chr(98 + i)}" for i in ids)

    model = SimpleNamespace(eos={end}, tokenizer=SimpleNamespace(decode=decode))
    return Stops(model, replace(CONFIG, stop=list(stop)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stop", "ids", "finish", "kept", "text"),
    [
        pytest.param(["bb"], [0, 1, 2], "stop_string", 2, "a", id="across_tokens"),
        pytest.param(["c"], [0, 1, 2], "stop_string", 2, "abb", id="within_a_token"),
        pytest.param(["cd", "bb"], [0, 1, 2], "stop_string", 2, "a", id="the_first_of_two"),
        pytest.param(["bc", "c"], [0, 1], "stop_string", 2, "ab", id="overlapping"),
        pytest.param(["bb"], [0, 9, 1], "stop", 1, None, id="its_own_end_is_first"),
        pytest.param(["bb"], [0, 1, 9], "stop_string", 2, "a", id="its_own_end_is_later"),
        pytest.param(["jk"], [0, 9], "stop", 1, None, id="the_string_of_the_end"),
        pytest.param(["zz"], [0, 1], "length", 2, None, id="neither"),
        pytest.param([], [0, 1, 9], "stop", 2, None, id="no_strings"),
    ],
)
def test_the_first_end_of_a_text(
    stop: list[str], ids: list[int], finish: str, kept: int, text: str | None
) -> None:
    done = letters(*stop).completion(ids, [-float(i) for i in range(len(ids))])
    assert (done.finish, done.ids, done.text) == (finish, tuple(ids[:kept]), text)
    assert len(done.logprobs) == len(done.sampled) == kept + (finish == "stop")
    assert done.end == (9 if finish == "stop" else None)


def test_a_string_is_seen_however_long_the_text() -> None:
    stops, ids = letters("bb"), [3] * 500
    assert not stops.written(ids)
    assert stops.written([*ids, 0, 1]) and not stops.written([0, 1, *ids])
    assert stops.completion([0, 1, *ids], [0.0] * 502).count == 2  # whoever noticed it late


def test_a_box_that_the_string_cuts_is_malformed() -> None:
    assert parse("\\boxed{9, ", 2, 1, 10, "stop_string").outcome is Outcome.malformed


@pytest.mark.parametrize(
    ("word", "says"),
    [
        pytest.param("sampler.stop=['']", "an empty string", id="empty"),
        pytest.param("sampler.stop=[x,x]", "is not a list without repeats", id="twice"),
        pytest.param("sampler.stop=['\\\\boxed{9']", "would end every judgement", id="box"),
    ],
)
def test_strings_that_cannot_be_meant_are_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"sampler\.stop: .*{says}"):
        config.load(["experiment=smoke", word])


def test_only_strings_that_are_set_are_frozen() -> None:
    """What was frozen before there was the key stays as it is."""
    plain = config.load(["experiment=smoke"])
    assert "stop" not in config.view(plain, "judge")["sampler"]
    assert "stop" not in Slice.of(plain, "judge").as_dict()["sampler"]
    assert "stop" not in wanted(plain.sampler)
    stopping = config.load(["experiment=smoke", "sampler.stop=[Human:]"])
    assert config.view(stopping, "judge")["sampler"]["stop"] == ["Human:"]
    assert wanted(stopping.sampler)["stop"] == ["Human:"]
