"""Each benchmark's averages and ties, against counts and cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.benchmarks import RULES, paper, realmistake
from spct.benchmarks.judgebench import both_orders, category
from spct.benchmarks.rule import (
    Answer,
    Averages,
    Coverage,
    Floats,
    Term,
    Unit,
    mean_of,
    single_cells,
)
from spct.records import Item, Label

NAN = float("nan")


def item(name: str, subset: str = "", *, domain: str = "", n: int = 2, **meta: object) -> Item:
    return Item(name, "", subset, domain, (), ("a",) * n, Label("best", 0), meta=meta)


def by_subset(counts: dict[str, int], **meta: object) -> list[Item]:
    return [item(f"{s}-{i}", s, **meta) for s, count in counts.items() for i in range(count)]


def uniform(items: list[Item]) -> Floats:
    return np.full((1, len(items)), 1 / len(items))


def point(name: str, items: list[Item], values: list[float] | Floats) -> dict[str, float]:
    scores = RULES[name].scores(items, np.asarray(values, dtype=np.float64), uniform(items))
    return {section: float(value[0]) for section, value in scores.items()}


def share(name: str, items: list[Item], chosen: list[bool]) -> dict[str, float]:
    """What each section gains if the chosen items alone are right."""
    return {s: v for s, v in point(name, items, np.array(chosen, dtype=float)).items() if v}


# Two cells a, b weigh 3 to 1 in section "left"; "right" pools c and d; overall weighs them alike.
LEFT, RIGHT = single_cells({"a": 3, "b": 1}), (Term(5, ("c", "d")),)
TOY = Averages(
    name="toy",
    official={"a": 2, "b": 1, "c": 3, "d": 1},
    parts={"left": LEFT, "right": RIGHT},
    overall=mean_of([LEFT, RIGHT]),
    cell=lambda item: item.subset,
    tie=0.25,
)
TOY_ITEMS = by_subset({"a": 2, "b": 1, "c": 3, "d": 1})
TOY_VALUES = np.array([1.0, 0.5, 0.2, 0.0, 0.3, 0.6, 1.0])


def test_terms_are_weighted_and_pools_are_not() -> None:
    scores = TOY.scores(TOY_ITEMS, TOY_VALUES, np.ones((1, 7)))
    left, right = (3 * 0.75 + 0.2) / 4, (0.0 + 0.3 + 0.6 + 1.0) / 4
    assert list(scores) == ["left", "right", "overall"]
    assert scores["left"] == pytest.approx([left])
    assert scores["right"] == pytest.approx([right])
    assert scores["overall"] == pytest.approx([(left + right) / 2])


def test_every_row_of_weights_is_a_draw() -> None:
    weights = np.array([[3.0, 1, 1, 0, 2, 0, 2], [1, 1, 1, 1, 1, 1, 1]])
    scores = TOY.scores(TOY_ITEMS, TOY_VALUES, weights)
    assert scores["left"] == pytest.approx([(3 * 0.875 + 0.2) / 4, (3 * 0.75 + 0.2) / 4])
    assert scores["right"] == pytest.approx([(2 * 0.3 + 2 * 1.0) / 4, 1.9 / 4])


def test_a_draw_without_a_term_keeps_its_mean_over_all_items() -> None:
    weights = np.array([[0.0, 0, 1, 1, 0, 0, 0]])
    scores = TOY.scores(TOY_ITEMS, TOY_VALUES, weights)
    assert scores["left"] == pytest.approx([(3 * 0.75 + 0.2) / 4])
    assert scores["right"] == pytest.approx([0.0])
    pooled = TOY.scores(TOY_ITEMS, TOY_VALUES, np.eye(7)[:1])["right"]
    assert pooled == pytest.approx([1.9 / 4])


weight_rows = st.lists(
    st.lists(st.integers(0, 3), min_size=7, max_size=7).filter(any), min_size=1, max_size=4
)


@given(weight_rows, st.lists(st.floats(0, 1), min_size=7, max_size=7), st.floats(0.1, 10))
def test_scores_are_the_loops_over_cells(
    rows: list[list[int]], values: list[float], scale: float
) -> None:
    def mean(row: list[int], cells: str) -> float:
        members = [i for i, item in enumerate(TOY_ITEMS) if item.subset in cells]
        drawn = [(row[i], values[i]) for i in members for _ in range(row[i])]
        chosen = [value for _, value in drawn] or [values[i] for i in members]
        return sum(chosen) / len(chosen)

    scores = TOY.scores(TOY_ITEMS, np.array(values), scale * np.array(rows, dtype=float))
    left = [(3 * mean(row, "a") + mean(row, "b")) / 4 for row in rows]
    right = [mean(row, "cd") for row in rows]
    assert scores["left"] == pytest.approx(left)
    assert scores["right"] == pytest.approx(right)
    assert scores["overall"] == pytest.approx(
        [(x + y) / 2 for x, y in zip(left, right, strict=True)]
    )


def test_a_partial_set_has_no_overall_and_marked_sections() -> None:
    kept = [i for i in range(7) if i != 2]
    items = [TOY_ITEMS[i] for i in kept]
    scores = TOY.scores(items, TOY_VALUES[kept], uniform(items))
    assert list(scores) == ["left (partial)", "right"]
    assert scores["left (partial)"] == pytest.approx([0.75])
    coverage = TOY.coverage(items)
    assert not coverage.complete() and coverage.complete(["a", "c"])
    assert coverage.missing == {"b": (0, 1)}
    assert str(coverage) == "toy: partial, b 0 of 1"
    assert str(TOY.coverage(TOY_ITEMS)) == "toy: complete"


def test_a_pool_of_which_a_cell_is_missing_is_the_mean_of_the_rest() -> None:
    scores = TOY.scores(TOY_ITEMS[:6], TOY_VALUES[:6], np.ones((1, 6)))
    assert list(scores) == ["left", "right (partial)"]
    assert scores["right (partial)"] == pytest.approx([0.3])


def test_fewer_more_or_repeated_items_are_partial_too() -> None:
    for items in (TOY_ITEMS[1:], [*TOY_ITEMS, item("a-9", "a")], [*TOY_ITEMS, TOY_ITEMS[0]]):
        scores = TOY.scores(items, np.ones(len(items)), uniform(items))
        assert list(scores) == ["left (partial)", "right"]
    assert TOY.coverage([*TOY_ITEMS, item("a-9", "a")]).missing == {"a": (3, 2)}
    assert TOY.coverage([*TOY_ITEMS, TOY_ITEMS[0]]).missing == {"a": (1, 2)}


def test_a_section_without_items_is_left_out() -> None:
    assert list(TOY.scores(TOY_ITEMS[:3], TOY_VALUES[:3], np.ones((1, 3)))) == ["left"]


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        (TOY_VALUES[:6], np.ones((1, 7)), "7 items need 7"),
        (TOY_VALUES + NAN, np.ones((1, 7)), "7 of 7 values"),
        (TOY_VALUES + 0.1, np.ones((1, 7)), "2 of 7 values"),
        (TOY_VALUES - 0.1, np.ones((1, 7)), "1 of 7 values"),
        (TOY_VALUES, np.ones(7), "need .draws, 7"),
        (TOY_VALUES, np.ones((1, 6)), "need .draws, 7"),
        (TOY_VALUES, np.eye(7)[:2] - np.eye(7)[1:3], "not negative"),
        (TOY_VALUES, np.full((1, 7), NAN), "finite"),
        (TOY_VALUES, np.zeros((1, 7)), "an item drawn"),
    ],
)
def test_wrong_arrays_are_refused(values: Floats, weights: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TOY.scores(TOY_ITEMS, values, weights)


def test_an_item_of_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="toy: item 'x' is in 'e', which is not one of a, b"):
        TOY.coverage([item("x", "e")])


ANSWERS: tuple[Answer, ...] = ("scores", "index", "scalar")
# Whether a tie earns ½, and else nothing, by benchmark and how the judge answers.
TIES: dict[tuple[str, Answer], bool] = {
    (name, answer): half
    for name, thirds in {
        "rewardbench": (True, True, False),
        "ppe_preference": (True, True, True),
        "ppe_correctness": (True, True, True),
        "hhh_alignment": (True, True, True),
        "rmb": (False, False, False),
        "rm_bench": (False, False, False),
        "llmbar": (True, False, True),
        "judgebench_gpt": (False, False, False),  # of a single game of a judge that writes
        "judgebench_claude": (False, False, False),
    }.items()
    for answer, half in zip(ANSWERS, thirds, strict=True)
}


def test_ties_earn_what_upstream_gives() -> None:
    win, tie = np.array([0.5, 0.0, 1.0]), np.array([0.2, 1.0, 0.0])
    assert TOY.credit(win, tie) == pytest.approx([0.55, 0.25, 1.0])
    votes = {"pandalm", "mt_bench_human"}  # a tie is a verdict there
    for (name, answer), half in TIES.items():
        expected = [0.6, 0.5, 1.0] if half else [0.5, 0.0, 1.0]
        assert RULES[name].credit(win, tie, answer) == pytest.approx(expected), (name, answer)
    assert set(RULES) == {name for name, _ in TIES} | votes
    for wrong in (win - 0.6, win + 0.4):
        with pytest.raises(ValueError, match="probabilities"):
            TOY.credit(wrong, tie)


REWARDBENCH = {
    "chat": {"alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95}
    | {"mt-bench-easy": 28, "mt-bench-med": 40},
    "chat_hard": {"mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134}
    | {"llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46},
    "safety": {"refusals-dangerous": 100, "refusals-offensive": 100}
    | {"xstest-should-refuse": 154, "xstest-should-respond": 250, "donotanswer": 136},
    "reasoning": {"math-prm": 447, "hep-cpp": 164, "hep-go": 164, "hep-java": 164}
    | {"hep-js": 164, "hep-python": 164, "hep-rust": 164},
}
PROMPTS = {"chat": 358, "chat_hard": 456, "safety": 740, "reasoning": 1431}


def test_rewardbench_weighs_prompts_within_sections_and_math_as_much_as_code() -> None:
    items = by_subset({s: n for section in REWARDBENCH.values() for s, n in section.items()})
    assert len(items) == 2985
    for section, subsets in REWARDBENCH.items():
        assert sum(subsets.values()) == PROMPTS[section]
        for subset, count in subsets.items():
            weight = count / PROMPTS[section]
            if section == "reasoning":
                weight = 1 / 2 if subset == "math-prm" else 1 / 12
            gain = share("rewardbench", items, [x.subset == subset for x in items])
            assert gain == {
                section: pytest.approx(weight),
                "overall": pytest.approx(weight / 4),
            }


def test_rewardbench_math_alone_is_a_partial_section() -> None:
    items = by_subset({"math-prm": 447})
    values = np.arange(447) < 300
    assert point("rewardbench", items, values) == {"reasoning (partial)": pytest.approx(300 / 447)}


def test_ppe_preference_counts_tied_battles_and_leaves_them_out() -> None:
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    items = [item(str(i), "human_preference", winner=winners[i % 4]) for i in range(16038)]
    values = np.array([(1.0, 0.5, NAN, 0.0)[i % 4] for i in range(16038)])
    a, b = 4010, 4010
    expected = pytest.approx((a + 0.5 * b) / (a + b))
    assert point("ppe_preference", items, values) == {
        "human_preference": expected,
        "overall": expected,
    }
    assert list(point("ppe_preference", items[1:], values[1:])) == ["human_preference (partial)"]
    with pytest.raises(ValueError, match="1 of 16038 values"):
        point("ppe_preference", items, [NAN, *values[1:]])
    with pytest.raises(ValueError, match="needs meta 'winner'"):
        point("ppe_preference", [item("x", "human_preference")], [1.0])


def test_ppe_correctness_is_the_mean_of_five_sets_of_questions() -> None:
    counts = {"mmlu_pro": 512, "math": 512, "gpqa": 512, "mbpp_plus": 507, "ifeval": 512}
    items = [
        item(f"{subset}-{i}-{pair}", subset, question_id=i, pairs=1 + i % 2)
        for subset, count in counts.items()
        for i in range(count)
        for pair in range(1 + i % 2)
    ]
    for subset, count in counts.items():
        right = [x.subset == subset and x.meta["pairs"] == 1 for x in items]
        one, two = (count + 1) // 2, count // 2
        mean = one / (one + 2 * two)
        gain = share("ppe_correctness", items, right)
        assert gain == {subset: pytest.approx(mean), "overall": pytest.approx(mean / 5)}
    without = [x for x in items if x.id != "math-1-1"]
    assert RULES["ppe_correctness"].coverage(without).missing == {"math": (511, 512)}
    assert "math (partial)" in point("ppe_correctness", without, np.ones(len(without)))


def test_ppe_correctness_counts_a_question_once_for_each_model_that_answers_it() -> None:
    """MBPP-Plus asks 378 questions, some of them of several models: 507 rows."""
    rows = [(f"q{i % 378}", f"model {i // 378}") for i in range(507)]
    items = [
        item(f"{question}-{model}-{pair}", "mbpp_plus", question_id=question, model=model, pairs=2)
        for question, model in rows
        for pair in range(2)
    ]
    assert "mbpp_plus" in point("ppe_correctness", items, np.ones(len(items)))
    assert RULES["ppe_correctness"].coverage(items).have["mbpp_plus"] == 507
    nameless = [replace(x, meta={**x.meta, "model": None}) for x in items]
    assert RULES["ppe_correctness"].coverage(nameless).have["mbpp_plus"] == 378 - 129


RMB = {("helpful", "bon"): 2109, ("helpful", "pair"): 10067}
RMB |= {("harmless", "bon"): 1677, ("harmless", "pair"): 7064}


def by_list(name: str, losers: int, goal: str = "helpful") -> list[Item]:
    return [item(name, n=losers + 1, goal=goal, kind="bon", group=name, losers=losers)]


def by_pairs(name: str, losers: int, goal: str = "helpful") -> list[Item]:
    meta = {"goal": goal, "kind": "bon", "group": name, "losers": losers}
    return [item(f"{name}-{i}", **meta) for i in range(losers)]


@pytest.mark.medium
def test_rmb_is_the_mean_of_four() -> None:
    items = [
        item(f"{goal}-{kind}-{i}", n=2 + (kind == "bon"), goal=goal, kind=kind, group=i, losers=2)
        for (goal, kind), count in RMB.items()
        for i in range(count)
    ]
    for goal, kind in RMB:
        right = [x.meta["goal"] == goal and x.meta["kind"] == kind for x in items]
        assert share("rmb", items, right) == {f"{goal}_{kind}": 1, "overall": pytest.approx(0.25)}
    few = point("rmb", items[1:], np.ones(len(items) - 1))
    assert list(few) == ["helpful_bon (partial)", "helpful_pair", "harmless_bon", "harmless_pair"]


def test_rmb_best_of_n_by_pairs_is_the_chance_to_win_them_all() -> None:
    items = [*by_pairs("g", 3), *by_list("h", 4), item("p", goal="helpful", kind="pair")]
    scores = point("rmb", items, [0.5, 1.0, 0.8, 0.9, 0.3])
    assert scores == {
        "helpful_bon (partial)": pytest.approx((0.4 + 0.9) / 2),
        "helpful_pair (partial)": pytest.approx(0.3),
    }
    assert RULES["rmb"].coverage(items).have["helpful_bon"] == 2


def test_rmb_groups_weigh_alike_however_many_pairs_they_have() -> None:
    items = [*by_pairs("g", 6), *by_pairs("h", 2)]
    weights = np.array([[1.0] * 8, [1.0] * 6 + [3.0] * 2])
    scores = RULES["rmb"].scores(items, np.array([1.0] * 6 + [0.0] * 2), weights)
    assert scores["helpful_bon (partial)"] == pytest.approx([1 / 2, 1 / 4])


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=6), min_size=1, max_size=5))
def test_rmb_by_pairs_equals_by_list_of_the_products(groups: list[list[float]]) -> None:
    pairs = [x for i, group in enumerate(groups) for x in by_pairs(f"g{i}", len(group))]
    lists = [x for i, group in enumerate(groups) for x in by_list(f"g{i}", len(group))]
    products = [np.prod(group) for group in groups]
    expected = point("rmb", lists, np.array(products))
    assert point("rmb", pairs, np.concatenate(groups)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (by_pairs("g", 3)[1:], "helpful_bon 'g' has 2 items, not 3"),
        (by_pairs("g", 2) + by_pairs("g", 2), "'g' has 4 items, not 2"),
        (by_pairs("g", 3) + by_list("g", 3), "by list and by pairs"),
        ([item("x", n=3, goal="helpful", kind="bon", group="g", losers=3)], "shows 3 responses"),
        ([item("x", goal="helpful", kind="bon")], "needs meta 'losers'"),
        ([item("x", goal="helpfulness", kind="pair")], "'goal' one of helpful, harmless"),
        ([item("x", goal="helpful", kind="list")], "'kind' one of bon, pair"),
    ],
)
def test_rmb_groups_that_are_not_whole_are_refused(items: list[Item], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        point("rmb", items, np.ones(len(items)))


def test_rmb_groups_are_drawn_whole_and_values_are_credits() -> None:
    items = by_pairs("g", 2)
    with pytest.raises(ValueError, match="differ in weight"):
        RULES["rmb"].scores(items, np.ones(2), np.array([[1.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="1 of 2 values"):
        point("rmb", items, [1.0, NAN])
    with pytest.raises(ValueError, match="need .draws, 2"):
        RULES["rmb"].scores(items, np.ones(2), np.ones((1, 3)))


FILES = {"chat": 129, "code": 228, "math": 529, "safety-refuse": 284, "safety-response": 157}


def style_matrix(files: dict[str, int]) -> list[Item]:
    return [
        item(f"{f}-{i}-{c}{r}", domain=f, chosen_style=c, rejected_style=r, group=i)
        for f, count in files.items()
        for i in range(count)
        for c, r in product(range(3), range(3))
    ]


def difficulty(x: Item) -> str:
    gap = x.meta["chosen_style"] - x.meta["rejected_style"]
    return "easy" if gap > 0 else "hard" if gap < 0 else "normal"


@pytest.mark.medium
def test_rm_bench_domains_and_difficulties() -> None:
    items = style_matrix(FILES)
    matrix = product(range(3), range(3))
    for (file, count), (chosen, rejected) in product(FILES.items(), matrix):
        domain = file.split("-")[0]
        cell = count / (284 + 157) if domain == "safety" else 1.0
        cells = [
            x.domain == file
            and (x.meta["chosen_style"], x.meta["rejected_style"]) == (chosen, rejected)
            for x in items
        ]
        level = difficulty(next(x for x, inside in zip(items, cells, strict=True) if inside))
        expected = {domain: cell / 9, level: cell / 12, "overall": cell / 36}
        if domain == "safety":
            expected[file] = 1 / 9
        assert share("rm_bench", items, cells) == pytest.approx(expected)


def test_rm_bench_levels_name_who_has_the_fancier_style() -> None:
    items = style_matrix({"chat": 129})
    by_level = {"easy": 0.9, "normal": 0.6, "hard": 0.3}
    scores = point("rm_bench", items, [by_level[difficulty(x)] for x in items])
    assert scores.pop("chat") == pytest.approx(0.6)
    assert scores == {f"{level} (partial)": pytest.approx(v) for level, v in by_level.items()}


def test_rm_bench_without_math_has_no_overall() -> None:
    items = style_matrix({file: n for file, n in FILES.items() if file != "math"})
    assert set(point("rm_bench", items, np.ones(len(items)))) == {
        *("chat", "code", "safety", "safety-refuse", "safety-response"),
        *("easy (partial)", "normal (partial)", "hard (partial)"),
    }
    with pytest.raises(ValueError, match="'chosen_style' one of 0, 1, 2"):
        RULES["rm_bench"].coverage([item("x", chosen_style=3, rejected_style=0, group=0)])
    twice = [item(str(i), domain="chat", chosen_style=0, rejected_style=0, group=7) for i in (0, 1)]
    assert RULES["rm_bench"].coverage(twice).have["chat 0>0"] == 0


JUDGEBENCH = {
    "judgebench_gpt": ("gpt-4o-2024-05-13", 350, (154, 98, 56, 42)),
    "judgebench_claude": ("claude-3-5-sonnet-20240620", 270, (154, 51, 34, 31)),
}


@pytest.mark.parametrize("name", JUDGEBENCH)
def test_judgebench_pools_all_pairs(name: str) -> None:
    model, pairs, counts = JUDGEBENCH[name]
    sections = dict(zip(("knowledge", "reasoning", "math", "coding"), counts, strict=True))
    items = by_subset(sections, response_model=model)
    for section, count in sections.items():
        gain = share(name, items, [x.subset == section for x in items])
        assert gain == {section: pytest.approx(1), "overall": pytest.approx(count / pairs)}
    with pytest.raises(ValueError, match=f"'response_model' one of {model}"):
        RULES[name].coverage([item("x", "math", response_model="another")])


def test_judgebench_decides_by_the_sum_of_both_orders() -> None:
    outcomes = {+1: (1.0, 0.0), 0: (0.0, 1.0), -1: (0.0, 0.0)}
    for first, second in product(outcomes, outcomes):
        arrays = [np.array([p]) for p in (*outcomes[first], *outcomes[second])]
        assert both_orders(*arrays) == float(first + second > 0)


def test_judgebench_expects_over_independent_votes() -> None:
    credit = both_orders(np.array([0.5]), np.array([0.2]), np.array([0.6]), np.array([0.1]))
    assert credit == pytest.approx([0.5 * 0.6 + 0.5 * 0.1 + 0.2 * 0.6])
    with pytest.raises(ValueError, match="probabilities"):
        both_orders(np.array([0.9]), np.array([0.2]), np.array([0.6]), np.array([0.1]))
    with pytest.raises(ValueError, match="probabilities"):
        both_orders(np.array([0.6]), np.array([0.1]), np.array([0.9]), np.array([0.2]))


def test_judgebench_reward_models_play_one_game_and_a_tie_goes_to_b() -> None:
    """Upstream's single game says B > A unless A's score is higher."""
    right, gpt = [0, 0, 0, 1, 1, 1], {"response_model": "gpt-4o-2024-05-13"}
    items = [
        Item(str(i), "", "math", "", (), ("a", "b"), Label("best", best), meta=gpt)
        for i, best in enumerate(right)
    ]
    win, tie = np.array([1.0, 0.0, 0.0] * 2), np.array([0.0, 1.0, 0.0] * 2)
    found = RULES["judgebench_gpt"].judged(items, win, tie, np.eye(6), "scalar")
    expected = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    assert found["math (partial)"] == pytest.approx(expected)
    pairs = RULES["judgebench_gpt"].judged(items, win, tie, np.eye(6), "scores")
    assert pairs["math (partial)"] == pytest.approx(win)


def test_judgebench_sources_fall_into_four_categories() -> None:
    sources = ("mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench")
    assert [category(source) for source in sources] == ["knowledge", "reasoning", "math", "coding"]
    with pytest.raises(ValueError, match="'arena' starts with none of mmlu-pro"):
        category("arena")


TASKS = ("math_word_problem_generation", "finegrained_fact_verification")
TASKS += ("answerability_classification",)
REALMISTAKE = {
    f"{t}/{m}": n for t in TASKS for m, n in (("gpt-4-0613", 140), ("Llama-2-70b-chat-hf", 160))
}
MISTAKES = by_subset(REALMISTAKE)


def fake_auc(members: np.ndarray, weights: Floats) -> Floats:
    """Tells members and weights apart; NaN, as for one class, if the first is not drawn."""
    value = (weights @ members) / np.maximum(weights.sum(axis=1), 1e-9)
    return np.where(weights[:, 0] > 0, value, NAN)


def test_realmistake_gives_tasks_pooled_and_the_mean_of_six() -> None:
    scores = realmistake.scores(MISTAKES, fake_auc, np.ones((2, 900)))
    ends = np.cumsum([0, *REALMISTAKE.values()])
    six = [(low + high - 1) / 2 for low, high in zip(ends[:-1], ends[1:], strict=True)]
    assert list(scores) == [*TASKS, "pooled", "overall"]
    assert list(realmistake.SECTIONS) == [*TASKS, "pooled"]
    for index, task in enumerate(TASKS):
        assert scores[task] == pytest.approx([np.mean(six[2 * index : 2 * index + 2])] * 2)
    assert scores["pooled"] == pytest.approx([899 / 2] * 2)
    assert scores["overall"] == pytest.approx([np.mean(six)] * 2)


def test_realmistake_keeps_the_plain_auc_where_a_draw_has_one_class() -> None:
    weights = np.ones((2, 900))
    weights[1, :140] = 0
    gpt = realmistake.scores(MISTAKES, fake_auc, weights)[TASKS[0]]
    assert gpt == pytest.approx([(69.5 + 219.5) / 2] * 2)
    weights[1, 1] = 1
    with pytest.raises(ValueError, match="holds responses of one class only"):
        realmistake.scores(MISTAKES, lambda members, w: np.full(len(w), NAN), weights)


def test_a_part_of_realmistake_has_no_overall() -> None:
    items = MISTAKES[:140]
    assert realmistake.coverage(items).missing == dict(
        zip(list(REALMISTAKE)[1:], [(0, n) for n in list(REALMISTAKE.values())[1:]], strict=True)
    )
    names = list(realmistake.scores(items, fake_auc, np.ones((1, 140))))
    assert names == [f"{TASKS[0]} (partial)", "pooled (partial)"]
    with pytest.raises(ValueError, match="need .draws, 140"):
        realmistake.scores(items, fake_auc, np.ones((1, 900)))


def test_many_gaps_are_told_together() -> None:
    official = {f"p{i}": 10 for i in range(12)}
    few = Coverage("toy", {**official, **{f"p{i}": i for i in range(9)}}, official)
    assert str(few).count(" of 10") == 9 and "further" not in str(few)
    many = Coverage("toy", {**official, **{f"p{i}": i for i in range(11)}}, official)
    assert str(many).endswith("p7 7 of 10, and 2 further parts 17 of 20")


def test_the_papers_overall_weighs_four_benchmarks_alike_draw_by_draw() -> None:
    names = ("rewardbench", "ppe_preference", "ppe_correctness", "rmb")
    draws = dict(zip(names, np.eye(4), strict=True))
    assert paper.overall(**draws) == pytest.approx([0.25] * 4)


def test_a_unit_is_whole_with_exactly_its_items() -> None:
    rule = Averages(
        name="units",
        official={"a": 1},
        parts={"a": single_cells({"a": 1})},
        overall=single_cells({"a": 1}),
        cell=lambda item: item.subset,
        tie=0.5,
        unit=lambda item: Unit("u", 2),
    )
    wholes = [rule.coverage(by_subset({"a": n})).have["a"] for n in (1, 2, 3)]
    assert wholes == [0, 1, 0]


LLMBAR = {"natural": 100, "adversarial_neighbor": 134, "adversarial_gptinst": 92}
LLMBAR |= {"adversarial_gptout": 47, "adversarial_manual": 46}


def test_llmbar_averages_subsets_whatever_their_size() -> None:
    items = by_subset(LLMBAR)
    for subset in LLMBAR:
        gain = share("llmbar", items, [x.subset == subset for x in items])
        part = {} if subset == "natural" else {"adversarial": pytest.approx(1 / 4)}
        assert gain == {subset: 1, **part, "overall": pytest.approx(1 / 5)}


def test_hhh_averages_categories_and_pools_pairs() -> None:
    counts = {"harmless": 58, "helpful": 59, "honest": 61, "other": 43}
    items = by_subset(counts)
    for subset, count in counts.items():
        gain = share("hhh_alignment", items, [x.subset == subset for x in items])
        assert gain == {subset: 1, "pooled": pytest.approx(count / 221), "overall": 0.25}


def judged(name: str, items: list[Item], win: list[float], tie: list[float]) -> dict[str, float]:
    found = RULES[name].judged(items, np.array(win), np.array(tie), uniform(items))
    return {section: float(value[0]) for section, value in found.items()}


def labelled(name: str, kind: str, value: object, subset: str = "") -> Item:
    return Item(name, "", subset, "", (), ("a", "b"), Label(kind, value))


def test_pandalm_has_three_classes() -> None:
    winners = [0] * 422 + [1] * 472 + [None] * 105
    items = [labelled(str(i), "pair_tie", {"winner": w}) for i, w in enumerate(winners)]
    scores = judged("pandalm", items, [0.5] * 894 + [0.0] * 105, [0.3] * 999)
    assert scores == {
        "decided": pytest.approx(0.5),
        "tied": pytest.approx(0.3),
        "overall": pytest.approx((894 * 0.5 + 105 * 0.3) / 999),
    }
    assert set(judged("pandalm", items[1:], [0.5] * 998, [0.3] * 998)) == {
        "decided (partial)",
        "tied",
    }
    with pytest.raises(ValueError, match="kind pair_tie"):
        RULES["pandalm"].coverage([item("x")])


def test_mt_bench_agrees_vote_by_vote_with_ties_and_without() -> None:
    items = [
        labelled("a", "best", 1, "all"),
        labelled("b", "votes", [0, 0, 1, None], "all"),
        labelled("c", "votes", [0, None, None], "all"),
    ]
    win, tie = [0.6, 0.5, 0.2], [0.4, 0.2, 0.5]
    with_ties = 0.6 + (2 * 0.5 + 0.3 + 0.2) + (0.2 + 2 * 0.5)
    without = 0.6 + (2 * 0.5 + 0.3) + 0.2
    assert judged("mt_bench_human", items, win, tie) == {
        "with_ties (partial)": pytest.approx(with_ties / 8),
        "without_ties (partial)": pytest.approx(without / (0.6 + 3 * 0.8 + 0.5)),
    }
    with pytest.raises(ValueError, match="kind best or votes"):
        judged("mt_bench_human", [labelled("x", "graded", [1, 2], "all")], [1.0], [0.0])


def test_mt_bench_draws_and_a_judge_that_always_ties() -> None:
    items = [labelled(str(i), "best", 0, "all") for i in range(200)]
    win = np.r_[np.ones(100), np.zeros(100)]
    weights = np.r_[[np.r_[np.ones(100), np.zeros(100)]], np.ones((1, 200))]
    found = RULES["mt_bench_human"].judged(items, win, np.zeros(200), weights)
    for section in ("with_ties", "without_ties", "overall"):
        assert found[section] == pytest.approx([1.0, 0.5])
    tied = judged("mt_bench_human", items, [0.0] * 200, [1.0] * 200)
    assert tied == {"with_ties": 0.0, "without_ties": 0.5, "overall": 0.0}


def test_members_are_the_scored_items_of_each_section() -> None:
    found = {name: np.flatnonzero(mask).tolist() for name, mask in TOY.members(TOY_ITEMS).items()}
    assert found == {"left": [0, 1, 2], "right": [3, 4, 5, 6], "overall": [*range(7)]}
    battles = [
        item("a", "human_preference", winner="tie"),
        item("b", "human_preference", winner="model_a"),
    ]
    for mask in RULES["ppe_preference"].members(battles).values():
        assert mask.tolist() == [False, True]
    one = [item("x", "answerability_classification/gpt-4-0613", n=1)]
    assert realmistake.members(one)["pooled"].tolist() == [True]
