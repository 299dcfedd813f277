"""LLM-as-a-Judge: a choice is a point, points are the majority, and what a choice was worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import artifact, config, lm, seeds
from spct.baselines import rows, token_prob
from spct.baselines.kinds import APPROACHES, KINDS
from spct.config import Slice
from spct.data import prepare, toy
from spct.errors import BankError, ConfigError
from spct.judge.parse import Outcome
from spct.judge.task import Judge
from spct.judge.vote import vote
from spct.records import Item, Sample, read_items, write_bank, write_items
from spct.schema import JudgeConfig

ITEM = toy.make_item(seeds.rng(1), "pair", "toy_pairs", "pair-0")
CHOOSER = Judge.build(
    JudgeConfig("toy.jinja", "self", "random", 0, 1, "verdict", answer="index"), []
)
CHOICE = ["judge.answer=index", "judge.score_min=0", "judge.score_max=1", "data.responses=2"]


@pytest.fixture
def chooser() -> Judge:
    return CHOOSER


@pytest.fixture(scope="module")
def base() -> lm.LM:
    return lm.load(config.load(["model=toy_s"]).model)


# ---- the choice --------------------------------------------------------------------------------


def test_the_prompt_asks_for_a_number(chooser: Judge, items: list[Item]) -> None:
    assert chooser.prompt(items[0], [0, 1]).startswith("<judge> self index Query:")
    plain = Judge.build(replace(chooser.config, template="default.jinja"))
    text = plain.prompt(items[0], [1, 0])
    assert "Decide which single reply is the best" in text
    assert "\\boxed{number of the best reply}" in text and "grade of reply" not in text


@pytest.mark.parametrize("order", list(permutations(range(2))))
@pytest.mark.parametrize("number", [1, 2])
def test_a_choice_is_a_point_in_the_original_order(
    chooser: Judge, items: list[Item], order: tuple[int, ...], number: int
) -> None:
    item = items[0]
    reading = chooser.read(item, list(order), f"so Scores: \\boxed{{{number}}}", "stop")
    chosen = order[number - 1]
    assert reading.scores == [int(i == chosen) for i in range(2)]
    assert reading.correct == (chosen == item.label.value)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("\\boxed{3}", Outcome.out_of_range),
        ("\\boxed{0}", Outcome.out_of_range),
        ("\\boxed{1, 2}", Outcome.wrong_count),
        ("\\boxed{first}", Outcome.malformed),
    ],
)
def test_what_is_no_choice_has_no_point(
    chooser: Judge, items: list[Item], text: str, outcome: Outcome
) -> None:
    reading = chooser.read(items[0], [0, 1], text, "stop")
    assert (reading.outcome, reading.scores, reading.correct) == (outcome, None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=9))
def test_points_add_up_to_the_majority_of_choices(drawn: list[tuple[bool, int]]) -> None:
    """Each sample: the order it was shown in, and the number written (0 cannot be read)."""
    points, chosen = [], [0, 0]
    for turned, number in drawn:
        order = [1, 0] if turned else [0, 1]
        points.append(CHOOSER.read(ITEM, order, f"\\boxed{{{number}}}", "stop").scores)
        if number:
            chosen[order[number - 1]] += 1
    assert vote(points, n=2) == chosen


def test_a_forced_box_holds_one_number_of_a_response(chooser: Judge, items: list[Item]) -> None:
    assert chooser.box(items[0]) == (1, 1, 2)
    scorer = Judge.build(replace(chooser.config, answer="scores", score_max=9))
    assert scorer.box(items[0]) == (2, 0, 9)


def test_it_needs_pairs_and_points() -> None:
    assert config.load(["experiment=tiny_llm_judge"]).judge.answer == "index"
    for wrong in ("judge.score_min=-1", "judge.score_max=10", "data.responses=0"):
        with pytest.raises(ConfigError, match=r"judge\.answer: .* and data\.responses=2"):
            config.load([*CHOICE, wrong])


def test_other_items_are_dropped_with_a_count_and_pairs_stay_as_they_are(tmp_path: Path) -> None:
    few = [
        "data.train_items=40", "data.general_items=4", "data.benchmarks.toy_pairs=5",
        "data.benchmarks.toy_shift=5", "data.benchmarks.toy_single=4",
        "data.benchmarks.toy_best_of_4=3",
    ]  # fmt: skip
    made = {}
    for name, more in {"all": [], "pairs": ["data.responses=2"]}.items():
        cfg = Slice.of(config.load([*few, *more]), "prepare")
        files = {key: tmp_path / f"{name}-{key}.parquet" for key in ("train", "bench", "general")}
        files |= {key: tmp_path / f"{name}-{key}" for key in ("ledger", "drops", "card")}
        prepare.run(cfg, 7, **{f"out_{key}": path for key, path in files.items()})  # type: ignore[arg-type]
        made[name] = files
    for role in ("train", "bench"):
        pairs = [item for item in read_items(made["all"][role]) if item.n == 2]
        assert read_items(made["pairs"][role]) == pairs
    ledger = json.loads(made["pairs"]["ledger"].read_text())
    assert ledger["rejected"]["other_size"] == 40 - 22 + 4 + 3
    assert ledger["in"] == ledger["kept"] + sum(ledger["rejected"].values())


# ---- what the choice was worth -----------------------------------------------------------------


def sample(item: Item, number: int, order: list[int], text: str, outcome: str = "ok") -> Sample:
    return Sample(item.id, "sample", number, 0, order, "m", "t", text, 40, 9, -1.0, "stop", outcome,
                  [1, 0] if outcome == "ok" else None, None)  # fmt: skip


TEXT = "Principles: clear 2 Critique: [1] clear 4 [2] clear 1 Scores: \\boxed{"


def test_the_probability_is_that_of_the_token_where_the_box_opens(
    base: lm.LM, chooser: Judge, items: list[Item]
) -> None:
    item = items[0]
    given_rows = [
        sample(item, 0, [0, 1], f"{TEXT}1}}"),
        sample(item, 1, [1, 0], f"{TEXT}2}}"),
        sample(item, 2, [0, 1], f"{TEXT}9}}", "out_of_range"),
    ]
    for micro_tokens in (30, 10_000):
        found = token_prob.probabilities(
            "t", base, chooser, {item.id: item}, given_rows, micro_tokens
        )
        assert (found[2].scores, found[2].refused) == (None, token_prob.UNREAD)
        for row, mine in zip(given_rows[:2], found, strict=False):
            ids = base.encode_prompt(chooser.prompt(item, row.order))
            ids += tuple(base.tokenizer.encode(TEXT))
            one, two = (base.tokenizer.encode(number)[0] for number in ("1", "2"))
            with torch.no_grad():
                logits = base.model(torch.tensor([ids])).logits[0, -1]
            shown = logits[[one, two]].softmax(0).tolist()
            assert mine.scores == pytest.approx(
                [shown[row.order.index(i)] for i in range(2)], abs=1e-5
            )
            assert (mine.sample, mine.prompt_tokens, mine.completion_tokens) == (row.sample, 40, 9)
            assert mine.tokens == 0


def test_the_last_box_counts(base: lm.LM, chooser: Judge, items: list[Item]) -> None:
    row = sample(items[0], 0, [0, 1], "first \\boxed{2} then \\boxed {  1 }")
    texts = [
        base.tokenizer.decode(example.prompt + example.completion)
        for example in token_prob.choices(base, chooser, items[0], row)
    ]
    assert [text[-1] for text in texts] == ["1", "2"]
    assert texts[0][:-1] == texts[1][:-1]


def test_the_stage_reads_banks_of_its_own_model_alone(
    base: lm.LM, make_items: Callable[..., list[Item]], tmp_path: Path
) -> None:
    cfg = Slice.of(config.load(["model=toy_s", *CHOICE]), "token_prob")
    pool = make_items("pair", 3)
    write_items(tmp_path / "items.parquet", pool, seed=3)
    samples = [sample(item, k, [k % 2, 1 - k % 2], f"{TEXT}1}}") for item in pool for k in range(2)]
    greedy = [replace(row, kind="greedy") for row in samples if row.sample == 0]
    bank, table = tmp_path / "bank.parquet", tmp_path / "scores.parquet"
    files = {"items": tmp_path / "items.parquet", "banks": [bank], "out": table}
    write_bank(bank, [*samples, *greedy], model="another")
    with pytest.raises(BankError, match="sampled by the model another"):
        token_prob.run(cfg, 3, policy="base", **files)  # type: ignore[arg-type]
    write_bank(bank, [*samples, *greedy], model=base.hash, tokenizer="another")
    with pytest.raises(BankError, match=r"another tokenizer, chat template or model\.date"):
        token_prob.run(cfg, 3, policy="base", **files)  # type: ignore[arg-type]
    write_bank(bank, [*samples, *greedy], model=base.hash)
    token_prob.run(cfg, 3, policy="base", **files)  # type: ignore[arg-type]
    found = rows.read(table)
    assert sorted((row.item_id, row.sample) for row in found) == sorted(
        (item.id, k) for item in pool for k in range(2)
    )
    assert all(sum(row.scores or ()) == pytest.approx(1, abs=1e-5) for row in found)
    told = artifact.read_manifest(table)
    assert (told["method"], told["policy"], told["size"]) == ("token_prob", "base", "toy_s")


# ---- the table of input flexibility ------------------------------------------------------------


def test_every_reward_model_says_what_it_takes_without_torch() -> None:
    assert set(KINDS) <= set(APPROACHES)
    assert {name for name, one in APPROACHES.items() if one.flexible and one.scalable} == {
        "cloud", "grm"
    }  # fmt: skip
    assert APPROACHES["llm_judge"].one == APPROACHES["llm_judge"].many == "no"
    code = "import sys, spct.baselines.kinds; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_template_that_knows_no_choice_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(
        '{%- set delimiters = ["##"] -%}Grade. {{ messages[-1].content }}\n'
        "{% for response in responses %} {{ response }}\n{% endfor %} {{ reference }} {{ given }}"
    )
    scorer = JudgeConfig(str(own), "self", "random", 0, 1, "verdict")
    Judge.build(scorer)
    with pytest.raises(ConfigError, match="asks for scores all the same"):
        Judge.build(replace(scorer, answer="index"))
