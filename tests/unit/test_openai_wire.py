from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from endpoint_world import answer
from hypothesis import given
from hypothesis import strategies as st

from spct.finish import Finish
from spct.sampling import openai_wire as wire
from spct.sampling.base import Request
from spct.schema import OpenAIConfig, SamplerConfig

REQUEST = Request((), 7, 0.5, "two words")


def config_of(**openai: Any) -> SamplerConfig:
    return SamplerConfig("openai", 24, 128, 8, 100, 1.0, openai=OpenAIConfig(**openai))


def test_a_chat_body() -> None:
    assert wire.body(REQUEST, "m", config_of()) == {
        "model": "m", "max_tokens": 24, "temperature": 0.5, "seed": 7,
        "messages": [{"role": "user", "content": "two words"}],
    }  # fmt: skip


def test_a_completions_body_with_what_was_asked_for() -> None:
    config = replace(config_of(api="completions", logprobs=True), top_p=0.9)
    assert wire.body(REQUEST, "m", config) == {
        "model": "m", "max_tokens": 24, "temperature": 0.5, "seed": 7, "prompt": "two words",
        "top_p": 0.9, "logprobs": 1,
    }  # fmt: skip
    assert wire.body(REQUEST, "m", replace(config, openai=OpenAIConfig(logprobs=True)))["logprobs"]
    assert "top_p" not in wire.body(replace(REQUEST, temperature=0.0), "m", config)


def test_extra_fields_add_replace_and_take_out() -> None:
    extra = {"seed": None, "max_tokens": None, "max_completion_tokens": 900, "temperature": 1}
    body = wire.body(REQUEST, "m", config_of(extra=extra))
    assert sorted(body) == ["max_completion_tokens", "messages", "model", "temperature"]
    assert body["temperature"] == 1
    assert wire.most_tokens(body, "äb", 24) == 3 + wire.TEMPLATE_TOKENS + 900
    assert wire.most_tokens({}, "ab", 24) == 2 + wire.TEMPLATE_TOKENS + 24


@pytest.mark.parametrize("body", [{"messages": [{"content": "a b c"}]}, {"prompt": "a b c"}])
def test_an_answer_is_read(body: dict) -> None:
    done = wire.completion(answer("it is \\boxed{3}", body))
    assert (done.text, done.finish, done.ids) == ("it is \\boxed{3}", "stop", ())
    assert (done.tokens, done.count, done.prompt_tokens) == (3, 3, 3)
    assert done.logprobs == () and done.logprob is None
    assert wire.completion(answer("", body, "length")).finish == "length"
    assert wire.completion(answer("", body, "content_filter")).finish == "content_filter"


def test_logprobs_are_all_or_none() -> None:
    found = answer("a b", {"prompt": ""})
    found["choices"][0]["logprobs"] = {"token_logprobs": [-1.0, -0.5]}
    assert wire.completion(found).logprobs == (-1.0, -0.5)
    found["choices"][0]["logprobs"] = {"token_logprobs": [None, -0.5]}
    assert wire.completion(found).logprobs == ()
    found = answer("a b", {"messages": [{"content": ""}]})
    found["choices"][0]["logprobs"] = {"content": [{"logprob": -1}, {"logprob": -2.5}]}
    assert wire.completion(found).logprob == -3.5


def test_a_refusal_to_speak_is_an_empty_text_and_half_a_character_is_mended() -> None:
    found = answer("x", {"messages": [{"content": ""}]})
    found["choices"][0]["message"]["content"] = None
    assert wire.completion(found).text == ""
    assert wire.completion(answer("\ud83d end", {"prompt": ""})).text == "? end"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"choices": []}, "no choice"),
        ({"choices": None}, "no 'choices'"),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": None}]}, "'finish_reason'"),
        ({"choices": [{"message": "x", "finish_reason": "stop"}]}, "'message'"),
        ({"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}, "no text"),
        ({"choices": [{"finish_reason": "stop"}]}, "'text'"),
        ({"usage": None}, "'usage'"),
        ({"usage": {"prompt_tokens": 1}}, "'completion_tokens'"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": -1}}, "completion_tokens is -1"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(change: dict, says: str) -> None:
    with pytest.raises(wire.Unreadable, match=says):
        wire.completion(answer("x", {"prompt": ""}) | change)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(
    ["choices", "message", "content", "text", "usage", "finish_reason", "prompt_tokens",
     "completion_tokens", "logprobs", "token_logprobs", "logprob", "error", "code"]
)  # fmt: skip
anything = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(names, x, max_size=5), max_leaves=20
)


@given(anything, st.dictionaries(names, anything))
def test_nothing_an_endpoint_sends_can_crash_the_reader(found: Any, more: dict) -> None:
    choice = {"message": {"content": "x"}, "finish_reason": "stop"} | more
    for content in (found, answer("x", {"prompt": ""}) | {"choices": [choice]}):
        try:
            done = wire.completion(content)
        except wire.Unreadable:
            continue
        assert isinstance(done.text, str) and done.count >= 0 and done.finish in set(Finish)
    assert "\n" not in wire.complaint(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"error": {"message": "no such\n model", "code": "model_not_found"}},
         "no such model model_not_found"),
        ({"error": "gone"}, "gone"),
        ({"detail": "Not Found"}, "Not Found"),
        ("<html>\n502</html>", "<html> 502</html>"),
    ],
)  # fmt: skip
def test_complaints(content: Any, said: str) -> None:
    assert wire.complaint(content) == said


@given(st.text("ab ", max_size=300), st.text("ab", min_size=3, max_size=10))
def test_no_piece_of_a_secret_survives_shortening(text: str, secret: str) -> None:
    cut = wire.shortened(f"{text}{secret}{text}", secret)
    assert secret not in cut and len(cut) <= 200
    pieces = f"{text}{secret}{text}".replace(secret, "***")
    assert cut.rstrip("…") == pieces[: len(cut.rstrip("…"))]


@pytest.mark.parametrize(
    ("status", "said", "long"),
    [
        (400, "This model's maximum context length is 8192 tokens", True),
        (400, "… context_length_exceeded", True),
        (400, "invalid temperature", False),
        (500, "maximum context length", False),
    ],
)
def test_a_prompt_that_is_too_long_for_the_endpoint(status: int, said: str, long: bool) -> None:
    assert wire.too_long(status, said) is long
