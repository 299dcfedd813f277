"""Judges with a planted flaw: every measure of health recovers what was planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from math import comb, exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.health.calibration import QUANTILES, calibration, quantile
from spct.health.length import RIDGE, fit, length
from spct.health.measures import Measure, evaluate, gap, join, mean, share
from spct.health.outcomes import outcomes, scores, ties
from spct.health.panel import Panel, draws_of
from spct.health.plans import plans, prompts_of
from spct.health.position import ENOUGH, position
from spct.health.repetition import repeats
from spct.judge.parse import Outcome
from spct.records import Item, Label
from spct.scaling.banks import Draws
from spct.scaling.grid import OUTCOMES, strata
from spct.scaling.stats import interval, item_weights
from spct.scaling.stats import mean as mean_of
from spct.scaling.votes import Votes
from spct.schema import ScalingConfig

KS = [1, 2, 4, 8]
CFG = ScalingConfig(KS, 0.5, 20, 100, 0.95, "drop", [], 0.02)
Found = dict[tuple[str, int | None], Any]


def make_panel(
    given: Any,
    best: Any,
    shown: Any = None,
    *,
    valid: Any = None,
    lengths: Any = None,
    kind: str = "lists",
    **more: Any,
) -> Panel:
    """A panel of scores ``(I, n, R)``; ``kind`` may be ``verdict`` or ``rating``."""
    given = np.asarray(given, dtype=np.float32)
    items, n, width = given.shape
    best = np.asarray(best)
    ok = np.ones((items, n), dtype=bool) if valid is None else np.asarray(valid)
    better = np.arange(width) == best[:, None]
    shown = np.tile(np.arange(width), (items, n, 1)) if shown is None else np.asarray(shown)
    alone = kind != "lists"
    sizes = np.full((items, 1 if alone else width), 5) if lengths is None else np.asarray(lengths)
    plan = more.pop("plan", "random")
    votes = Votes(
        scores=given * ok[:, :, None],
        valid=ok,
        answers=np.full((items, width), kind != "rating"),
        better=better,
        worse=~better,
        single=np.full(items, kind == "verdict"),
        correct=ok & (given.argmax(axis=2) == best[:, None]),
        rating=np.full(items, kind == "rating"),
        stratum=None if plan == "random" else strata(shown.astype(np.int8)),
    )
    draws = Draws(
        votes=votes,
        prompt_tokens=np.full((items, n), 100.0),
        completion_tokens=np.full((items, n), 20.0),
        principle_tokens=np.zeros(items),
        outcome=np.where(ok, 0, OUTCOMES.index(Outcome.malformed)).astype(np.int8),
        shown=shown.astype(np.int8),
        logprob=np.full((items, n), -50.0, dtype=np.float32),
        text=np.arange(items * n).reshape(items, n),
    )
    rows = [
        Item(
            id=f"item{i}",
            dataset="d",
            subset="s",
            domain="d",
            messages=({"role": "user", "content": str(i)},),
            responses=tuple("x" * int(size) for size in sizes[i]),
            label=Label("best", 0),
        )
        for i in range(items)
    ]
    fields = {"greedy": None, "plan": plan, "low": 1, "high": 10, "cfg": CFG, "bins": 10, "seed": 0}
    return Panel(items=rows, draws=draws, **{**fields, **more})


def measure(group: Callable[[Panel], Iterator[Measure]], panel: Panel) -> Found:
    """Values by name and k, with an interval over the items."""
    found = list(group(panel))
    names = [item.id for item in panel.items]
    values = evaluate(found, item_weights(names, 200, 0), names, 0.95)
    assert len({one.key for one in found}) == len(found)
    return {(one.name, one.k): value for one, value in zip(found, values, strict=True) if value}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def majority(p: float, k: int) -> float:
    """Chance that most of k draws are right, a tie counting half."""
    chance = [comb(k, j) * p**j * (1 - p) ** (k - j) for j in range(k + 1)]
    return sum(c * (1.0 if 2 * j > k else 0.5 * (2 * j == k)) for j, c in enumerate(chance))


def pair_judge(
    skill: Any, bias: float, *, items: int = 800, n: int = 32, seed: int = 0, **more: Any
) -> Panel:
    """P(the better wins a sample) = σ(skill ± bias), + where it stands first; order at random."""
    draw = np.random.default_rng(seed)
    best, first = draw.integers(2, size=items), draw.integers(2, size=(items, n))
    shown = np.stack([first, 1 - first], axis=2)
    side = np.where(first == best[:, None], 1, -1)
    won = draw.random((items, n)) < sigmoid(np.reshape(skill, (-1, 1)) + bias * side)
    winner = np.where(won, best[:, None], 1 - best[:, None])
    return make_panel(4 + 3 * (np.arange(2) == winner[:, :, None]), best, shown, **more)


# ---- measures ------------------------------------------------------------------------------------


def test_ratios_means_and_gaps() -> None:
    names = ["a", "b", "c", "c"]
    top, bottom = np.array([1.0, 0, 2, 0]), np.array([2.0, 2, 4, 0])
    found = evaluate(
        [
            share("g", "share", 1, top, bottom),
            mean("g", "mean", None, np.array([1.0, np.nan, 3, np.nan]), "free"),
            Measure("g", "gap", None, bottom, (top, bottom, bottom, bottom), gap),
            share("g", "none", None, top * 0, bottom * 0),
        ],
        item_weights(names, 50, 0),
        names,
        0.9,
    )
    values = [None if one is None else (one.value, one.count) for one in found]
    assert values == [(0.375, 8), (2.0, 2), (-0.625, 8), None]
    whole = found[0]
    assert whole is not None and whole.low < 0.375 < whole.high


def test_seeds_are_joined_item_by_item() -> None:
    one, two = (mean("g", "m", 3, np.array(values), "free") for values in ([1.0, 2.0], [6.0]))
    whole = join([one, two])
    assert whole.key == ("g", "m", 3)
    names = ["a", "b", "c"]
    (value,) = evaluate([whole], item_weights(names, 20, 0), names, 0.9)
    assert value is not None and (value.value, value.count) == (3.0, 3)


def test_a_prompt_is_one_cluster() -> None:
    """Copies of an item under one prompt add no certainty; under prompts of their own they do."""
    values = np.repeat([0.0, 1, 0, 1, 1, 0], 20)
    widths = []
    for names in (np.repeat(list("abcdef"), 20), np.arange(120)):
        labels = [str(name) for name in names]
        weights = item_weights(labels, 400, 0)
        (found,) = evaluate([mean("g", "m", 1, values)], weights, labels, 0.9)
        assert found is not None
        bounds = interval(mean_of(values, weights), 0.9, len(set(labels)))
        assert (found.low, found.high) == pytest.approx(bounds, abs=1e-6)
        widths.append(found.high - found.low)
    assert widths[0] > 3 * widths[1]


# ---- outcomes, ties, scores ----------------------------------------------------------------------


def test_outcomes_of_samples_and_of_greedy_decoding() -> None:
    panel = make_panel(np.ones((4, 5, 2)), [0] * 4)
    panel.draws.outcome[0, :3] = OUTCOMES.index(Outcome.truncated)
    greedy = make_panel(np.ones((4, 1, 2)), [0] * 4).draws
    greedy.outcome[:3] = OUTCOMES.index(Outcome.engine_error)
    found = measure(outcomes, make_panel(np.ones((4, 5, 2)), [0] * 4))
    assert found["ok", None].value == 1 and ("greedy:ok", None) not in found
    found = measure(outcomes, Panel(**{**vars(panel), "greedy": greedy}))
    assert found["truncated", None].value == pytest.approx(3 / 20)
    assert found["ok", None].value == pytest.approx(17 / 20) and found["ok", None].count == 20
    assert found["greedy:engine_error", None].value == 0.75


def test_ties_are_shared_top_scores_of_valid_samples() -> None:
    given = [[[5, 5, 1], [5, 1, 1], [1, 3, 3], [2, 2, 2], [0, 0, 0]]]
    found = measure(ties, make_panel(given, [0], valid=[[True] * 4 + [False]]))
    assert (found["top shared", 1].value, found["top shared", 1].count) == (0.75, 4)


def test_score_histograms() -> None:
    found = measure(scores, make_panel([[[7, 3, 3], [7, 4, 10]]], [0]))
    assert found["best:7", None].value == 1 and found["best:7", None].count == 2
    assert found["other:3", None].value == 0.5 and found["other:10", None].value == 0.25
    assert sum(value.value for (name, _), value in found.items() if "other" in name) == 1
    verdicts = make_panel([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [1, 0], kind="verdict")
    found = measure(scores, verdicts)
    assert found["right:1", None].value == found["right:0", None].value == 0.5
    assert found["wrong:1", None].value == 1
    ratings = make_panel([[[8, 0], [3, 0]], [[2, 0], [2, 0]]], [1, 0], kind="rating")
    found = measure(scores, ratings)
    assert found["right:8", None].value == 0.5 and found["wrong:2", None].value == 1
    assert not any(name.startswith(("best", "other")) for name, _ in found)


# ---- position ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [0.0, 0.6, -1.2])
def test_position_bias_and_consistency_of_pairs(bias: float) -> None:
    skill = 0.7
    found = measure(position, pair_judge(skill, bias))
    first, last = sigmoid(skill + bias), sigmoid(skill - bias)
    for k in KS:
        a, b = majority(first, k), majority(last, k)
        assert found["bias", k].value == pytest.approx(a - b, abs=0.03)
        assert found["bias", k].low - 0.02 < a - b < found["bias", k].high + 0.02
        together = a * b + (1 - a) * (1 - b)
        assert found["consistency", k].value == pytest.approx(together, abs=0.03)
        assert found["consistency", k].count >= ENOUGH * 800
    assert found["place:1", 1].value == pytest.approx((1 + first - last) / 2, abs=0.02)
    assert found["place:2", 1].value + found["place:1", 1].value == pytest.approx(1)
    other = first * last + (1 - first) * (1 - last)
    same = (first**2 + (1 - first) ** 2 + last**2 + (1 - last) ** 2) / 2
    assert found["agreement:other", 1].value == pytest.approx(other, abs=0.02)
    assert found["agreement:same", 1].value == pytest.approx(same, abs=0.02)


def test_k_ends_where_items_lack_samples_of_an_order() -> None:
    found = measure(position, pair_judge(0.5, 0.0, n=12))
    assert ("bias", 4) not in found and ("bias", 2) in found
    assert 0.9 * 800 <= found["bias", 2].count < 800


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_votes_in_each_order_equal_brute_force(seed: int, n: int) -> None:
    """Bias and consistency from all pairs of a k-subset of each order; plans from all subsets."""
    draw = np.random.default_rng(seed)
    points = draw.integers(1, 5, size=(1, n, 2))
    first = draw.permuted(np.arange(n) % 2)
    panel = make_panel(points, [0], np.stack([first, 1 - first], axis=1)[None])
    found, planned = measure(position, panel), measure(plans, panel)
    lead = points[0, :, 0] - points[0, :, 1]
    up, down = np.flatnonzero(first == 0), np.flatnonzero(first == 1)

    def credit(subset: tuple[int, ...]) -> float:
        return (1 + np.sign(lead[list(subset)].sum())) / 2

    def votes(samples: Any, k: int) -> list[float]:
        return [credit(subset) for subset in combinations(samples.tolist(), k)]

    for k in (1, 2):
        if min(len(up), len(down)) >= k:
            a, b = votes(up, k), votes(down, k)
            assert found["bias", k].value == pytest.approx(np.mean(a) - np.mean(b))
            both = [x * y + (1 - x) * (1 - y) for x in a for y in b]
            assert found["consistency", k].value == pytest.approx(np.mean(both))
            assert planned["fixed", k].value == pytest.approx((np.mean(a) + np.mean(b)) / 2)
        assert planned["random", k].value == pytest.approx(np.mean(votes(np.arange(n), k)))
    mixed = [credit((i, j)) for i in up for j in down]
    assert planned["balanced", 2].value == pytest.approx(np.mean(mixed))


@pytest.mark.parametrize("width", [3, 4])
def test_position_bias_of_lists(width: int) -> None:
    """A judge that picks the first place with probability q and any response otherwise."""
    draw, q, shape = np.random.default_rng(1), 0.3, (600, 16)
    shown = draw.permuted(np.tile(np.arange(width), (*shape, 1)), axis=2)
    place = np.where(draw.random(shape) < q, 0, draw.integers(width, size=shape))
    chosen = np.take_along_axis(shown, place[:, :, None], axis=2)
    given = 3 + 4 * (np.arange(width) == chosen)
    found = measure(position, make_panel(given, draw.integers(width, size=600), shown))
    assert found["bias:lists", 1].value == pytest.approx(q, abs=0.02)
    assert found["place:1", 1].value == pytest.approx(q + (1 - q) / width, abs=0.02)
    assert found[f"place:{width}", 1].value == pytest.approx((1 - q) / width, abs=0.02)
    same = (q + (1 - q) / width) ** 2 + (width - 1) * ((1 - q) / width) ** 2
    assert found["agreement:same", 1].value == pytest.approx(same, abs=0.03)
    assert found["agreement:other", 1].value < found["agreement:same", 1].value - 0.02
    assert not any(name in ("bias", "consistency") for name, _ in found)


def test_a_fixed_plan_tells_the_raw_bias_and_no_consistency() -> None:
    panel = pair_judge(0.4, 0.9, items=1500, n=8)
    shown = np.repeat(panel.draws.shown[:, :1], 8, axis=1)
    draw = np.random.default_rng(0)
    side = np.where(shown[:, :, 0] == panel.best[:, None], 1, -1)
    won = draw.random(side.shape) < sigmoid(0.4 + 0.9 * side)
    winner = np.where(won, panel.best[:, None], 1 - panel.best[:, None])
    given = 4 + 3 * (np.arange(2) == winner[:, :, None])
    found = measure(position, make_panel(given, panel.best, shown, plan="fixed"))
    assert found["bias", 1].value == pytest.approx(sigmoid(1.3) - sigmoid(-0.5), abs=0.05)
    assert not any(name == "consistency" for name, _ in found)
    assert {name for name, _ in measure(plans, make_panel(given, panel.best, shown, plan="fixed"))
            } == {"fixed", "fixed:tokens", "fixed:uncached"}  # fmt: skip


def test_single_responses_and_ratings_have_no_position() -> None:
    for kind in ("verdict", "rating"):
        panel = make_panel(np.ones((3, 4, 2)), [0, 1, 0], np.zeros((3, 4, 1)), kind=kind)
        for group in (position, plans, length):
            assert list(group(panel)) == []
        assert list(measure(ties, panel)) == []
    assert list(calibration(panel)) == []


# ---- plans ---------------------------------------------------------------------------------------


def test_plans_of_a_biased_judge() -> None:
    """One order never recovers from bias, both do: what theory gives at each k."""
    skill, bias = 0.6, 1.5
    found = measure(plans, pair_judge(skill, bias))
    first, last = sigmoid(skill + bias), sigmoid(skill - bias)
    for k in (2, 4, 8):
        fixed = (majority(first, k) + majority(last, k)) / 2
        random = majority((first + last) / 2, k)
        wins = [
            (1 if a + b > k / 2 else 0.5 * (a + b == k / 2))
            * comb(k // 2, a) * first**a * (1 - first) ** (k // 2 - a)
            * comb(k // 2, b) * last**b * (1 - last) ** (k // 2 - b)
            for a in range(k // 2 + 1) for b in range(k // 2 + 1)
        ]  # fmt: skip
        for plan, value in (("fixed", fixed), ("random", random), ("balanced", sum(wins))):
            assert found[plan, k].value == pytest.approx(value, abs=0.025), (plan, k)
        assert found["balanced - fixed", k].value == pytest.approx(sum(wins) - fixed, abs=0.02)
        assert len({found[plan, k].count for plan in ("fixed", "random", "balanced")}) == 1
    assert found["balanced - fixed", 8].low > 0
    assert found["balanced", 1].value == pytest.approx(found["fixed", 1].value)
    assert ("balanced - fixed", 1) not in found


def test_tokens_count_prompts_once_an_order() -> None:
    found = measure(plans, pair_judge(0.5, 0.0, items=50))
    assert found["fixed:tokens", 4].value == 4 * 20 + 100
    assert found["balanced:tokens", 4].value == 4 * 20 + 200
    assert found["random:tokens", 4].value == pytest.approx(4 * 20 + 100 * 2 * (1 - 1 / 16))
    for plan in ("fixed", "balanced", "random"):
        assert found[f"{plan}:uncached", 4].value == 4 * 120
        assert prompts_of(plan, 1) == 1


def test_a_balanced_bank_tells_of_balanced_alone() -> None:
    panel = pair_judge(0.5, 0.8, items=40, n=8)
    first = np.tile(np.arange(8) % 2, (40, 1))
    shown = np.stack([first, 1 - first], axis=2)
    own = make_panel(panel.votes.scores, panel.best, shown, plan="balanced")
    found = measure(plans, own)
    assert {name for name, _ in found} == {"balanced", "balanced:tokens", "balanced:uncached"}
    whole = own.voting([8])[8]
    assert found["balanced", 8].value == pytest.approx(whole.mean())


# ---- length --------------------------------------------------------------------------------------


def lengthy(a: float, b: float, items: int = 1500) -> Panel:
    """logit P(best wins a sample) = a + b z, z the log length ratio over its root mean square."""
    draw = np.random.default_rng(5)
    sizes = draw.integers(20, 400, size=(items, 2))
    ratio = np.log((sizes[:, 0] + 1) / (sizes[:, 1] + 1))
    z = ratio / np.sqrt((ratio**2).mean())
    won = draw.random((items, 32)) < sigmoid(a + b * z)[:, None]
    given = 4 + 3 * np.stack([won, ~won], axis=2)
    return make_panel(given, np.zeros(items, dtype=int), lengths=sizes)


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.0), (0.8, 0.7), (0.3, -1.1)])
def test_the_planted_slope_of_length_comes_back(a: float, b: float) -> None:
    found = measure(length, lengthy(a, b))
    assert found["slope", 1].value == pytest.approx(b, abs=0.05)
    assert found["slope", 1].low - 0.01 < b < found["slope", 1].high + 0.01
    assert np.sign(found["gap", 1].value) == np.sign(b) or abs(found["gap", 1].value) < 0.01
    parts = found["best longest", 1], found["best shortest", 1], found["gap", 1]
    assert parts[0].value - parts[1].value == pytest.approx(parts[2].value)
    assert found["gap", 32].count == parts[2].count <= 1500


def test_accuracy_by_length_counts_the_right_items() -> None:
    given = np.array([[[9, 1]], [[1, 9]], [[9, 1]], [[5, 5]]])
    found = measure(length, make_panel(given, [0] * 4, lengths=[[9, 3], [9, 3], [3, 9], [4, 4]]))
    longest, shortest = found["best longest", 1], found["best shortest", 1]
    assert (longest.value, longest.count, shortest.value, shortest.count) == (0.5, 2, 1.0, 1)
    assert found["gap", 1].value == -0.5
    threes = make_panel(np.ones((1, 1, 3)), [0], lengths=[[5, 9, 2]])
    assert not {"best longest", "gap"} & {name for name, _ in measure(length, threes)}


def test_a_tie_is_half_a_win() -> None:
    """The longer best ones always win, the shorter ones always tie."""
    sizes = np.array([[30, 10], [40, 10], [10, 20], [10, 50]])
    given = np.where(sizes[:, :1] > sizes[:, 1:], [[9, 1]], [[5, 5]])[:, None, :]
    found = measure(length, make_panel(given, [0] * 4, lengths=sizes))
    won, ratios = np.array([1, 1, 0.5, 0.5]), np.log((sizes[:, 0] + 1) / (sizes[:, 1] + 1))
    wanted = fit(np.ones((1, 4)), (won[:, None], ratios[:, None], np.ones((4, 1))))
    assert found["slope", 1].value == pytest.approx(wanted[0, 1])


def test_a_judge_of_which_nothing_can_be_read_has_no_slope() -> None:
    """All pairs are there, and none counts."""
    parts = (np.zeros((4, 2)), np.ones((4, 2)), np.zeros((4, 2)))
    assert np.isnan(fit(np.ones((3, 4)), parts)).all()


def test_a_separable_fit_stays_finite_and_meets_its_equation() -> None:
    won = np.array([[1.0], [1.0], [1.0], [0.0]])
    ratios, counts = np.array([[2.0], [1.0], [0.5], [-1.0]]), np.ones((4, 1))
    weights = np.full((1, 4), 0.25)
    a, b = fit(weights, (won, ratios, counts))[0]
    z = ratios[:, 0] / np.sqrt((ratios**2).mean())
    rest = 0.25 * (won[:, 0] - sigmoid(a + b * z))
    assert rest.sum() == pytest.approx(RIDGE * a, abs=1e-9)
    assert rest @ z == pytest.approx(RIDGE * b, abs=1e-9)
    assert 1 < b < 20


# ---- calibration ---------------------------------------------------------------------------------


def voters(agree: Any, right: Any, n: int = 20) -> Panel:
    """Pairs where ``agree`` of n samples prefer the winner, which is ``right`` or not."""
    agree, right = np.asarray(agree), np.asarray(right, dtype=int)
    prefer = np.arange(n) < agree[:, None]
    given = 4 + 3 * np.stack([prefer, ~prefer], axis=2)
    return make_panel(given, 1 - right)


def test_a_calibrated_judge() -> None:
    draw = np.random.default_rng(2)
    agree = draw.integers(11, 21, size=8_000)
    found = measure(calibration, voters(agree, draw.random(8_000) < agree / 20))
    assert found["overconfidence", 20].value == pytest.approx(0, abs=0.015)
    assert found["ece", 20].value < 2 * found["ece:chance", 20].value < 0.03
    for b in range(6, 11):
        sure = found[f"bin:{b}:confidence", 20].value
        assert found[f"bin:{b}", 20].value == pytest.approx(sure, abs=0.03)
    assert ("bin:3", 20) not in found
    share = agree / 20
    assert found["brier", 20].value == pytest.approx((share * (1 - share)).mean(), abs=0.01)


def test_chance_alone_makes_the_ece_that_is_named() -> None:
    draw = np.random.default_rng(3)
    values, chance = [], []
    for _ in range(30):
        agree = draw.integers(11, 21, size=300)
        found = measure(calibration, voters(agree, draw.random(300) < agree / 20))
        values.append(found["ece", 20].value)
        chance.append(found["ece:chance", 20].value)
    assert np.mean(values) == pytest.approx(np.mean(chance), rel=0.2)


def test_a_judge_that_is_sure_and_wrong() -> None:
    found = measure(calibration, voters([20] * 10, [1] * 6 + [0] * 4))
    for name in ("ece", "overconfidence", "brier"):
        assert found[name, 20].value == pytest.approx(0.4)
    assert found["bin:10", 20].value == pytest.approx(0.6) and found["bin:10", 20].count == 10
    assert found["ece:chance", 20].value == 0


def test_calibration_by_hand() -> None:
    """Errors in bins of either sign add up; ties and empty votes count by their share."""
    panel = voters([16, 16, 12, 12], [1, 1, 1, 0])
    found = measure(calibration, panel)
    assert found["ece", 20].value == pytest.approx((2 * 0.2 + 2 * 0.1) / 4)
    assert found["overconfidence", 20].value == pytest.approx((-0.2 * 2 + 0.1 * 2) / 4)
    noise = np.sqrt(2 / np.pi) * (0.5 * np.sqrt(0.16 / 2) + 0.5 * np.sqrt(0.24 / 2))
    assert found["ece:chance", 20].value == pytest.approx(noise)
    tied = measure(calibration, voters([10], [1]))
    assert tied["bin:6", 20].value == tied["bin:6:confidence", 20].value == 0.5
    assert tied["brier", 20].value == 0.25
    empty = make_panel(np.zeros((1, 4, 4)), [2], valid=np.zeros((1, 4), dtype=bool))
    found = measure(calibration, empty)
    assert found["bin:3", 4].value == found["bin:3:confidence", 4].value == 0.25


def test_confidence_is_of_the_vote_s_winner_not_of_the_majority() -> None:
    """Two samples prefer 0 by a point, one prefers 1 by eight: 1 wins with a third behind it."""
    panel = make_panel([[[5, 4], [5, 4], [1, 9]]], [1])
    found = measure(calibration, panel)
    assert found["bin:4:confidence", 3].value == pytest.approx(1 / 3)
    assert found["bin:4", 3].value == 1
    assert found["margin:3:mean", 3].value == pytest.approx((17 - 11) / (3 * 9))


def test_invalid_samples_have_no_voice() -> None:
    given, valid = [[[7, 1], [7, 1], [0, 0], [0, 0]]], [[True, True, False, False]]
    panel = make_panel(given, [0], [[[0, 1]] * 4], valid=valid)
    assert measure(calibration, panel)["bin:10:confidence", 4].value == 1
    found = measure(position, panel)
    assert (found["place:1", 1].value, found["place:1", 1].count) == (1, 2)
    assert found["agreement:same", 1].count == 1


def test_verdicts_are_calibrated_too() -> None:
    given = np.array([[[0, 1]] * 3 + [[1, 0]], [[1, 0]] * 4])
    found = measure(calibration, make_panel(given, [1, 1], kind="verdict"))
    assert found["bin:8:confidence", 4].value == 0.75 and found["bin:8", 4].value == 1
    assert found["bin:10", 4].value == 0
    assert found["margin:4:mean", 4].value == pytest.approx(1.0)


def test_margin_quarters() -> None:
    values = np.array([3.0, 1, 2, 4, 9])
    np.testing.assert_array_equal(quantile(values, np.arange(5) < 4), [2, 0, 1, 3, -1])
    flat = quantile(np.ones(8), np.ones(8, dtype=bool))
    assert len(set(flat.tolist())) == 1 and 0 <= flat[0] < QUANTILES
    found = measure(calibration, pair_judge(np.repeat([0.0, 2.0], 400), 0.0))
    assert found["margin:4", 32].value > found["margin:1", 32].value + 0.2


# ---- repeats -------------------------------------------------------------------------------------


def test_repeats_among_k() -> None:
    panel = make_panel(np.ones((30, 8, 2)), [0] * 30)
    assert panel.draws.text is not None
    panel.draws.text[:] = np.arange(8) % 4
    panel.draws.logprob[:] = log(0.25)
    found = measure(repeats, panel)
    assert found["duplicates", 2].value == pytest.approx(1 / 2 * 1 / 7)
    assert found["duplicates", 8].value == pytest.approx(0.5)
    assert found["effective:simpson", 8].value == found["effective:entropy", 8].value
    assert found["effective:entropy", 8].value == pytest.approx(4)
    observed, expected = (
        found[f"collisions:{name}", None].value for name in ("observed", "expected")
    )
    assert (observed, expected) == (pytest.approx(1 / 7), pytest.approx(exp(log(0.25))))
    assert found["collisions:excess", None].value == pytest.approx(1 / 7 - 1 / 4)
    assert found["collisions:observed", None].count == 30 * 28
    assert ("duplicates", 1) not in found
    panel.draws.logprob[:] = np.nan
    assert ("collisions:expected", None) not in measure(repeats, panel)


def test_part_of_the_items() -> None:
    panel = make_panel(np.arange(12).reshape(3, 2, 2), [0, 1, 0])
    part = draws_of(panel.draws, np.array([2, 0]))
    np.testing.assert_array_equal(part.votes.scores, panel.votes.scores[[2, 0]])
    np.testing.assert_array_equal(part.text, panel.draws.text[[2, 0]])  # type: ignore[index]
