"""Every reason for which a text can end, in every engine and every reader of texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from endpoint_world import answer
from judged_rows import kept_rows

from spct import lm
from spct.baselines import cloud, critic
from spct.errors import StageStopped
from spct.finish import MEANING, OPENAI, VLLM, Finish, Outcome, meaning
from spct.grpo.rollout import Rollouts, sample_step, tasks_of_step
from spct.judge.parse import parse
from spct.judge.task import Judge
from spct.metarm.data import labelled
from spct.records import Item, Sample, write_bank, write_items
from spct.rft import select
from spct.rft import train as rft
from spct.sampling import openai_wire as wire
from spct.sampling import principles
from spct.sampling.base import Completion, Request
from spct.sampling.fill import roll_out
from spct.sampling.stops import Stops
from spct.sampling.vllm import VllmSampler
from spct.schema import GrpoConfig, SamplerConfig, SelectConfig

F = Finish
WHOLE, LOST = {F.stop, F.stop_string}, {F.abort, F.error, F.too_long, F.unknown, F.none}
EVERY = [pytest.param(one, id=str(one)) for one in Finish]
EXPECTED = {  # what comes of a text that says \boxed{8, 3}
    F.stop: Outcome.ok,
    F.stop_string: Outcome.ok,
    F.length: Outcome.truncated,
    F.content_filter: Outcome.truncated,
    F.tool_call: Outcome.malformed,
    F.abort: Outcome.engine_error,
    F.error: Outcome.engine_error,
    F.too_long: Outcome.prompt_too_long,
    F.unknown: Outcome.engine_error,
    F.none: Outcome.engine_error,
}


def test_the_table_has_a_row_for_each_reason_and_the_docs_have_the_same() -> None:
    assert set(MEANING) == set(Finish) == set(EXPECTED)
    page = (Path(__file__).parents[2] / "docs/engines.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (\w+) \|", page, re.MULTILINE))
    told = {one: str(MEANING[one].outcome or "read") for one in Finish}
    assert rows == {str(one): text for one, text in told.items()}


@pytest.mark.parametrize("finish", EVERY)
def test_the_parser(finish: Finish) -> None:
    found = parse("Scores: \\boxed{8, 3}", 2, 1, 10, finish)
    assert found.outcome is EXPECTED[finish]
    assert (found.scores is not None) is (finish in WHOLE)
    assert meaning(finish).read is (finish in WHOLE) and meaning(finish).lost is (finish in LOST)
    assert meaning(finish).end is (finish is F.stop)


def test_a_reason_in_words_of_others_is_unknown() -> None:
    assert meaning("because") is MEANING[F.unknown]


# ---- what engines say --------------------------------------------------------------------------


class Saying:
    """An engine that ends every text for one reason."""

    def __init__(self, model: lm.LM, finish: Finish, text: str = "Scores: \\boxed{8, 3}") -> None:
        self.model, self.finish, self.text = model, finish, text

    def sample(self, requests: list[Request]) -> list[Completion]:
        ids = tuple(self.model.tokenizer.encode(self.text))
        end = self.model.end if self.finish is F.stop else None
        values = (-1.0,) * (len(ids) + (end is not None))
        return [Completion(ids, values, self.finish, error="why", end=end) for _ in requests]


def vllm_of(talker: lm.LM, config: SamplerConfig) -> VllmSampler:
    sampler = object.__new__(VllmSampler)  # without its engine
    sampler.version, sampler.stops = None, Stops(talker, config)
    return sampler


def output(ids: list[int], reason: str | None, why: Any = None) -> SimpleNamespace:
    logprobs = [{token: SimpleNamespace(logprob=-1.0)} for token in ids]
    one = SimpleNamespace(
        token_ids=ids, logprobs=logprobs, finish_reason=reason, stop_reason=why,
        weight_versions=None,
    )  # fmt: skip
    return SimpleNamespace(outputs=[one])


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(pytest.param(one, finish, id=one) for one, finish in VLLM.items() if one != "stop"),
        pytest.param("a new one", F.unknown, id="unknown"),
        pytest.param(None, F.unknown, id="none"),
    ],
)
def test_vllm(
    talker: lm.LM, sampler_config: SamplerConfig, reason: str | None, finish: Finish
) -> None:
    done = vllm_of(talker, sampler_config)._completion(output([5, 6], reason))
    assert done.finish == finish and done.end is None
    assert done.ids == (() if finish in LOST else (5, 6))
    assert bool(done.error) is (finish in LOST)


def test_vllm_stops_where_all_engines_do(talker: lm.LM, sampler_config: SamplerConfig) -> None:
    end = talker.end
    done = vllm_of(talker, sampler_config)._completion(output([5, 6, end], "stop", end))
    assert (done.ids, done.end, done.finish) == ((5, 6), end, "stop")
    with pytest.raises(StageStopped, match=r"stopped at 6, which is no end of this model"):
        vllm_of(talker, sampler_config)._completion(output([5, 6], "stop", 6))
    word = talker.tokenizer.convert_ids_to_tokens(6)
    stopping = vllm_of(talker, replace(sampler_config, stop=[word]))
    done = stopping._completion(output([5, 6, 7], "length"))  # noticed late, or not at all
    assert (done.ids, done.finish, len(done.logprobs)) == ((5, 6), "stop_string", 2)


BODIES = [pytest.param({"messages": [{"content": "a"}]}, id="chat"),
          pytest.param({"prompt": "a"}, id="completions")]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(pytest.param(one, finish, id=one) for one, finish in OPENAI.items()),
        pytest.param("STOP", F.stop, id="in_capitals"),
        pytest.param("a new one", F.unknown, id="unknown"),
    ],
)
def test_an_endpoint(body: dict, reason: str, finish: Finish) -> None:
    said = answer("\\boxed{8, 3}", body, reason)
    if finish in (F.abort, F.error):
        with pytest.raises(wire.Unreadable, match=f"ended the text with '{reason}'"):
            wire.completion(said)
        return
    done = wire.completion(said)
    assert done.finish == finish and done.text == "\\boxed{8, 3}"
    assert ("'a new one'" in done.error) is (finish is F.unknown)


@pytest.mark.parametrize(
    ("more", "text", "finish", "left"),
    [
        pytest.param({}, "so", F.stop_string, "so", id="does_not_say_which"),
        pytest.param({"stop_reason": 7}, "so", F.stop, "so", id="vllm_names_a_token"),
        pytest.param({"stop_reason": "END"}, "so", F.stop_string, "so", id="vllm_names_a_string"),
        pytest.param({}, "so END and", F.stop_string, "so ", id="left_in"),
        pytest.param({"finish_reason": "length"}, "so", F.length, "so", id="limit"),
        pytest.param({"finish_reason": "content_filter"}, "so END", F.content_filter, "so END",
                     id="filter"),
    ],
)  # fmt: skip
def test_an_endpoint_with_stop_strings(more: dict, text: str, finish: Finish, left: str) -> None:
    said = answer(text, {"prompt": "a"})
    said["choices"][0] |= more
    done = wire.completion(said, ["END"])
    assert (done.finish, done.text) == (finish, left)


def test_a_stop_string_of_the_servers_own_is_no_end() -> None:
    said = answer("so", {"prompt": "a"})
    said["choices"][0]["stop_reason"] = "END"
    assert wire.completion(said).finish == F.stop_string


@pytest.mark.parametrize(
    ("extra", "stops"),
    [
        pytest.param({}, ("END",), id="sampler_stop"),
        pytest.param({"stop": "so"}, ("so",), id="one_more"),
        pytest.param({"stop": ["so", "on"]}, ("so", "on"), id="more"),
        pytest.param({"stop": None}, (), id="taken_out"),
    ],
)
def test_the_stop_strings_of_extra_are_what_was_asked(extra: dict, stops: tuple) -> None:
    config = SamplerConfig("openai", 24, 128, 8, 100, 1.0, stop=["END"])
    config = replace(config, openai=replace(config.openai, extra=extra))
    asked = wire.body(Request((), 7, 0.5, "a"), "m", config).get("stop", ())
    assert wire.stops(config) == stops == ((asked,) if isinstance(asked, str) else tuple(asked))


def test_stop_strings_are_asked_of_an_endpoint() -> None:
    config = SamplerConfig("openai", 24, 128, 8, 100, 1.0, stop=["END"])
    assert wire.body(Request((), 7, 0.5, "a"), "m", config)["stop"] == ["END"]
    assert "stop" not in wire.body(Request((), 7, 0.5, "a"), "m", replace(config, stop=[]))


def test_a_call_in_the_place_of_an_answer_is_one_whatever_the_endpoint_calls_its_end() -> None:
    said = answer("\\boxed{8, 3}", {"messages": [{"content": "a"}]})
    said["choices"][0]["message"]["tool_calls"] = [{"function": {"name": "f"}}]
    assert wire.completion(said).finish == F.tool_call


# ---- what readers do ---------------------------------------------------------------------------


@pytest.mark.parametrize("finish", EVERY)
def test_a_bank_row(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig, finish: Finish
) -> None:
    tasks = tasks_of_step(judge, items[:1], 0, _grpo(), seed=1)[:1]
    (rollout,) = roll_out(talker, Saying(talker, finish), sampler_config, judge, tasks)
    assert rollout.row.outcome == EXPECTED[finish]
    assert (rollout.row.scores is not None) is (finish in WHOLE)
    assert (rollout.completion is None) is (finish in LOST)
    assert rollout.row.finish == ("none" if finish in LOST else finish)
    assert bool(rollout.row.text) is (finish not in LOST)


def _grpo() -> GrpoConfig:
    from spct import config

    return replace(config.load(["experiment=smoke"]).grpo, group_size=4)


@pytest.mark.parametrize("finish", EVERY)
def test_grpo(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig, finish: Finish
) -> None:
    """What the engine lost leaves its group; all else is learned from as it was sampled."""
    tasks = tasks_of_step(judge, items[:1], 0, _grpo(), seed=1)
    saying = Saying(talker, finish)
    rollouts: Rollouts = sample_step(talker, saying, sampler_config, judge, tasks, 4)
    lost = EXPECTED[finish] is Outcome.engine_error
    assert rollouts.valid.all() if not lost else not rollouts.valid.any()
    if finish not in WHOLE:
        assert torch.equal(rollouts.rewards, torch.full((1, 4), -1.0))
    for example in rollouts.examples():
        assert (example is None) is (finish in LOST)
        if example is not None:
            assert (example.completion[-1] == talker.end) is (finish is F.stop)


@pytest.fixture(scope="module")
def right(judge: Judge, items: list[Item]) -> Sample:
    """A judgement that is right, as older code read it whatever its finish."""
    return next(row for row in kept_rows(judge, items, 1) if row.kind == "sample")


@pytest.mark.parametrize("finish", EVERY)
def test_select(right: Sample, finish: Finish) -> None:
    config = SelectConfig(True, True, False, False)
    for kind, said in (("sample", "cut_off"), ("hinted", "hinted_cut_off")):
        row = replace(right, finish=str(finish), kind=kind)
        found = select.judge_rows([row], {row.item_id: 2}, config)
        assert found == ["kept" if finish in WHOLE else said]


@pytest.mark.parametrize("finish", EVERY)
def test_rft_and_the_meta_rm_and_cloud(
    talker: lm.LM, judge: Judge, items: list[Item], right: Sample, tmp_path: Path, finish: Finish
) -> None:
    """An end stands behind a text that ended itself, and behind no other."""
    paths = {name: tmp_path / f"{name}.parquet" for name in ("items", "rows")}
    write_items(paths["items"], items)
    row = replace(right, finish=str(finish))
    write_bank(paths["rows"], [row])
    from spct.data.general import write_general

    write_general(tmp_path / "general.parquet", [])
    (taught,) = rft.examples(
        talker, judge, **paths, general=tmp_path / "general.parquet", general_share=0.0, seed=1
    )
    assert (taught.completion[-1] == talker.end) is (finish is F.stop)
    read, left_out = labelled(talker, judge, paths["items"], [paths["rows"]])
    assert left_out == ({} if finish in WHOLE else {"cut_off": 1})
    assert [one.example.completion for one in read] == [taught.completion] * (finish in WHOLE)
    item = next(item for item in items if item.id == row.item_id)
    reader = cloud.Critiqued(talker, judge, {item.id: [(5,), (6,)]}, {item.id: [row, row]})
    ends = [one[-1] == talker.end for one in reader.responses(item).completions]
    assert ends == [finish is F.stop] * 2


@pytest.mark.parametrize("finish", EVERY)
def test_a_critique_is_taught_only_of_a_judgement_that_is_whole(
    talker: lm.LM, slice_of: Callable[..., Any], right: Sample, items: list[Item], finish: Finish
) -> None:
    from spct.training.world import ALONE

    teacher = critic.Writer(slice_of("baseline"), talker, "scores", ALONE)
    item = next(item for item in items if item.id == right.item_id)
    best = item.label.value
    rows = {item.id: [[replace(right, finish=str(finish), scores=[9 - 5 * (i != best)])]
                      for i in range(item.n)]}  # fmt: skip
    examples, ledger = critic.kept(teacher, [item], rows)
    assert ledger == {"kept" if finish in WHOLE else "invalid": 1}
    assert len(examples) == (2 if finish in WHOLE else 0)


@pytest.mark.parametrize("finish", EVERY)
def test_principles(finish: Finish) -> None:
    found = principles.read("Principles: brief 5", str(finish))
    assert found == ("brief 5" if finish in WHOLE else None)


def test_general_text_ends_where_it_ends_and_nowhere_before(
    talker: lm.LM, judge: Judge, items: list[Item], tmp_path: Path
) -> None:
    """Text from data may write an end out; it is no token then."""
    from spct.data.general import write_general

    paths = {name: tmp_path / f"{name}.parquet" for name in ("items", "rows", "general")}
    write_items(paths["items"], items)
    write_bank(paths["rows"], [])
    write_general(paths["general"], [("brief </s> dull", "vivid </s> rich")])
    (one,) = rft.examples(talker, judge, **paths, general_share=0.5, seed=1)
    ids = (*one.prompt, *one.completion)
    assert ids.count(talker.end) == 1 and ids[-1] == talker.end
