"""Benchmarks on their real files: counts, labels, coverage, and orders that give nothing away."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from real_benches import AT_HAND, files, loaded, source

from spct import seeds
from spct.benchmarks import RULES, realmistake
from spct.data.flaws import label_flaw
from spct.data.order import display_order
from spct.judge.predicate import sides

DATASETS = {  # by benchmark: items and what is missing of the official count
    "rewardbench": (447, 22),
    "rmb": (15926, 4),
    "realmistake": (900, 0),
    "rm_bench": (7182, 9),
    "judgebench_gpt": (350, 0),
    "judgebench_claude": (159, 1),
    "llmbar": (419, 0),
    "mt_bench_human": (200, 0),
    "pandalm": (999, 0),
    "hhh_alignment": (221, 0),
}
ODD = {
    "judgebench": {"equal_responses": 1},
    "pandalm": {"empty_response": 54},
    "rmb": {"equal_responses": 34, "empty_response": 2},
}
COUNTS = {
    "rewardbench_math_prm": {"math-prm": 447},
    "rmb": {"helpful_bon": 1825, "helpful_pair": 7311, "harmless_bon": 1467, "harmless_pair": 5323},
    "realmistake": realmistake.COUNTS,
    "rm_bench": {"chat": 1161, "code": 2052, "safety-refuse": 2556, "safety-response": 1413},
    "judgebench": {"knowledge": 154 + 43, "reasoning": 98 + 51, "math": 56 + 34, "coding": 42 + 31},
    "llmbar": {"natural": 100, "adversarial_neighbor": 134, "adversarial_gptinst": 92}
    | {"adversarial_gptout": 47, "adversarial_manual": 46},
    "mt_bench_human": {"all": 200},
    "pandalm": {"all": 999},
    "hhh_alignment": {"harmless": 58, "helpful": 59, "honest": 61, "other": 43},
}


@pytest.mark.parametrize("name", AT_HAND)
def test_every_row_is_an_item_with_a_label_that_fits(name: str) -> None:
    items, dropped = loaded(name)
    assert dropped == []
    assert Counter(item.subset for item in items) == COUNTS[name]
    assert len({item.id for item in items}) == len(items)
    assert all(item.id.startswith(f"{name}/") for item in items)
    assert not [item.id for item in items if label_flaw(item.label, item.n)]
    assert Counter(odd for item in items for odd in item.meta.get("odd", ())) == ODD.get(name, {})


@pytest.mark.parametrize("name", AT_HAND)
def test_every_file_has_a_checksum(name: str) -> None:
    config = source(name)
    assert {path.name for path in files(config)} == set(config.sha256)


@pytest.mark.parametrize("name", AT_HAND)
def test_a_partial_set_has_no_official_overall(name: str) -> None:
    for dataset in {item.dataset for item in loaded(name)[0]}:
        items = [item for item in loaded(name)[0] if item.dataset == dataset]
        rule = realmistake if dataset == "realmistake" else RULES[dataset]
        coverage = rule.coverage(items)
        count, missing = DATASETS[dataset]
        assert (len(items), len(coverage.missing)) == (count, missing)
        assert coverage.complete() == (missing == 0)
        assert ("partial" in str(coverage)) == (missing > 0)


@pytest.mark.parametrize("name", AT_HAND)
@pytest.mark.parametrize("plan", ["random", "fixed"])
def test_what_is_shown_does_not_give_the_answer_away(name: str, plan: str) -> None:
    """The best stands at every place about equally often, whatever the file's order."""
    items = [item for item in loaded(name)[0] if item.n > 1 and not item.label.undecided]
    seed = seeds.derive(0, "leak")
    for n in {item.n for item in items}:
        shown = [
            display_order(plan, seed, item.id, 0, n).index(sides(item.label, n)[0][0])
            for item in items
            if item.n == n
        ]
        expected, counts = len(shown) / n, Counter(shown)
        spread = sqrt(expected * (1 - 1 / n))
        assert all(abs(counts[place] - expected) < 4.5 * spread + 1 for place in range(n))


def test_files_whose_order_gives_the_answer_away() -> None:
    """So the shuffle is needed: upstream lists the best first in these, always."""
    for name in ("rewardbench_math_prm", "rmb", "rm_bench", "hhh_alignment"):
        assert {item.label.value for item in loaded(name)[0]} == {0}


def test_realmistake_is_marked_and_its_classes_are_upstreams() -> None:
    items, _ = loaded("realmistake")
    assert not any(item.publishable for item in items)
    assert Counter(item.label.value[0] for item in items) == {False: 649, True: 251}
    assert not any("explanation" in key for item in items for key in item.meta)


def test_pandalm_takes_the_majority_ties_included() -> None:
    items, _ = loaded("pandalm")
    assert Counter(item.label.value["winner"] for item in items) == {1: 472, 0: 422, None: 105}
    assert Counter(item.label.value["strength"] for item in items) == {3: 879, 2: 120}
    assert sum("True" in item.responses for item in items) >= 6
