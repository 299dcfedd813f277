"""Intervals cover the truth as often as they say, in a world whose truth is known.

A 95 % interval must hold the expected accuracy of *fresh* votes on *fresh* items in 93 to 97 % of
replicates. Every replicate draws prompts, items that share them and a bank of samples, and goes the
way of the stage: estimators, cells, summaries. The last tests take away what the intervals rest on
(whole prompts, seeds as a level) and see them fail, so that the bounds are known to be sharp.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spct.records import Item, Label
from spct.scaling.banks import Bank, BankKey, Bench, Draws
from spct.scaling.cells import Cell, CellKey, Query, measure_bank
from spct.scaling.estimators import Subsets, Votes, decide, estimate
from spct.scaling.measure import Group, Measured
from spct.schema import ScalingConfig

pytestmark = pytest.mark.medium

CFG = ScalingConfig(
    ks=[1],
    k_meta_share=0.5,
    subsets=20,
    bootstrap=400,
    level=0.95,
    invalid="drop",
    adaptive=[],
    max_repeats=1.0,
)
GROUP = Group("world", "all")
SIZES = np.array([1, 1, 2, 3, 5])  # of the prompts, over and over
Floats = NDArray[np.float64]


def prompts(items: int) -> NDArray[np.int64]:
    """The prompt of every item."""
    return np.repeat(np.arange(items), np.resize(SIZES, items))[:items]


def leans(draw: np.random.Generator, of: NDArray[np.int64], replicates: int) -> Floats:
    """How far scores lean to the right answer, (replicates, items): prompts first, then items."""
    shared = draw.normal(0.3, 0.9, (replicates, of.max() + 1))
    return shared[:, of] + draw.normal(0, 0.5, (replicates, len(of)))


def judge(draw: np.random.Generator, lean: Floats, n: int, answers: int) -> Votes:
    """n samples of each item, the first answer being right; one in twenty is invalid."""
    lean = lean.ravel()
    raw = draw.normal(5, 1.5, (len(lean), n, answers))
    raw[:, :, 0] += lean[:, None]
    valid = draw.random(raw.shape[:2]) < 0.95
    scores = (np.clip(np.rint(raw), 1, 10) * valid[:, :, None]).astype(np.float32)
    better = np.zeros((len(lean), answers), dtype=np.bool_)
    better[:, 0] = True
    single = np.zeros(len(lean), dtype=np.bool_)
    return Votes(scores, valid, np.ones_like(better), better, ~better, single, valid)


def fresh(draw: np.random.Generator, lean: Floats, k: int, answers: int) -> Floats:
    """Credits of one fresh vote of k samples on each item."""
    votes = judge(draw, lean, k, answers)
    return decide(votes.scores.sum(axis=1, keepdims=True), votes)[0].reshape(lean.shape)


def truth(k: int, answers: int, shift: float = 0.0, spread: float = 0.0) -> float:
    """Expected accuracy of fresh votes on fresh items (and seeds), from a million of them."""
    draw, one = np.random.default_rng(99), np.zeros(1, dtype=np.int64)
    parts = []
    for _ in range(10):
        lean = leans(draw, one, 100_000) + shift + spread * draw.normal(size=(100_000, 1))
        parts.append(fresh(draw, lean, k, answers).mean())
    return float(np.mean(parts))


def bench(of: NDArray[np.int64], seed: int = 0, name: str = "prompt") -> Bench:
    """Items with nothing but their prompts."""
    items = [
        Item(
            id=str(i),
            dataset="world",
            subset="",
            domain="",
            messages=({"role": "user", "content": f"{name} {prompt}"},),
            responses=("a", "b"),
            label=Label("best", 0),
        )
        for i, prompt in enumerate(of)
    ]
    none = np.zeros((len(items), 2), dtype=np.bool_)
    return Bench(seed, Path("world"), items, {}, none, none, none, none[:, 0])


def fill(measured: Measured, policy: str, votes: Votes, k: int, seed: int = 0) -> None:
    """Estimate voting@k on the items of all replicates, and cut it into a cell for each."""
    size = len(measured.benches[seed].items)
    ids = [str(i) for i in range(len(votes.valid))]
    found = estimate(votes, Subsets(ids, votes.n, 20, seed), "voting", [k], 1.0)[k]
    nothing = np.zeros(size)
    for r, credit in enumerate(found.credit.reshape(-1, size)):
        cell = Cell(credit, *[nothing] * 6)
        measured.add(seed, {CellKey(policy, str(r), "voting", k, k): cell})


def summaries(measured: Measured, policy: str) -> list[Any]:
    """The policy's summary in every replicate, seeds pooled."""
    keys = [key for key in measured.cells if key.policy == policy]
    return [measured.summary(key, GROUP, sorted(measured.benches)) for key in keys]


def differences(measured: Measured) -> list[Any]:
    """``b`` minus ``a`` in every replicate."""
    keys = [key for key in measured.cells if key.policy == "b"]
    return [measured.difference(key, key._replace(policy="a"), GROUP) for key in keys]


def covered(found: list[Any], value: float, low: str = "low", high: str = "high") -> float:
    """Share of the intervals that hold the value."""
    return float(np.mean([getattr(each, low) <= value <= getattr(each, high) for each in found]))


