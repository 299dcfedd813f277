"""The paper's tables (arXiv 2504.02495, §5), re-averaged by the rules from their own parts.

A row adds up if its printed parts average to its printed total, a tenth of a point being the last
digit. The rows that do not are the paper's own errors, listed here with what they average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spct.benchmarks import RULES, paper
from spct.records import Item, Label

Table = dict[str, tuple[float, ...]]

# RewardBench, PPE Preference, PPE Correctness, RMB -> Overall
TABLE_2: Table = {
    "Skywork-Reward-Gemma-2-27B": (94.1, 56.6, 56.6, 60.2, 66.9),
    "DeepSeek-V2.5-0905": (81.5, 62.8, 58.5, 65.7, 67.1),
    "Gemini-1.5-Pro": (86.8, 66.1, 59.8, 56.5, 67.3),
    "ArmoRM-8B-v0.1": (90.4, 60.6, 61.2, 64.6, 69.2),
    "InternLM2-20B-Reward": (90.2, 61.0, 63.0, 62.9, 69.3),
    "LLaMA-3.1-70B-Instruct": (84.1, 65.3, 59.2, 68.9, 69.4),
    "Claude-3.5-sonnet": (84.2, 65.3, 58.8, 70.6, 69.7),
    "Nemotron-4-340B-Reward": (92.0, 59.3, 60.8, 69.9, 70.5),
    "GPT-4o": (86.7, 67.1, 57.6, 73.8, 71.3),
    "LLM-as-a-Judge": (83.4, 64.2, 58.8, 64.8, 67.8),
    "BTRM-27B": (81.7, 68.3, 66.7, 57.9, 68.6),
    "CLoud": (82.0, 67.1, 62.4, 63.4, 68.7),
    "PairRM-27B": (87.1, 65.8, 64.8, 58.2, 69.0),
    "GRM-27B-RFT": (84.5, 64.1, 59.6, 67.0, 68.8),
    "GRM-27B": (86.0, 64.7, 59.8, 69.0, 69.9),
    "GRM-27B Voting@32": (88.5, 65.3, 60.4, 69.7, 71.0),
    "GRM-27B Voting@32, second version": (88.5, 65.3, 60.4, 69.0, 71.0),
    "GRM-27B MetaRM@32": (90.4, 67.2, 63.2, 70.3, 72.8),
}
TABLES_3_AND_6: Table = {
    "LLM-as-a-Judge @1": (83.0, 63.4, 57.4, 64.3, 67.0),
    "CLoud @1": (82.0, 67.0, 62.0, 63.2, 68.5),
    "GRM-27B-RFT @1": (84.0, 62.2, 59.4, 65.8, 67.8),
    "GRM-27B @1": (85.2, 62.4, 59.5, 64.4, 67.9),
    "LLM-as-a-Judge @8": (83.4, 63.8, 58.2, 65.2, 67.6),
    "LLM-as-a-Judge TokenProb @8": (83.8, 64.6, 58.8, 65.2, 68.1),
    "CLoud @8": (82.4, 67.3, 62.4, 63.2, 68.8),
    "GRM-27B-RFT @8": (85.3, 64.5, 59.7, 67.7, 69.3),
    "GRM-27B @8": (87.7, 64.9, 60.3, 69.5, 70.6),
    "GRM-27B MetaRM @8": (89.8, 66.4, 63.0, 68.8, 72.0),
    "GRM-27B @32": (88.5, 65.3, 60.4, 69.7, 71.0),
    "GRM-27B MetaRM @32": (90.4, 67.2, 63.2, 70.3, 72.8),
}
TABLES_4_AND_7: Table = {
    "GRM-27B": (86.0, 64.7, 59.8, 69.0, 69.9),
    "w/o principle generation": (82.0, 62.8, 58.2, 67.1, 67.5),
    "w/o rejective sampling": (84.0, 63.2, 59.4, 68.0, 68.7),
    "GRM-27B-RFT": (84.5, 64.1, 59.6, 67.0, 68.8),
    "RFT w/o hinted": (83.0, 63.8, 58.2, 65.8, 68.0),
    "RFT w/o non-hinted": (82.5, 63.4, 58.6, 65.2, 67.4),
    "RFT w/o both": (81.5, 61.8, 57.8, 63.1, 66.1),
    "RFT w/o general data": (79.1, 59.2, 51.5, 63.2, 63.3),
    "Voting@8": (87.7, 64.9, 60.3, 69.5, 70.6),
    "Voting@8 w/o principle generation": (83.0, 63.2, 58.6, 67.1, 68.0),
    "Voting@32": (88.5, 65.3, 60.4, 69.7, 71.0),
    "MetaRM@32, k_meta 1": (88.5, 67.1, 65.2, 65.2, 71.5),
    "MetaRM@32, k_meta 8": (89.7, 67.2, 64.7, 69.1, 72.7),
    "MetaRM@32, k_meta 16": (90.4, 67.2, 63.2, 70.3, 72.8),
}
# Chat, Chat Hard, Safety, Reasoning -> RewardBench
TABLE_8: Table = {
    "DeepSeek-R1-0120": (97.1, 73.7, 73.3, 95.6, 84.9),
    "GRM-16B": (90.8, 74.3, 84.7, 81.8, 82.9),
    "GRM-230B": (96.5, 72.5, 87.8, 84.3, 85.3),
    "GRM-671B": (95.8, 82.9, 88.3, 86.6, 88.4),
    "LLM-as-a-Judge": (96.7, 69.3, 83.5, 84.3, 83.4),
    "BTRM-27B": (96.7, 86.2, 75.7, 89.8, 81.7),
    "CLoud": (96.7, 69.3, 83.5, 84.3, 82.0),
    "PairRM-27B": (95.5, 86.8, 52.3, 92.0, 87.1),
    "GRM-27B-RFT": (94.7, 77.2, 87.0, 79.2, 84.5),
    "GRM-27B": (94.1, 78.3, 88.0, 83.8, 86.0),
    "LLM-as-a-Judge @8": (95.0, 70.0, 83.5, 85.0, 83.4),
    "LLM-as-a-Judge TokenProb @8": (95.8, 71.3, 83.3, 84.8, 83.8),
    "CLoud @8": (96.7, 85.8, 56.2, 91.0, 82.4),
    "GRM-27B-RFT @8": (94.7, 79.0, 87.3, 80.2, 85.3),
    "GRM-27B @8": (95.3, 80.9, 89.3, 85.4, 87.7),
    "GRM-27B MetaRM @8": (95.5, 85.7, 88.5, 89.5, 89.8),
    "GRM-27B @32": (95.5, 81.8, 90.0, 86.9, 88.5),
    "GRM-27B MetaRM @32": (95.3, 85.7, 89.5, 91.0, 90.4),
}
TABLE_15: Table = {
    "27B without MATH": (96.1, 70.4, 85.3, 82.5, 83.0),
    "27B": (94.1, 78.3, 88.0, 83.8, 86.0),
    "16B without MATH": (95.0, 63.4, 76.9, 74.3, 77.4),
    "16B": (90.8, 74.3, 84.7, 81.8, 82.9),
}
# MMLU-Pro, MATH, GPQA, MBPP-Plus, IFEval -> PPE Correctness
TABLE_9: Table = {
    "LLM-as-a-Judge": (66.0, 68.0, 52.8, 50.2, 56.8, 58.8),
    "BTRM-27B": (68.8, 73.2, 56.8, 68.8, 66.0, 66.7),
    "CLoud": (68.7, 68.8, 53.5, 59.0, 62.0, 62.4),
    "PairRM-27B": (68.3, 74.7, 55.0, 63.1, 62.9, 64.8),
    "GRM-27B-RFT": (64.8, 68.7, 55.5, 49.0, 60.2, 59.6),
    "GRM-27B": (64.8, 68.8, 55.6, 50.1, 59.8, 59.8),
    "GRM-27B with reference": (98.2, 97.5, 99.8, 86.6, 75.9, 91.6),
    "LLM-as-a-Judge @8": (66.2, 66.4, 51.9, 49.9, 56.8, 58.2),
    "LLM-as-a-Judge TokenProb @8": (66.4, 68.1, 53.0, 49.5, 57.0, 58.8),
    "CLoud @8": (68.7, 68.9, 53.5, 59.0, 62.0, 62.4),
    "GRM-27B-RFT @8": (64.8, 68.7, 55.5, 49.5, 60.2, 59.7),
    "GRM-27B @8": (65.7, 68.7, 55.5, 50.0, 61.6, 60.3),
    "GRM-27B MetaRM @8": (68.0, 68.7, 57.3, 51.3, 69.9, 63.0),
    "GRM-27B @32": (65.5, 69.4, 56.0, 49.9, 61.0, 60.4),
    "GRM-27B MetaRM @32": (68.1, 70.0, 56.9, 50.8, 70.4, 63.2),
}
# Helpfulness BoN, pairs, Harmlessness BoN, pairs -> RMB
TABLE_10: Table = {
    "LLM-as-a-Judge": (55.8, 78.5, 50.8, 73.9, 64.8),
    "BTRM-27B": (64.0, 83.0, 33.6, 51.0, 57.9),
    "CLoud": (64.7, 81.1, 41.7, 66.1, 63.4),
    "PairRM-27B": (59.9, 83.3, 34.1, 55.5, 58.2),
    "GRM-27B-RFT": (58.4, 79.3, 54.2, 76.0, 67.0),
    "GRM-27B": (62.3, 80.5, 57.0, 76.1, 69.0),
    "LLM-as-a-Judge @8": (56.0, 78.5, 52.5, 73.8, 65.2),
    "LLM-as-a-Judge TokenProb @8": (56.0, 78.5, 52.5, 73.8, 65.2),
    "CLoud @8": (63.8, 82.1, 40.9, 66.1, 63.2),
    "GRM-27B-RFT @8": (59.2, 80.1, 54.8, 76.5, 67.7),
    "GRM-27B @8": (63.9, 79.5, 57.6, 77.1, 69.5),
    "GRM-27B MetaRM @8": (63.4, 80.5, 56.8, 74.6, 68.8),
    "GRM-27B @32": (63.9, 79.8, 58.0, 77.0, 69.7),
    "GRM-27B MetaRM @32": (64.2, 81.6, 58.0, 77.4, 70.3),
}

# RewardBench and PPE as their papers count them, in the order of the tables' columns.
REWARDBENCH = (
    "alpacaeval-easy:100 alpacaeval-length:95 alpacaeval-hard:95 mt-bench-easy:28 mt-bench-med:40",
    "mt-bench-hard:37 llmbar-natural:100 llmbar-adver-neighbor:134 llmbar-adver-GPTInst:92 "
    "llmbar-adver-GPTOut:47 llmbar-adver-manual:46",
    "refusals-dangerous:100 refusals-offensive:100 xstest-should-refuse:154 "
    "xstest-should-respond:250 donotanswer:136",
    "math-prm:447 hep-cpp:164 hep-go:164 hep-java:164 hep-js:164 hep-python:164 hep-rust:164",
)
PPE = ("mmlu_pro:512", "math:512", "gpqa:512", "mbpp_plus:507", "ifeval:512")
RMB = (("helpful", "bon", 2109), ("helpful", "pair", 10067))
RMB += (("harmless", "bon", 1677), ("harmless", "pair", 7064))


def subset_items(columns: tuple[str, ...]) -> tuple[list[Item], list[int]]:
    """All items of a benchmark by subset, and the table column each belongs to."""
    items, column = [], []
    for index, subsets in enumerate(columns):
        for subset, count in (entry.split(":") for entry in subsets.split()):
            names = [f"{subset}-{i}" for i in range(int(count))]
            items += [item(name, subset, question_id=name, pairs=1) for name in names]
            column += [index] * len(names)
    return items, column


def rmb_items() -> tuple[list[Item], list[int]]:
    items, column = [], []
    for index, (goal, kind, count) in enumerate(RMB):
        names = [f"{goal}-{kind}-{i}" for i in range(count)]
        items += [item(n, "", goal=goal, kind=kind, group=n, losers=1) for n in names]
        column += [index] * count
    return items, column


def item(name: str, subset: str, **meta: object) -> Item:
    return Item(name, "", subset, "", (), ("a", "b"), Label("best", 0), meta=meta)


def by_rule(name: str, items: list[Item], column: list[int]) -> Callable[..., float]:
    """The official overall of items that all have the value their column has in the table."""
    weights = np.ones((1, len(items)))

    def overall(*parts: float) -> float:
        scores = RULES[name].scores(items, np.array(parts)[column] / 100, weights)
        return 100 * float(scores["overall"][0])

    return overall


def by_paper(*parts: float) -> float:
    names = ("rewardbench", "ppe_preference", "ppe_correctness", "rmb")
    four = {name: np.array([part]) for name, part in zip(names, parts, strict=True)}
    return float(paper.overall(**four)[0])


def exceptions(table: Table, overall: Callable[..., float]) -> dict[str, float]:
    """Rows whose total is not what their parts average, and that average."""
    means = {row: overall(*numbers[:-1]) for row, numbers in table.items()}
    return {
        row: pytest.approx(mean, abs=1e-6)
        for row, mean in means.items()
        if abs(mean - table[row][-1]) > 0.05 + 1e-9
    }


@pytest.mark.parametrize(
    ("table", "known"),
    [
        (TABLE_2, {"GRM-27B Voting@32, second version": 70.8}),
        (TABLES_3_AND_6, {}),
        (TABLES_4_AND_7, {"RFT w/o hinted": 67.7}),
    ],
    ids=["2", "3 and 6", "4 and 7"],
)
def test_overalls_are_the_mean_of_four_benchmarks(table: Table, known: dict[str, float]) -> None:
    assert known == exceptions(table, by_paper)


@pytest.mark.parametrize(
    ("table", "known"),
    [
        (TABLE_8, {"BTRM-27B": 87.1, "CLoud": 83.45, "PairRM-27B": 81.65}),
        (TABLE_15, {"27B without MATH": 83.575}),
    ],
    ids=["8", "15"],
)
def test_rewardbench_is_the_mean_of_four_sections(table: Table, known: dict[str, float]) -> None:
    assert known == exceptions(table, by_rule("rewardbench", *subset_items(REWARDBENCH)))


def test_ppe_correctness_is_the_mean_of_five_sets_in_table_9() -> None:
    assert exceptions(TABLE_9, by_rule("ppe_correctness", *subset_items(PPE))) == {}


@pytest.mark.medium
def test_rmb_is_the_mean_of_four_in_table_10() -> None:
    assert exceptions(TABLE_10, by_rule("rmb", *rmb_items())) == {}
