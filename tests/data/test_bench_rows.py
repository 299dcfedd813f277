"""Loaders on rows written by hand in upstream's schema: fields, bad rows, names that do not fit."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from real_benches import CONF, files, source

from spct.artifact import BrokenArtifact
from spct.benchmarks import RULES
from spct.data.bench import LOADERS
from spct.data.reading import Dropped
from spct.errors import ConfigError
from spct.records import Item
from spct.schema import SourceConfig


def load(
    folder: Path, config: SourceConfig, rows: list[Any], name: str = "data.jsonl"
) -> list[Item | Dropped]:
    path = folder / name
    text = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return list(LOADERS[config.loader]([path], config))


def reasons(found: list[Item | Dropped]) -> list[str]:
    return [one.reason if isinstance(one, Dropped) else "item" for one in found]


REWARDBENCH = {
    **{"prompt": "q", "chosen": "good", "rejected": "bad", "subset": "hep-go", "id": 7},
    **{"chosen_model": "m1", "rejected_model": "m2"},
}


def test_rewardbench(tmp_path: Path) -> None:
    config = source("rewardbench")
    found = load(tmp_path, config, [REWARDBENCH, {**REWARDBENCH, "chosen": None}, [1]])
    assert reasons(found) == ["item", "bad_row", "bad_row"]
    item = found[0]
    assert isinstance(item, Item)
    assert (item.id, item.dataset, item.domain) == (
        "rewardbench/hep-go/7",
        "rewardbench",
        "reasoning",
    )
    assert (item.responses, item.label.value, item.meta) == (
        ("good", "bad"),
        0,
        {"models": ["m1", "m2"]},
    )
    assert RULES["rewardbench"].coverage([item]).have["hep-go"] == 1
    with pytest.raises(ConfigError, match="data.jsonl:1: subset 'hep-perl' is not one of alpaca"):
        load(tmp_path, config, [{**REWARDBENCH, "subset": "hep-perl"}])


def test_math_prm_needs_both_solutions(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "eval_solution": ["add", "2"], "problem_id": 3, "level": 1}
    wrong = {**row, "eval_solution": ["3"], "solution_type": "rejected"}
    right = {**row, "solution_type": "chosen"}
    config = source("rewardbench_math_prm")
    alone = {**right, "problem_id": 4}
    found = load(tmp_path, config, [wrong, right, alone, {**right, "solution_type": "?"}])
    assert reasons(found) == ["item", "no_label", "no_pair"]
    assert isinstance(found[0], Item) and found[0].responses == ("add\n2", "3")


BATTLE = {
    **{"question_id": "q1", "model_a": "x", "model_b": "y", "prompt": "hi", "language": "English"},
    **{"response_1": "a", "response_2": "b"},
}


def test_ppe_preference_keeps_ties_for_the_count(tmp_path: Path) -> None:
    rows = [
        {**BATTLE, "winner": winner, "question_id": str(i)}
        for i, winner in enumerate(["model_a", "model_b", "tie (bothbad)"])
    ]
    found = load(tmp_path, source("ppe_preference"), [*rows, {**BATTLE, "winner": 1}])
    assert reasons(found) == ["item"] * 3 + ["bad_row"]
    items = [item for item in found if isinstance(item, Item)]
    assert [item.label.value["winner"] for item in items] == [0, 1, None]
    assert [item.label.undecided for item in items] == [False, False, True]
    assert RULES["ppe_preference"].coverage(items).have["human_preference"] == 3
    assert RULES["ppe_preference"].members(items)["overall"].sum() == 2


def test_ppe_correctness_is_one_item_a_conflict_pair(tmp_path: Path) -> None:
    row = {
        **{"question_id": 11, "prompt": "q", "scores": [False, True, True]},
        **{"response_1": "a", "response_2": "b", "response_3": "c"},
        "sampled_conflict_pairs": [[0, 1], [2, 0]],
    }
    config = source("ppe_correctness_gpqa")
    found = load(tmp_path, config, [row])
    assert [(i.responses, i.label.value) for i in found if isinstance(i, Item)] == [
        (("a", "b"), 1),
        (("c", "a"), 0),
    ]
    items = [item for item in found if isinstance(item, Item)]
    assert RULES["ppe_correctness"].coverage(items).have["gpqa"] == 1
    again = [{**row, "model_name": name} for name in ("m1", "m2")]
    both = [item for item in load(tmp_path, config, again) if isinstance(item, Item)]
    assert len({item.id for item in both}) == 4
    assert RULES["ppe_correctness"].coverage(both).have["gpqa"] == 2
    bad = [[[1, 2]], [[0, 9]], [[0]], "x"]
    rows = [{**row, "sampled_conflict_pairs": pairs} for pairs in bad]
    assert reasons(load(tmp_path, config, rows)) == ["tie", "no_label", "bad_row", "bad_row"]
    with pytest.raises(ConfigError, match="options.subset 'physics' is not one of mmlu_pro"):
        load(tmp_path, source("ppe_correctness_gpqa", options={"subset": "physics"}), [row])


def answer(text: str) -> dict[str, str]:
    return {"llm_name": "m", "answer": text}


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TURNS += [{"role": "user", "content": "c"}]
BON = {
    **{"bon_uid": "5", "conversation_input": TURNS, "bon_best": answer("best")},
    **{"loser_list": [answer("x"), answer("")], "category_path": "BoN_set/Harmlessness/S1"},
}


def test_rmb_by_list_and_by_pairs(tmp_path: Path) -> None:
    (item,) = load(tmp_path, source("rmb"), [BON])
    assert isinstance(item, Item)
    assert item.responses == ("best", "x", "") and len(item.messages) == 3
    assert (item.subset, item.meta["group"], item.meta["losers"]) == ("harmless_bon", "5", 2)
    assert item.meta["odd"] == ["empty_response"]
    pairs = [
        item
        for item in load(tmp_path, source("rmb", options={"bon": "pairs"}), [BON])
        if isinstance(item, Item)
    ]
    assert [pair.responses for pair in pairs] == [("best", "x"), ("best", "")]
    assert len({pair.id for pair in pairs}) == 2
    for whole in ([item], pairs):
        assert RULES["rmb"].coverage(whole).have["harmless_bon"] == 1
    with pytest.raises(ConfigError, match="goal 'Honesty' is not one of Helpfulness"):
        load(tmp_path, source("rmb"), [{**BON, "category_path": "BoN_set/Honesty/S1"}])
    with pytest.raises(ConfigError, match="options.bon 'tree'"):
        load(tmp_path, source("rmb", options={"bon": "tree"}), [BON])


def test_rmb_pairs_and_rows_that_make_none(tmp_path: Path) -> None:
    pair = {
        **{
            "pair_uid": "9",
            "conversation_input": TURNS,
            "category_path": "Pairwise_set/Helpfulness/QA",
        },
        **{"chosen": answer("same"), "reject": answer("same")},
    }
    bad = [
        {**pair, "chosen": "text"},
        {**pair, "conversation_input": []},
        {**BON, "loser_list": []},
    ]
    found = load(tmp_path, source("rmb"), [pair, *bad])
    assert reasons(found) == ["item", "bad_row", "bad_row", "bad_row"]
    assert isinstance(found[0], Item) and found[0].meta["odd"] == ["equal_responses"]


def test_judgebench_names_its_set_by_the_model(tmp_path: Path) -> None:
    row = {
        **{"pair_id": "p", "source": "mmlu-pro-law", "question": "q", "label": "B>A"},
        **{"response_model": "gpt-4o-2024-05-13", "response_A": "a", "response_B": "b"},
    }
    found = load(tmp_path, source("judgebench"), [row, {**row, "label": "A=B"}])
    assert reasons(found) == ["item", "no_label"]
    item = found[0]
    assert isinstance(item, Item)
    assert (item.dataset, item.subset, item.label.value) == ("judgebench_gpt", "knowledge", 1)
    with pytest.raises(ConfigError, match="response_model 'gpt-9' is not one of"):
        load(tmp_path, source("judgebench"), [{**row, "response_model": "gpt-9"}])
    with pytest.raises(ConfigError, match="source 'arena' starts with none"):
        load(tmp_path, source("judgebench"), [{**row, "source": "arena"}])


def test_rm_bench_is_a_matrix_of_nine(tmp_path: Path) -> None:
    row = {"id": 4, "prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}
    found = load(tmp_path, source("rm_bench"), [row], "math_filtered.json")
    assert len({item.id for item in found if isinstance(item, Item)}) == 9
    last = found[-2]
    assert isinstance(last, Item) and last.responses == ("c", "e")
    assert (last.domain, last.meta) == (
        "math",
        {"chosen_style": 2, "rejected_style": 1, "group": "4"},
    )
    short = load(tmp_path, source("rm_bench"), [{**row, "chosen": ["a"]}], "chat.jsonl.gz")
    assert reasons(short) == ["bad_row"]
    with pytest.raises(ConfigError, match="the domain 'poetry' is not one of chat, code, math"):
        load(tmp_path, source("rm_bench"), [row], "poetry.jsonl")


def test_llmbar_and_hhh_names(tmp_path: Path) -> None:
    row = {"input": "q", "output_1": "a", "output_2": "b", "label": 2}
    found = load(tmp_path, source("llmbar"), [row, {**row, "label": 3}], "natural.jsonl")
    assert reasons(found) == ["item", "no_label"]
    assert isinstance(found[0], Item) and found[0].label.value == 1
    with pytest.raises(ConfigError, match="subset 'unnatural' is not one of natural"):
        load(tmp_path, source("llmbar"), [row], "unnatural.jsonl")
    hhh = {"subset": "honest", "index": 0, "input": "q", "target_scores": {"a": 0, "b": 1}}
    config = source("hhh_alignment")
    found = load(tmp_path, config, [hhh, {**hhh, "target_scores": {"a": 1, "b": 1}}])
    assert reasons(found) == ["item", "no_label"]
    assert isinstance(found[0], Item) and found[0].label.value == 1
    with pytest.raises(ConfigError, match="subset 'kind' is not one of harmless"):
        load(tmp_path, config, [{**hhh, "subset": "kind"}])


def test_pandalm_votes(tmp_path: Path) -> None:
    row = {"idx": 1, "instruction": "do", "input": "", "response1": True, "response2": "b"}
    votes = [(0, 0, 2), (1, 2, 2), (0, 1, 2), (5, 1, 1), (True, 1, 1)]
    rows = [{**row, **dict(zip(ANNOTATORS, vote, strict=True))} for vote in votes]
    found = load(tmp_path, source("pandalm"), rows)
    assert reasons(found) == ["item", "item", "no_label", "no_label", "no_label"]
    tied, decided = found[:2]
    assert isinstance(tied, Item) and isinstance(decided, Item)
    assert tied.label.undecided and decided.label.value == {"winner": 1, "strength": 2}
    assert tied.responses == ("True", "b") and tied.messages[0]["content"] == "do"


ANNOTATORS = ("annotator1", "annotator2", "annotator3")


# ---- ReaLMistake's archive ---------------------------------------------------------------------


def unlocked(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def realmistake(path: Path, **changes: Any) -> list[Item | Dropped]:
    config = source("realmistake", **changes)
    return list(LOADERS["realmistake"]([path], config))


MADE_UP = {
    **{"input": "made up", "llm_response": "made up", "error_label": "no_error"},
    **{"error_categories": [], "metadata": {"id": "x1"}},
}
MEMBER = "data/answerability_classification/gpt-4-0613.jsonl"


def test_realmistake_rows_and_members(tmp_path: Path) -> None:
    lines = b"\n".join(
        json.dumps(row).encode() for row in (MADE_UP, {**MADE_UP, "error_label": ""})
    )
    path = unlocked(tmp_path, {MEMBER: lines, "data/example.jsonl": b"{}", "data/README.md": b""})
    item, dropped = realmistake(path)
    assert isinstance(item, Item) and isinstance(dropped, Dropped)
    assert (item.subset, item.label.value) == ("answerability_classification/gpt-4-0613", [True])
    assert not item.publishable and item.id == "realmistake/x1"
    assert dropped.reason == "no_label" and dropped.where == f"{MEMBER}:2"
    with pytest.raises(ConfigError, match="data/poems/gpt-4-0613.jsonl is none of the sets"):
        realmistake(unlocked(tmp_path, {"data/poems/gpt-4-0613.jsonl": b""}))


def test_realmistake_refuses_to_be_published(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set publishable: false"):
        realmistake(unlocked(tmp_path, {}), publishable=True)


@pytest.mark.parametrize("password", ["", "wrong", "wrong too"])
def test_realmistake_needs_its_password(password: str) -> None:
    (path,) = files(source("realmistake"))
    with pytest.raises((ConfigError, BrokenArtifact), match="password"):
        realmistake(path, options={"password": password})


def test_realmistake_names_a_broken_archive(tmp_path: Path) -> None:
    (path,) = files(source("realmistake"))
    whole = path.read_bytes()
    broken = tmp_path / "data.zip"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenArtifact, match="data.zip is no whole zip archive"):
        realmistake(broken)
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    broken.write_bytes(spoilt)
    with pytest.raises(BrokenArtifact, match="data.zip: member data/.* is corrupt"):
        realmistake(broken)


WITHHELD = {"realmistake", "ppe_correctness_gpqa"}  # their owners ask that no text be republished


def test_every_configuration_names_a_loader_and_a_licence() -> None:
    for path in CONF.glob("*.yaml"):
        config = source(path.stem)
        assert config.name == path.stem and config.loader in LOADERS
        assert config.license and config.page and (config.path or config.hub)
        assert config.publishable is (config.name not in WITHHELD)