def world(replicates: int, answers: int, n: int, k: int, shifts: dict[str, float]) -> Measured:
    """Policies that judge the same 200 items in every replicate, some leaning more than others."""
    draw, of = np.random.default_rng(answers), prompts(200)
    measured = Measured(CFG, 0, {0: bench(of)})
    lean = leans(draw, of, replicates)
    for policy, shift in shifts.items():
        fill(measured, policy, judge(draw, lean + shift, n, answers), k)
    return measured


@pytest.fixture(scope="module")
def pairs() -> Measured:
    """Pairs, of which counting takes most of the time here: 1000 replicates for all who ask."""
    return world(1000, 2, 4, 2, {"a": 0.0, "b": 0.3})


def test_intervals_of_pairs_cover_new_items_and_new_samples(pairs: Measured) -> None:
    assert 0.93 <= covered(summaries(pairs, "a"), truth(2, 2)) <= 0.97


@pytest.mark.parametrize(("answers", "n", "k"), [(3, 4, 1), (4, 6, 3)])
def test_intervals_of_lists_cover_new_items_and_new_samples(answers: int, n: int, k: int) -> None:
    found = summaries(world(1500, answers, n, k, {"a": 0.0}), "a")
    assert 0.93 <= covered(found, truth(k, answers)) <= 0.97


def test_differences_cover_and_name_the_effect_they_can_detect(pairs: Measured) -> None:
    found, gap = differences(pairs), truth(2, 2, shift=0.3) - truth(2, 2)
    assert 0.93 <= covered(found, gap) <= 0.97
    wanted = (1.95996 + 0.84162) * np.std([each.value for each in found])
    assert np.mean([each.mde for each in found]) == pytest.approx(wanted, rel=0.06)


def test_equal_policies_are_told_apart_as_often_as_the_level_says() -> None:
    found = differences(world(1500, 3, 4, 2, {"a": 0.0, "b": 0.0}))
    assert 0.03 <= np.mean([each.p < 0.05 for each in found]) <= 0.07
    assert 0.93 <= covered(found, 0.0) <= 0.97
    agree = [(each.p < 0.05) == (each.low > 0 or each.high < 0) for each in found]
    assert np.mean(agree) > 0.97  # they part where zero lies between two draws


def test_seeds_that_judge_the_same_items_are_no_independent_evidence() -> None:
    draw, of = np.random.default_rng(0), prompts(200)
    measured = Measured(CFG, 0, {seed: bench(of, seed) for seed in range(3)})
    lean = leans(draw, of, 1500)
    for seed in range(3):
        fill(measured, "a", judge(draw, lean, 4, 3), 2, seed)
    assert 0.93 <= covered(summaries(measured, "a"), truth(2, 3)) <= 0.97


def test_the_interval_over_seeds_covers_the_recipe_and_the_other_one_does_not() -> None:
    draw, of, spread = np.random.default_rng(0), prompts(80), 0.4
    measured = Measured(CFG, 0, {seed: bench(of, seed, f"seed {seed}") for seed in range(4)})
    for seed in range(4):
        lean = leans(draw, of, 1500) + spread * draw.normal(size=(1500, 1))
        fill(measured, "a", judge(draw, lean, 4, 3), 2, seed)
    found, recipe = summaries(measured, "a"), truth(2, 3, spread=spread)
    assert 0.93 <= covered(found, recipe, "low_seeds", "high_seeds") <= 0.97
    assert covered(found, recipe) < 0.9


def test_items_of_one_prompt_drawn_apart_would_not_cover(pairs: Measured) -> None:
    apart = Measured(CFG, 0, {0: bench(np.arange(200))}, pairs.cells)
    assert covered(summaries(apart, "a"), truth(2, 2)) < 0.9


@pytest.mark.parametrize(("k", "over"), [(1, 1.02), (2, 1.2)])
def test_a_rerun_varies_by_what_one_bank_says(k: int, over: float) -> None:
    """The same 40 items judged again by k fresh samples each: exact at k = 1, a bound beyond."""
    draw, lean = np.random.default_rng(0), leans(np.random.default_rng(1), prompts(40), 1)
    again = fresh(draw, np.repeat(lean, 20_000, axis=0), k, 3).mean(axis=1).std()
    votes = judge(draw, np.repeat(lean, 400, axis=0), 6, 3)
    nothing = np.zeros(votes.valid.shape)
    draws = Draws(
        votes=votes,
        prompt_tokens=nothing,
        completion_tokens=nothing,
        principle_tokens=nothing[:, 0],
        outcome=nothing.astype(np.int8),
        shown=nothing[:, :, None].astype(np.int8),
        logprob=nothing.astype(np.float32),
    )
    bank = Bank(BankKey(0, "a", "m"), None, None, draws, None)
    query = Query.of(bank, bench(np.arange(len(votes.valid))), replace(CFG, ks=[k]))
    whole = measure_bank(query)[query.key("voting", k, k)]
    told = []
    for r in range(400):
        part = Measured(CFG, 0, {0: bench(prompts(40))})
        part.add(0, {query.key("voting", k, k): cut(whole, slice(40 * r, 40 * (r + 1)))})
        summary: Any = part.summary(query.key("voting", k, k), GROUP, [0])
        told.append(summary.rerun_sd)
    assert again * 0.98 <= np.sqrt(np.mean(np.square(told))) <= again * over


def cut(cell: Cell, rows: slice) -> Cell:
    """A cell of some of its items."""
    return Cell(**{name: value[rows] for name, value in vars(cell).items() if value is not None})
