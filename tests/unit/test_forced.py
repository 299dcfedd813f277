from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct import lm
from spct.judge.parse import Outcome, parse
from spct.judge.task import Judge
from spct.pretrain import tokenizer
from spct.records import Item
from spct.sampling.base import Request
from spct.sampling.forced import ForcedScores, fits
from spct.sampling.native import NativeSampler
from spct.schema import SamplerConfig

WANTED = st.tuples(st.integers(1, 4), st.integers(-2, 3), st.integers(3, 12))


@given(WANTED, st.text("0123456789-, }", max_size=12))
def test_what_fits_and_is_closed_is_what_the_parser_takes(
    wanted: tuple[int, int, int], text: str
) -> None:
    if text.endswith("}") and fits(text, *wanted):
        assert parse("\\boxed{" + text, *wanted).outcome == Outcome.ok


@given(WANTED, st.data(), st.booleans())
def test_every_beginning_of_an_answer_fits_and_nothing_after_it(
    wanted: tuple[int, int, int], data: st.DataObject, spaced: bool
) -> None:
    n, low, high = wanted
    scores = data.draw(st.lists(st.integers(low, high), min_size=n, max_size=n))
    answer = (", " if spaced else ",").join(map(str, scores)) + "}"
    assert all(fits(answer[:end], *wanted) for end in range(len(answer) + 1))
    assert not any(fits(answer + more, *wanted) for more in ("}", ",", " ", "1"))
    outside = ",".join(map(str, [*scores[:-1], high + 1]))
    assert not fits(outside + "}", *wanted) and not fits(answer[:-1] + ",", *wanted)


def allowed(text: str, wanted: tuple[int, int, int]) -> set[str] | None:
    coder = tokenizer.build()
    model = lm.LM(None, coder, "")  # type: ignore[arg-type]
    made = coder.encode(text, add_special_tokens=False)
    tokens = ForcedScores(model).allowed(made, wanted)
    return None if tokens is None else {coder.decode([token]) for token in tokens}


def test_the_tokens_that_may_follow() -> None:
    digits = {*"123456789", "10"}
    assert allowed("Scores:", (2, 1, 10)) is None
    assert allowed("Scores: \\boxed{", (2, 1, 10)) == digits
    assert allowed("Scores: \\boxed{8", (2, 1, 10)) == {","}
    assert allowed("Scores: \\boxed{8,", (2, 1, 10)) == digits
    assert allowed("Scores: \\boxed{8, 1", (2, 1, 10)) == {"}"}  # here 1 and 0 make no 10
    assert allowed("Scores: \\boxed{8, 10}", (2, 1, 10)) == {"</s>"}
    assert allowed("Scores: \\boxed{", (1, 0, 1)) == {"0", "1"}
    assert allowed("Scores: \\boxed{0", (2, 1, 10)) is None  # past help


def test_a_random_judge_keeps_to_the_form(
    talker: lm.LM, judge: Judge, make_items: Callable[..., list[Item]],
    sampler_config: SamplerConfig,
) -> None:  # fmt: skip
    """Heat spoils the form of free judgements; forced ones that open a box all parse, other
    requests of the list keep their bits, and log-probs are those of what was allowed."""
    items = make_items("pair", 6) + make_items("best_of_4", 6)
    free = [
        Request(talker.encode_prompt(judge.prompt(item, list(range(item.n)))), seed, 1.4)
        for item in items
        for seed in range(4)
    ]
    bound = [
        replace(request, scores=(item.n, 1, 10))
        for item, request in zip([i for i in items for _ in range(4)], free, strict=True)
    ]
    found = NativeSampler(talker, sampler_config).sample(free + bound)
    assert found[: len(free)] == NativeSampler(talker, sampler_config).sample(free)
    outcomes = {True: [], False: []}
    for number, (request, completion) in enumerate(zip(free + bound, found, strict=True)):
        n = items[number % len(free) // 4].n
        text = talker.tokenizer.decode(completion.ids)
        if "\\boxed{" in text and completion.finish == "stop":
            outcome = parse(text, n, 1, 10).outcome
            outcomes[request.scores is not None].append(outcome == Outcome.ok)
    assert len(outcomes[True]) > 12 and all(outcomes[True])
    assert not all(outcomes[False])


def test_forced_log_probs_are_finite_and_certain_at_the_end(
    talker: lm.LM, judge: Judge, make_items: Callable[..., list[Item]],
    sampler_config: SamplerConfig,
) -> None:  # fmt: skip
    [item] = make_items("pair", 1)
    prompt = talker.encode_prompt(judge.prompt(item, [0, 1]))
    request = Request(prompt, 1, 1.0, scores=(2, 1, 10))
    [completion] = NativeSampler(talker, sampler_config).sample([request])
    assert talker.tokenizer.decode(completion.ids).endswith("}")
    assert completion.logprobs[-1] == pytest.approx(0.0, abs=1e-6)
    assert all(value > float("-inf") for value in completion.logprobs)


def test_a_box_in_thoughts_is_left_alone() -> None:
    coder = tokenizer.build()
    coder.add_tokens(["</think>"])
    coder.chat_template = "{{ messages[0].content }}<think>"
    forced = ForcedScores(lm.LM(None, coder, ""))  # type: ignore[arg-type]
    thought = coder.encode("Scores: \\boxed{", add_special_tokens=False)
    closed = coder.convert_tokens_to_ids("</think>")
    assert forced.allowed(thought, (2, 1, 10)) is None
    assert forced.allowed([*thought, closed, *thought], (2, 1, 10)) is not None
