"""Preparing real data: what is kept, and that whatever is not is counted with its reason."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_sources import need_data
from real_sources import source as shipped

from spct import artifact, config
from spct.config import Slice
from spct.data import catalog, prepare
from spct.data.dedupe import question_key
from spct.data.general import read_general
from spct.data.real import Maker
from spct.data.text import conversation
from spct.errors import ConfigError, StageStopped
from spct.records import Item, Label, read_items, write_items
from spct.scaling.bench import read_bench
from spct.schema import DataConfig, SourceConfig

OUTPUTS = ("out_train", "out_bench", "out_general")
LONG = " ".join(f"word{i}" for i in range(30))


def pair(ask: str, *responses: str, label: Any = 0, **more: Any) -> dict[str, Any]:
    return {"prompt": ask, "responses": list(responses), "label": label, **more}


ROWS = [
    pair("Which one?", "this", "that"),
    pair("Which one?", "that", "this"),  # repeat
    pair("Which  one", "This!", "that"),  # near_repeat
    pair("Held out", "this", "that"),  # in_benchmark
    pair("Tell", f"so {LONG}", "that"),  # overlaps_benchmark
    pair("Empty", "this", " "),  # empty_response
    pair("Equal", "this", " this\n"),  # equal_responses
    pair("Long", "this", "x" * 200_000),  # too_long
    pair("Wrong label", "this", "that", label=2),  # bad_label
    pair("Tie", "this", "that", label=[1, 1], kind="graded"),  # tie
    pair("Three", "this", "that", "those", label=[1, 3, 2], kind="graded"),
    pair("Alone", "this", label=[3], kind="graded"),  # unverifiable
    pair("Right?", "this", label=[True], kind="correct"),
    pair("Kind", "this", "that", kind="bset"),  # bad_label
    pair("Again", "this", "that", id="same"),
    pair("Once more", "this", "that", id="same"),  # repeat_id
]
DROPS = {
    "repeat": 1, "near_repeat": 1, "in_benchmark": 1, "overlaps_benchmark": 1,
    "empty_response": 1, "equal_responses": 1, "too_long": 1, "bad_label": 2, "tie": 1,
    "unverifiable": 1, "repeat_id": 1, "bad_json": 1, "not_utf8": 1, "bad_row": 1,
}  # fmt: skip
KEPT = {"Which one?", "Three", "Right?", "Again"}
BENCH = [pair("Held out!", "a", "b"), pair("Other", f"it is {LONG}", ""), pair("Bad", "a", label=9)]


def write(path: Path, rows: list[dict[str, Any]], *raw: bytes) -> None:
    lines = [json.dumps(row).encode() for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"\n".join([*lines, *raw])
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def source(name: str, file: str, **values: Any) -> SourceConfig:
    return SourceConfig(**{"name": name, "loader": "generic", "files": [file], "path": "mine",
                           "license": "none", **values})  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    bad = (b'{"prompt": ', b'{"prompt": "\xff"}', b"[1]")
    write(root / "mine/train.jsonl.gz", ROWS, *bad)
    write(root / "mine/bench.jsonl", BENCH)
    write(root / "mine/more.jsonl", [pair(f"Question {i}", "yes", "no") for i in range(40)])
    talk = [pair("Talk", "well", "bad"), pair("Held out", "c", "d"), pair("Talk", "well", "other")]
    write(root / "mine/talk.jsonl", talk)
    return root


def real(world: Path, **change: Any) -> DataConfig:
    values: dict[str, Any] = {
        "world": "real", "train_items": 0, "train_mix": {}, "general_items": 0, "benchmarks": {},
        "train_sources": {"mine": source("mine", "train.jsonl.gz")},
        "general_sources": {"talk": source("talk", "talk.jsonl")},
        "bench_sources": {"bench": source("bench", "bench.jsonl", publishable=False)},
        "max_chars": 20_000, "drop_overlap": 0.5,
    }  # fmt: skip
    return DataConfig(**(values | change))


def prepared(
    folder: Path, world: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0, **change: Any
) -> dict[str, Path]:
    monkeypatch.setenv("SPCT_DATA", str(world))
    paths = {name: folder / f"{name}.parquet" for name in OUTPUTS}
    paths |= {"out_ledger": folder / "ledger.json", "out_drops": folder / "drops.jsonl"}
    paths["out_card"] = folder / "card.json"
    prepare.run(Slice("prepare", {"data": real(world, **change)}), seed, **paths)
    return paths


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        return prepared(tmp_path_factory.mktemp("prepared"), world, patch)


def test_what_is_kept_has_one_best_response(done: dict[str, Path]) -> None:
    train = {conversation(item): item for item in read_items(done["out_train"])}
    assert set(train) == KEPT
    assert train["Three"].label == Label("best", 1)
    assert train["Three"].meta["label"] == {"kind": "graded", "value": [1, 3, 2]}
    assert train["Right?"].label == Label("correct", [True])
    assert train["Which one?"].id == "mine/train.jsonl.gz:1"


def test_nothing_is_dropped_in_silence(done: dict[str, Path]) -> None:
    ledger = json.loads(done["out_ledger"].read_text())
    mine = ledger["detail"]["by_source"]["train/mine"]
    assert mine == {"in": len(ROWS) + 3, "kept": len(KEPT), "rejected": DROPS}
    assert ledger["in"] == ledger["kept"] + sum(ledger["rejected"].values())
    lines = [json.loads(line) for line in done["out_drops"].read_text().splitlines()]
    listed = Counter(line["reason"] for line in lines if line["source"] == "mine")
    assert listed == DROPS
    where = {line["reason"]: line["where"] for line in lines if line["source"] == "mine"}
    assert where["tie"] == "mine/train.jsonl.gz:10" and where["not_utf8"] == "train.jsonl.gz:18"
    assert "word1" not in done["out_drops"].read_text()


def test_a_benchmark_keeps_odd_rows_but_not_those_without_an_answer(done: dict[str, Path]) -> None:
    bench = read_items(done["out_bench"])
    assert [conversation(item) for item in bench] == ["Held out!", "Other"]
    assert all(item.meta["publishable"] is False for item in bench)
    ledger = json.loads(done["out_ledger"].read_text())
    assert ledger["detail"]["by_source"]["bench/bench"]["rejected"] == {"bad_label": 1}


def test_general_text_is_the_best_response_once(done: dict[str, Path]) -> None:
    assert read_general(done["out_general"]) == [("Talk", "well")]
    ledger = json.loads(done["out_ledger"].read_text())["detail"]["by_source"]["general/talk"]
    assert ledger["rejected"] == {"in_benchmark": 1, "repeat": 1}


def test_the_card_names_sources_licences_and_drops(done: dict[str, Path]) -> None:
    card = json.loads(done["out_card"].read_text())
    assert card["train"]["items"] == 4 and card["train"]["by_label"] == {"best": 3, "correct": 1}
    assert card["train"]["by_responses"] == {"1": 1, "2": 2, "3": 1}
    by_name = {entry["name"]: entry for entry in card["sources"]}
    assert by_name["mine"]["dropped"] == DROPS and by_name["bench"]["publishable"] is False
    assert by_name["mine"]["files"] == {
        "train.jsonl.gz": artifact.file_hash(done_file(done, "train.jsonl.gz"))
    }
    page = done["out_card"].with_suffix(".md").read_text()
    assert "| bench | bench | mine |  | none (not to be published) | 3 | 2 |" in page
    assert "- in_benchmark: train mine 1, general talk 1" in page
    assert "word1" not in page and "this" not in page


def done_file(done: dict[str, Path], name: str) -> Path:
    return next(done["out_card"].parents[1].rglob(f"mine/{name}"))


def test_the_same_seed_gives_the_same_files(
    done: dict[str, Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = prepared(tmp_path, world, monkeypatch)
    for name in OUTPUTS:
        assert artifact.content_hash(again[name]) == artifact.content_hash(done[name])
    assert again["out_card"].read_text() == done["out_card"].read_text()


def two(**more: Any) -> dict[str, SourceConfig]:
    return {
        "mine": source("mine", "train.jsonl.gz", weight=1.0),
        "more": source("more", "more.jsonl", weight=3.0, **more),
    }


@pytest.mark.parametrize(
    ("items", "limit", "expected"),
    [
        (0, 0, {"mine": 4, "more": 40}),
        (12, 0, {"mine": 3, "more": 9}),
        (30, 0, {"mine": 4, "more": 26}),
        (0, 7, {"mine": 4, "more": 7}),
        (12, 7, {"mine": 4, "more": 7}),
    ],
)
def test_weights_and_limits(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int, limit: int,
    expected: dict[str, int],
) -> None:  # fmt: skip
    sources = two(limit=limit)
    paths = prepared(tmp_path, world, monkeypatch, train_items=items, train_sources=sources)
    train = read_items(paths["out_train"])
    assert Counter(item.dataset for item in train) == expected
    account = json.loads(paths["out_ledger"].read_text())["detail"]["by_source"]["train/more"]
    assert account["rejected"].get("not_drawn", 0) == 40 - expected["more"]
    assert "not_drawn" not in paths["out_drops"].read_text()
    first = [item.dataset for item in train[:8]]
    assert len(train) < 12 or len(set(first)) == 2 or items == 0  # mixed, not stacked


def test_a_limited_benchmark_is_drawn_by_seed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(seed: int) -> list[Item]:
        bench = {"more": source("more", "more.jsonl", limit=5)}
        paths = prepared(tmp_path / str(seed), world, monkeypatch, seed, bench_sources=bench)
        return read_items(paths["out_bench"])

    assert len(drawn(0)) == 5 and {i.id for i in drawn(0)} != {i.id for i in drawn(1)}


def test_long_items_are_dropped_before_any_is_drawn(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = {"more": source("more", "more.jsonl", limit=12, max_chars=len("Question 9yesno"))}
    train = {"talk": source("talk", "talk.jsonl", max_chars=len("Talkwellbad"))}
    paths = prepared(tmp_path, world, monkeypatch, bench_sources=bench, train_sources=train)
    assert len(read_items(paths["out_bench"])) == 10
    assert {item.responses for item in read_items(paths["out_train"])} == {
        ("well", "bad"), ("c", "d"),
    }  # fmt: skip
    by_source = json.loads(paths["out_ledger"].read_text())["detail"]["by_source"]
    assert by_source["bench/more"]["rejected"] == {"too_long": 30}
    assert by_source["train/talk"]["rejected"] == {"too_long": 1}


def test_nothing_left_to_train_on_stops(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(world / "mine/bad.jsonl", [pair("Empty", "this", "")])
    only = {"bad": source("bad", "bad.jsonl")}
    with pytest.raises(StageStopped, match=r"no train items are left; .*drops\.jsonl says why"):
        prepared(tmp_path, world, monkeypatch, train_sources=only)
    assert "empty_response" in (tmp_path / "drops.jsonl").read_text()
    assert not list(tmp_path.glob("*.parquet"))


def test_a_corrupt_file_stops(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (world / "mine/train.jsonl.gz").read_bytes()
    (world / "mine/cut.jsonl.gz").write_bytes(whole[:-20])
    only = {"cut": source("cut", "cut.jsonl.gz")}
    with pytest.raises(artifact.BrokenArtifact, match=r"cut\.jsonl\.gz is truncated or corrupt"):
        prepared(tmp_path, world, monkeypatch, train_sources=only)


# ---- one odd row stops nothing ---------------------------------------------------------------


def drops(paths: dict[str, Path], source: str = "odd") -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in paths["out_drops"].read_text().splitlines()]
    return [(line["where"], line["reason"]) for line in lines if line["source"] == source]


def odd(rows: list[dict[str, Any]], world: Path, tmp_path: Path, patch: pytest.MonkeyPatch,
        **options: Any) -> dict[str, Path]:  # fmt: skip
    write(world / "mine/odd.jsonl", [pair("A good one", "yes", "no"), *rows])
    only = {"odd": source("odd", "odd.jsonl", **options)}
    return prepared(tmp_path, world, patch, train_sources=only)


def test_rows_with_fields_of_other_types(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        pair("q1", "yes", "no", reference=4),
        pair("q2", "yes", "no", subset=["a"]),
        pair("q3", "yes", "no", domain=True),
        pair("q4", "yes", "no", label=[10**400, 1], kind="graded"),
    ]
    paths = odd(rows, world, tmp_path, monkeypatch)
    assert drops(paths) == [
        ("odd.jsonl:3", "bad_row"), ("odd.jsonl:4", "bad_row"), ("odd/odd.jsonl:5", "bad_label"),
    ]  # fmt: skip
    kept = {conversation(item): item.reference for item in read_items(paths["out_train"])}
    assert kept == {"A good one": None, "q1": "4"}


@pytest.mark.parametrize(
    ("name", "rows", "reasons"),
    [
        ("min_gap", [pair("q", "alone", label=[4], kind="graded")], ["no_gap"]),
        ("min_strength",
         [pair("q", "a", "b", label={"winner": 0}, kind="pair_tie"),
          pair("r", "a", "b", label={"winner": 0, "strength": "much"}, kind="pair_tie")],
         ["no_strength", "bad_label"]),
    ],
    ids=["gap", "strength"],
)  # fmt: skip
def test_labels_that_a_filter_cannot_read(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    rows: list[dict[str, Any]], reasons: list[str],
) -> None:  # fmt: skip
    good = {"min_gap": pair("good", "a", "b", label=[5, 1], kind="graded")}.get(
        name, pair("good", "a", "b", label={"winner": 0, "strength": 3}, kind="pair_tie")
    )
    options = {"filter": name, "options": {name: 1}}
    paths = odd([*rows, good], world, tmp_path, monkeypatch, **options)
    assert [reason for _, reason in drops(paths)] == ["other_kind", *reasons]
    assert [conversation(item) for item in read_items(paths["out_train"])] == ["good"]


# ---- benchmarks: one best response, one source, everything told ------------------------------


def benched(
    rows: list[dict[str, Any]], world: Path, tmp_path: Path, patch: pytest.MonkeyPatch,
    **options: Any,
) -> dict[str, Path]:  # fmt: skip
    write(world / "mine/held.jsonl", rows)
    held = {"held": source("held", "held.jsonl", **options)}
    return prepared(tmp_path, world, patch, bench_sources=held)


SEVERAL = [
    pair("one", "a", "b", "c", label=[True, False, False], kind="correct"),
    pair("two", "a", "b", "c", label=[True, True, False], kind="correct"),
    pair("all", "a", "b", label=[True, True], kind="correct"),
    pair("votes", "a", "b", label=[0, 1], kind="votes"),
    pair("grades", "a", "b", label=[5, 5], kind="graded"),
    pair("rated", "a", label=[5], kind="graded"),
    pair("tie", "a", "b", label=None, kind="pair_tie"),
    pair("groups", "a", "b", "c", label={"better": [0, 1], "worse": [2]}, kind="groups"),
]


def test_benchmark_items_without_one_best_response_are_dropped_when_read(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = benched(SEVERAL, world, tmp_path, monkeypatch)
    kept = read_items(paths["out_bench"])
    assert [conversation(item) for item in kept] == ["one", "tie", "groups"]
    assert [reason for _, reason in drops(paths, "held")] == ["tie"] * 4 + ["unverifiable"]
    assert "shape best_of or pair" in paths["out_drops"].read_text()
    assert "bench held: 3 of 8 (tie 4, unverifiable 1); 1 of those kept are ties" in (
        capsys.readouterr().out
    )
    assert len(read_bench(paths["out_bench"]).items) == 3


def test_a_shape_makes_benchmark_items_of_several_right_answers(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = benched(SEVERAL[:3], world, tmp_path, monkeypatch, shape="best_of")
    found = read_bench(paths["out_bench"]).items
    assert [item.n for item in found] == [3, 2] and {item.label.kind for item in found} == {"best"}
    assert [reason for _, reason in drops(paths, "held")] == ["all_right"]


def test_mmlu_pro_best_of_8_serves_as_a_benchmark(tmp_path: Path) -> None:
    need_data()
    mmlu = {"mmlu": shipped("mmlu_pro_best_of_8")}
    catalog.check(replace(DataConfig("real", 0, {}, 0, {}), bench_sources=mmlu, train_sources=mmlu))
    bench = Maker(DataConfig("real", 0, {}, 0, {}, bench_sources=mmlu), 0).bench()
    assert len(bench) == 1973 and {item.label.kind for item in bench} == {"best"}
    write_items(tmp_path / "bench.parquet", bench)
    assert len(read_bench(tmp_path / "bench.parquet").items) == 1973  # one has equal answers


def test_two_sources_of_one_part_of_a_benchmark_are_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"input": "q", "output_1": "a", "output_2": "b", "label": 1}
    for folder in ("one", "two"):
        write(world / f"{folder}/natural.jsonl", [row])
    both = {
        name: source(name, "natural.jsonl", loader="llmbar", path=name) for name in ("one", "two")
    }
    with pytest.raises(ConfigError, match="one and two both hold natural of the benchmark llmbar"):
        prepared(tmp_path, world, monkeypatch, bench_sources=both)
    one = {"one": both["one"]}
    assert len(read_items(prepared(tmp_path, world, monkeypatch, bench_sources=one)["out_bench"]))


def test_stale_and_missing_checksums_are_told(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    only = {"more": source("more", "more.jsonl", sha256={"gone.jsonl": "0" * 64})}
    paths = prepared(tmp_path, world, monkeypatch, train_sources=only)
    told = capsys.readouterr().out
    assert "warning: more: sha256 names gone.jsonl, which is none of its files" in told
    assert "warning: more: sha256 has no entry for more.jsonl; not compared" in told
    card = json.loads(paths["out_card"].read_text())
    entry = next(entry for entry in card["sources"] if entry["name"] == "more")
    assert entry["sha256_of_no_file"] == ["gone.jsonl"]


# ---- the shipped configuration ---------------------------------------------------------------


def test_the_real_mix_composes_and_its_frozen_slice_has_everything(tmp_path: Path) -> None:
    cfg = config.load(["experiment=smoke", "data=real"])
    frozen = tmp_path / "prepare.yaml"
    frozen.write_text(config.dump(config.view(cfg, "prepare")))
    assert Slice.read(frozen, "prepare").data == cfg.data
    raw = yaml.safe_load(frozen.read_text())["data"]["train_sources"]["hh_rlhf_helpful"]
    assert len(raw["sha256"]["helpful_base.train.jsonl.gz"]) == 64
    assert raw["options"] == {"domain": "helpful"}


def test_a_source_is_added_on_the_command_line() -> None:
    words = ["data=real", "+source@data.train_sources.hs2=helpsteer2_preference"]
    cfg = config.load([*words, "data.train_sources.hs2.weight=2.5"])
    added = cfg.data.train_sources["hs2"]
    assert added.hub == "nvidia/HelpSteer2" and len(added.revision) == 40 and added.weight == 2.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.train_sources.if_pairs.loader=ifpairs", r"if_pairs\.loader: 'ifpairs' is not one"),
        ("data.train_sources.if_pairs.shape=pairs", r"if_pairs\.shape: 'pairs' is not one of '',"),
        ("data.train_sources.if_pairs.filter=gap", r"if_pairs\.filter: 'gap' is not one of"),
        ("data.train_sources.if_pairs.filter=min_gap", r"options\.min_gap: .* needs a number"),
        ("data.train_sources.if_pairs.path=''", r"if_pairs: it lives nowhere"),
        ("data.train_sources.if_pairs.weight=0", r"if_pairs\.weight: 0\.0 is not above 0"),
        ("data.train_sources.if_pairs.max_chars=-1", r"if_pairs\.max_chars: -1 is not 0 or more"),
        ("data.train_sources.if_pairs.weight=much", r"if_pairs\.weight: Value 'much'"),
        ("data.train_sources.if_pairs.wieght=1", r"wieght"),
        ("data.train_sources.if_pairs.name=gsm8k_pairs", r"'gsm8k_pairs' names two sources"),
        ("data.bench_sources.llmbar.shape=pair", r"llmbar: a benchmark has no shape"),
        ("data.bench_sources.llmbar.loader=generic", r"llmbar\.name: llmbar is a benchmark with"),
        ("data.train_sources=null", r"train_sources"),
        ("data.drop_overlap=1.5", r"data\.drop_overlap: 1\.5 is not 0 or more and below 1"),
        ("audit.ngram=0", r"audit\.ngram: 0 is not 1 or more"),
        ("+source@data.train_sources.x=hh_rlhf_hub data.train_sources.x.revision=''",
         r"x\.revision: name the commit of Anthropic/hh-rlhf"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_source_is_named_before_any_job(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(["data=real", *change.split()])


def test_a_users_own_data_are_theirs_to_read() -> None:
    cfg = config.load(["data=real", "+source@data.train_sources.mine=generic"])
    assert cfg.data.train_sources["mine"].publishable


def test_the_toy_world_needs_its_own_counts() -> None:
    with pytest.raises(ConfigError, match=r"data\.benchmarks: at least one is needed, not \{\}"):
        config.load(["~data.benchmarks", "++data.benchmarks={}"])
    assert question_key("Ask me!") == question_key("ask  ME")
