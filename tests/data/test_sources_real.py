"""Every training source on its real file: the counts and labels that its README states."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from real_sources import CONF, loaded, source

from spct.data import catalog
from spct.data.answers import final_answer, same
from spct.data.download import fetch
from spct.data.filters import filtered
from spct.data.flaws import label_flaw
from spct.data.shapes import shaped
from spct.records import Item

COUNTS = {  # items, dropped rows by reason
    "hh_rlhf_helpful": (1752, {"context_differs": 5}),
    "hh_rlhf_harmless": (1751, {"context_differs": 4}),
    "webgpt_comparisons": (901, {}),
    "mmlu_pro_best_of_8": (1974, {}),
    "mmlu_pro_single": (1974, {}),
    "gsm8k_pairs": (1319, {}),
    "gsm8k_single": (1319, {}),
    "alpacaeval_8way": (610, {}),
    "prometheus_graded": (320, {}),
    "pandalm": (999, {}),
    "if_pairs": (444, {}),
    "dpo_demo_en": (299, {}),
    "dpo_demo_zh": (300, {}),
}
ELSEWHERE = {"generic", "math", "hh_rlhf_hub", "helpsteer2_preference", "ultrafeedback",
             "offsetbias", "skywork_preference_80k_v02"}  # fmt: skip


def test_every_source_is_at_hand_or_known_not_to_be() -> None:
    found = {path.stem for path in CONF.glob("*.yaml")} - {"default"}
    assert found == {*COUNTS, *ELSEWHERE}
    assert all(source(name).name == name for name in {*COUNTS, *ELSEWHERE})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_labels(name: str) -> None:
    items, dropped = loaded(name)
    assert (len(items), Counter(d.reason for d in dropped)) == COUNTS[name]
    assert len({item.id for item in items}) == len(items)
    assert not [item.id for item in items if label_flaw(item.label, item.n)]
    assert all(item.id.startswith(f"{name}/") for item in items)


def sizes(name: str) -> Counter[int]:
    return Counter(item.n for item in loaded(name)[0])


def test_webgpt_ties() -> None:
    items, _ = loaded("webgpt_comparisons")
    assert Counter(item.label.value["winner"] for item in items) == {None: 245, 0: 348, 1: 308}
    assert Counter(item.label.value["strength"] for item in items) == {0: 245, 1: 491, 2: 165}


def test_mmlu_pro_shows_the_options_and_hides_what_tells() -> None:
    items, _ = loaded("mmlu_pro_best_of_8")
    assert sizes("mmlu_pro_best_of_8") == {8: 1974}
    assert {sum(item.label.value) for item in items} == set(range(1, 8))
    assert len({item.subset for item in items}) == 14
    for item in items:
        assert f"\n{item.reference}. " in item.messages[0]["content"]
        assert not any(model in item.messages[0]["content"] for model in item.meta["models"])


def test_gsm8k_grades_and_the_rule_agree() -> None:
    items, _ = loaded("gsm8k_pairs")
    assert Counter(sum(item.label.value) for item in items) == {
        0: 432, 1: 290, 2: 236, 3: 205, 4: 156,
    }  # fmt: skip
    wrong = 0
    for item in items:
        assert item.reference is not None
        for response, right in zip(item.responses, item.label.value, strict=True):
            answer = final_answer(response)
            wrong += right != (answer is not None and same(answer, item.reference))
    assert wrong == GSM8K_DISAGREEMENTS


GSM8K_DISAGREEMENTS = 0


def test_gsm8k_makes_pairs_and_single_responses() -> None:
    items, _ = loaded("gsm8k_pairs")
    outcomes = Counter()
    for item in items:
        made = shaped(item, "pair", seed=0)
        outcomes[made[0] if isinstance(made, tuple) else len(made)] += 1
    assert outcomes == {1: 731, "all_wrong": 432, "all_right": 156}
    singles = [one for item in items for one in shaped(item, "single", seed=0)]
    assert all(isinstance(one, Item) and one.n == 1 for one in singles)
    right = sum(one.label.value[0] for one in singles if isinstance(one, Item))
    assert 450 < right < 600  # 2,001 of 5,276 solutions are right


def test_the_road_of_math_grades_gsm8k_as_upstream_does(tmp_path: Path) -> None:
    """Upstream's grades are left out: the rule finds them from the answers alone."""
    items, _ = loaded("gsm8k_pairs")
    rows = [
        {
            "problem": item.messages[0]["content"],
            "level": "Level 1",
            "type": "Algebra",
            "solution": f"\\boxed{{{item.reference}}}",
            "responses": item.responses,
        }
        for item in items
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = source("math", path=str(tmp_path))
    found = list(catalog.LOADERS["math"]([file.path for file in fetch(config)], config))
    assert [one.label for one in found if isinstance(one, Item)] == [one.label for one in items]
    pairs = [made for one in found if isinstance(made := shaped(one, config.shape, 0), list)]
    assert len(pairs) == 731 and all(one.label.kind == "best" for (one,) in pairs)


def test_alpacaeval_close_calls_are_dropped() -> None:
    items, _ = loaded("alpacaeval_8way")
    config = source("alpacaeval_8way")
    assert sizes("alpacaeval_8way") == {8: 610}
    assert all(1 <= grade <= 2 for item in items for grade in item.label.value)
    flaws = [filtered(item, config.filter, config.options) for item in items]
    assert 0 < sum(flaw is not None for flaw in flaws) < 610
    for item, flaw in zip(items, flaws, strict=True):
        first, second = sorted(item.label.value, reverse=True)[:2]
        assert (flaw is None) == (first - second >= 0.05)


def test_prometheus_sections() -> None:
    items, _ = loaded("prometheus_graded")
    assert sizes("prometheus_graded") == {1: 320}
    assert all(1 <= item.label.value[0] <= 5 for item in items)
    for item in items:
        texts = (item.messages[0]["content"], item.responses[0], item.reference or "")
        assert not any("###" in text and "Score Rubrics" in text for text in texts)
        assert item.meta["rubric"].startswith("[") and all(texts)


def test_dpo_demos_keep_their_turns_and_systems() -> None:
    english, chinese = loaded("dpo_demo_en")[0], loaded("dpo_demo_zh")[0]
    roles = Counter(tuple(m["role"] for m in item.messages) for item in english + chinese)
    assert roles["user",] == 349 and roles["system", "user"] == 144
    assert all(item.messages[-1]["role"] == "user" for item in english + chinese)


def test_if_pairs_levels() -> None:
    assert Counter(item.subset for item in loaded("if_pairs")[0]) == {
        "level-1": 47, "level-2": 133, "level-3": 264,
    }  # fmt: skip
