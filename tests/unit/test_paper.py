"""The paper's tables and claims from small runs whose numbers can be checked by hand."""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from paper_world import (
    bench,
    judge,
    members_of,
    said,
    scaling,
    write_curves,
    write_run,
    write_set,
)

from spct import artifact
from spct.data import recast
from spct.errors import BankError, ConfigError
from spct.paper import build, claims, data, tables
from spct.paper.data import ClaimSpec
from spct.paper.errors import draw
from spct.paper.members import Ref
from spct.paper.results import Results, Score
from spct.publish import publish
from spct.records import WITHHELD, Item, read_items
from spct.scaling.table import read_rows, select

PAIRS, LISTS, SINGLE = "toy_pairs", "toy_best_of_4", "toy_single"
GREEDY, OTHER = Ref.parse("grm grpo greedy"), Ref.parse("other grpo greedy")
ALL = {f"{name}/{i}" for name in (PAIRS, LISTS, SINGLE) for i in range(4)}
# Greedy: pairs 2 right and 1 tied of 4, lists 2 right and 1 tied of 4, single ones 3 of 4.
RIGHT = {f"{PAIRS}/0", f"{PAIRS}/1", f"{LISTS}/0", f"{LISTS}/1"} | {
    f"{SINGLE}/{i}" for i in range(3)
}
TIED = frozenset({f"{PAIRS}/2", f"{LISTS}/2"})


def samples(items: list[Item]) -> dict[str, list[list[int]]]:
    """Two samples: the first always right and barely, the second always wrong and widely."""
    return {
        item.id: [[1], [0]] if item.n == 1 else [[6, *[5] * (item.n - 1)], [1, *[9] * (item.n - 1)]]
        for item in items
    }


def grm(root: Path, items: list[Item]) -> list[Path]:
    folder = write_run(root, "grm", items)
    first = {item.id: [2.0, -1.0] for item in items}  # the meta RM knows which one is right
    greedy = said(items, RIGHT, TIED)
    return [judge(folder, items, "grpo", greedy, samples(items), meta=first)]


def other(root: Path, items: list[Item], right: set[str]) -> list[Path]:
    folder = write_run(root, "other", items)
    return [judge(folder, items, "grpo", said(items, right), samples(items))]


def results_of(root: Path, refs: list[Ref], **runs: list[Path]) -> Results:
    found = Results(members_of(root, **runs), scaling().scaling, 0)
    found.load(refs)
    return found


def test_means_and_paired_differences_by_hand(tmp_path: Path) -> None:
    items = bench()
    right = {f"{PAIRS}/0", f"{LISTS}/0", f"{SINGLE}/0"}
    banks = {"grm": grm(tmp_path, items), "other": other(tmp_path, items, right)}
    found = results_of(tmp_path, [GREEDY, OTHER], **banks)
    for name, value in ((PAIRS, 2.5 / 4), (LISTS, 2.25 / 4), (SINGLE, 3 / 4)):
        score = found.mean(GREEDY, [name])
        assert score is not None and score.value == pytest.approx(value) and score.items == 4
    overall = found.mean(GREEDY, [PAIRS, LISTS])
    assert overall is not None and overall.value == pytest.approx((2.5 + 2.25) / 8)
    gap = found.combination([(1.0, GREEDY), (-1.0, OTHER)])
    assert gap is not None and gap.on == (PAIRS, LISTS) and gap.items == 8
    assert gap.value == pytest.approx((1.5 + 1.25) / 8)
    assert gap.low <= gap.value <= gap.high
    same = found.combination([(1.0, GREEDY), (-1.0, GREEDY)])
    assert same is not None and (same.value, same.p) == (0, 1)
    assert same.low == -same.high < 0  # eight items prove no equality


def test_votes_and_the_meta_rm_by_hand(tmp_path: Path) -> None:
    items = bench()
    texts = (
        "grm grpo voting@1",
        "grm grpo voting@2",
        "grm grpo meta_voting@2",
        "grm grpo voting@8",
    )
    refs = [Ref.parse(text) for text in texts]
    found = results_of(tmp_path, refs, grm=grm(tmp_path, items))
    one, two, guided, many = (found.mean(ref, [PAIRS, LISTS]) for ref in refs)
    assert one is not None and one.value == pytest.approx(0.5)
    assert two is not None and two.value == 0  # 6 + 1 < 5 + 9
    assert guided is not None and guided.value == 1
    assert many is None and not found.has(refs[-1])  # the bank holds two


def test_numbers_are_those_of_the_curves(tmp_path: Path) -> None:
    """Value and interval: both come from the same draws."""
    items, refs = bench(6), [GREEDY, Ref.parse("grm grpo voting@1")]
    banks = grm(tmp_path, items)
    write_curves(tmp_path, "grm", banks)
    found = results_of(tmp_path, refs, grm=banks)
    rows = read_rows(tmp_path / "results/grm/curves.csv")
    for ref in refs:
        for name in (PAIRS, LISTS, SINGLE):
            (row,) = select(rows, method=ref.method, k=1, benchmark=name, policy="grpo", seed="0")
            score = found.mean(ref, [name])
            assert score is not None
            ours = (score.value, score.low, score.high)
            assert ours == pytest.approx((row["accuracy"], row["low"], row["high"]), abs=2e-6)


def test_what_a_judge_cannot_take_is_left_out_of_both_sides(tmp_path: Path) -> None:
    items = bench()
    pairs = [item for item in items if item.n == 2]
    banks = {"grm": grm(tmp_path, items), "other": other(tmp_path, pairs, {f"{PAIRS}/0"})}
    found = results_of(tmp_path, [GREEDY, OTHER], **banks)
    assert found.mean(OTHER, [PAIRS, LISTS]) is None
    gap = found.combination([(1.0, GREEDY), (-1.0, OTHER)])
    assert gap is not None and gap.on == (PAIRS,) and gap.value == pytest.approx(1.5 / 4)
    alone = replace(pairs[0], id=f"{PAIRS}/9")
    with pytest.raises(BankError, match=f"item {PAIRS}/9 is not in"):
        banks["other"] = other(tmp_path, [alone], set())
        results_of(tmp_path, [OTHER], **banks)
    with pytest.raises(BankError, match=f"item {PAIRS}/0 is another one"):
        banks["other"] = other(tmp_path, [replace(pairs[0], responses=("a", "b"))], set())
        results_of(tmp_path, [OTHER], **banks)


def test_a_list_judged_as_pairs_is_right_if_all_pairs_are(tmp_path: Path) -> None:
    items = bench()
    split = [pair for item in items for pair in recast.pairs(item)]
    # list 0: all three right; list 1: one tied; list 2: one wrong; list 3: two tied, one wrong
    right = {f"{LISTS}/0/{j}" for j in (1, 2, 3)} | {f"{LISTS}/1/{j}" for j in (1, 2)}
    right |= {f"{LISTS}/2/{j}" for j in (2, 3)}
    tied = frozenset({f"{LISTS}/1/3", f"{LISTS}/3/1", f"{LISTS}/3/2"})
    folder = write_run(tmp_path, "other", split)
    bank = judge(folder, split, "grpo", said(split, right, tied), samples(split))
    found = results_of(tmp_path, [GREEDY, OTHER], grm=grm(tmp_path, items), other=[bank])
    score = found.mean(OTHER, [LISTS])
    assert score is not None and score.value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert score.items == 4 and found.mean(OTHER, [PAIRS]) is None


# ---- claims ------------------------------------------------------------------------------------


def claim(expect: str = "above", margin: float = 0.0) -> ClaimSpec:
    return ClaimSpec("it helps", "Table 9", 1.0, (GREEDY,), (OTHER,), "", expect, margin, "")


@pytest.mark.parametrize(
    ("low", "high", "expect", "verdict", "because"),
    [
        (0.001, 0.02, "above", claims.REPRODUCED, "above zero"),
        (0.0, 0.02, "above", claims.NOT_REPRODUCED, "holds zero"),
        (-0.001, 0.02, "above", claims.NOT_REPRODUCED, "holds zero"),
        (-0.02, 0.0, "above", claims.NOT_REPRODUCED, "holds zero"),
        (-0.02, -0.001, "above", claims.NOT_REPRODUCED, "the opposite"),
        (math.nan, math.nan, "above", claims.NOT_REPRODUCED, "holds zero"),
        (-0.02, 0.02, "equal", claims.REPRODUCED, "within 2 points"),
        (0.01, 0.019, "equal", claims.REPRODUCED, "within 2 points"),
        (-0.021, 0.0, "equal", claims.NOT_REPRODUCED, "beyond 2 points"),
        (0.0, 0.021, "equal", claims.NOT_REPRODUCED, "beyond 2 points"),
        (math.nan, math.nan, "equal", claims.NOT_REPRODUCED, "beyond 2 points"),
    ],
)
def test_the_rule(low: float, high: float, expect: str, verdict: str, because: str) -> None:
    score = Score(0.5, low, high, 0.01, 9, (PAIRS,))
    found = claims.decide(claim(expect, 2.0 if expect == "equal" else 0.0), score)
    assert found[0] == verdict and because in found[1]


def test_claims_of_a_set(tmp_path: Path) -> None:
    items = bench(20)
    banks = {"grm": grm(tmp_path, items), "other": other(tmp_path, items, set())}
    specs = [
        claim(),
        replace(claim(), plus=(OTHER,), minus=(GREEDY,)),
        replace(claim(), over="single"),
        replace(claim(), minus=(Ref.parse("nobody grpo greedy"),)),
        replace(claim(), plus=(), minus=(), untestable="no such thing"),
    ]
    items_right = {f"{name}/{i}" for name in (PAIRS, LISTS, SINGLE) for i in range(20)}
    folder = tmp_path / "results/grm"
    greedy = said(items, items_right)
    banks["grm"] = [judge(folder, items, "grpo", greedy, samples(items))]
    found = results_of(tmp_path, [GREEDY, OTHER], **banks)
    above, below, single, lacking, never = claims.judge(specs, found)
    assert (above.verdict, below.verdict) == (claims.REPRODUCED, claims.NOT_REPRODUCED)
    assert "the opposite" in below.because
    assert single.score is not None and single.score.on == (SINGLE,)
    assert lacking.verdict == never.verdict == claims.NOT_TESTABLE
    assert (
        lacking.because == "the set lacks nobody grpo greedy" and never.because == "no such thing"
    )
    assert above.score is not None and above.p_holm == pytest.approx(3 * above.score.p)
    row = claims.row(above)
    assert row["number"] == "(grm grpo greedy) - (other grpo greedy)"
    assert row["difference"] == pytest.approx(1) and row["on"] == f"{PAIRS} {LISTS}"


def test_the_papers_differences_follow_from_its_numbers() -> None:
    """Mistyped figures would not add up."""
    known: dict[Ref, float] = {}
    for table in data.tables():
        here = {row.ref: row.paper for row in table.rows if row.paper is not None}
        for row in table.rows:
            if row.gain is not None and row.minus in here and row.paper is not None:
                assert row.gain == pytest.approx(row.paper - here[row.minus], abs=0.06), row
        if table.name in ("overall", "scaling", "ablations", "k_meta"):
            for ref, value in here.items():
                same = known.setdefault(ref, value)
                # CLoud alone has two numbers there: greedy and sampled
                assert same == value or ref.policy == "cloud"
    checked = 0
    for spec in data.claims():
        values = [(sign, known.get(ref)) for sign, ref in spec.terms]
        tabled = spec.source in ("Table 2", "Table 3", "Table 4")
        if spec.paper is not None and tabled and all(value is not None for _, value in values):
            total = sum(sign * (value or 0) for sign, value in values)
            assert spec.paper == pytest.approx(total, abs=0.35 if "CLoud" in spec.claim else 0.11)
            checked += 1
    assert checked > 15


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"untestable": "x", "plus": ["a b c"], "minus": ["a b c"]}, "either plus and minus"),
        ({"plus": ["a b c"]}, "either plus and minus"),
        ({"plus": ["a b c"], "minus": ["a b c"], "expect": "equal"}, "equal with a margin"),
        ({"plus": ["a b c"], "minus": ["a b c"], "margin": 1}, "equal with a margin"),
        ({"on": "single", "untestable": "x"}, "no such key 'on'"),
    ],
)
def test_a_claim_that_is_no_claim(entry: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data.claim({"claim": "c", "source": "s", **entry})


# ---- the stage ---------------------------------------------------------------------------------


def test_the_stage_writes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    items = bench()
    items[0] = replace(items[0], meta={"publishable": False})
    folder = write_run(tmp_path, "grm", items)
    greedy = said(items, RIGHT - {f"{PAIRS}/0"}, TIED)
    banks = [judge(folder, items, "grpo", greedy, samples(items))]
    write_curves(tmp_path, "grm", banks)
    path = write_set(tmp_path, grm=banks)
    out = tmp_path / "reports/mine"
    build.run(scaling(), 0, members=path, out=out)
    with (out / "tables.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert ",".join(rows[0]) == ",".join(tables.COLUMNS)
    (mine,) = select(rows, table="overall", number="grm grpo greedy", benchmark=PAIRS)
    assert float(mine["accuracy"]) == pytest.approx(1.5 / 4)
    page, wrong = (out / "index.html").read_text(), (out / "errors.html").read_text()
    assert "A set &lt;i&gt;" in page and page.count("<svg") == 3
    assert "not in this set: no run has the role no_principles" in page
    assert "<b>One training seed:</b>" in page and "69.9" in page
    assert "<b>toy_" not in wrong and "&lt;b&gt;toy_best_of_4/3&lt;/b&gt;" in wrong
    assert WITHHELD in wrong and "toy_pairs answer 0-" not in wrong
    for text in (page, wrong):
        assert 'src="http' not in text and "<link" not in text
    again = {name: (out / name).read_bytes() for name in ("index.html", "errors.html", "sizes.svg")}
    build.run(scaling(), 0, members=path, out=out)
    assert again == {name: (out / name).read_bytes() for name in again}

    shutil.copytree(folder, tmp_path / "results/sizes")
    columns = [
        "run",
        "policy",
        "benchmark",
        "small",
        "large",
        "axis",
        "k",
        "k_low",
        "k_high",
        "note",
    ]
    cross = {"policy": "grpo", "small": "toy_tiny", "axis": "samples", "k": 4, "k_low": 2}
    artifact.write_csv(tmp_path / "results/sizes/crossover.csv", columns, [cross])
    path = write_set(tmp_path, grm=banks, sizes=banks)
    build.run(scaling(), 0, members=path, out=out)
    assert "toy_tiny" in (out / "index.html").read_text()
    assert "2 … more" in (out / "index.html").read_text()

    path = write_set(tmp_path, grm=banks)
    (folder / "config").mkdir()
    (folder / "config/run.yaml").write_text("experiment: grm\n")
    copied = publish("mine", tmp_path / "docs")
    assert copied.name.endswith("-mine")
    for name in ("index.html", "claims.csv", "config/set.yaml", "runs/grm/curves.csv", "ABOUT.md"):
        assert (copied / name).is_file(), name
    assert "Seeds: 0" in (copied / "ABOUT.md").read_text()
    (out / "claims.csv").unlink()
    with pytest.raises(ConfigError, match="mine/claims.csv is missing"):
        publish("mine", tmp_path / "docs")


def test_errors_are_drawn_at_random_from_all_that_are_wrong(tmp_path: Path) -> None:
    items = bench(30)
    folder = write_run(tmp_path, "grm", items)
    right = {f"{PAIRS}/{i}" for i in range(10)}
    bank = judge(folder, items, "grpo", said(items, right), samples(items))
    path = folder / "seed0/data/bench.parquet"
    found = draw(path, [bank], [PAIRS, LISTS], 0)
    count, shown = found[PAIRS]
    assert count == 20 and len(shown) == 10 and found[LISTS][0] == 30
    ids = [wrong.item.id for wrong in shown]
    assert not set(ids) & right and len(set(ids)) == 10
    assert ids == [wrong.item.id for wrong in draw(path, [bank], [PAIRS], 0)[PAIRS][1]]
    assert ids != [wrong.item.id for wrong in draw(path, [bank], [PAIRS], 1)[PAIRS][1]]
    place, text, best, score = shown[0].responses[0]
    assert (place, best, score) == (1, True, 3) and text.startswith("toy_pairs answer")


# ---- benchmarks in another form ----------------------------------------------------------------


def test_lists_as_pairs_keep_order_and_label(make_items) -> None:  # type: ignore[no-untyped-def]
    (item,) = make_items("best_of_4", 1)
    pairs = list(recast.pairs(item))
    best = item.label.value
    assert len(pairs) == 3 and len({pair.id for pair in pairs}) == 3
    for pair in pairs:
        assert pair.responses[pair.label.value] == item.responses[best]
        places = [item.responses.index(text) for text in pair.responses]
        assert places == sorted(places)
        assert pair.meta[recast.GROUP] == item.id
        assert pair.meta["quality"] == [item.meta["quality"][i] for i in places]
    assert not list(recast.pairs(make_items("pair", 1)[0]))


def test_a_reference_is_perfect_on_what_the_query_asks(make_items) -> None:  # type: ignore[no-untyped-def]
    from spct.data.toy import levels_of

    for item in make_items("pair", 5):
        (made,) = recast.reference(item, 0)
        assert made.reference is not None
        assert levels_of(made.reference) == dict.fromkeys(item.meta["weights"], 5)
        assert made.responses == item.responses and made.id == item.id
        assert list(recast.reference(item, 0)) == [made]
    assert not list(recast.reference(make_items("single", 1)[0], 0))


def test_the_stage_recast(tmp_path: Path) -> None:
    from spct.config import Slice, load
    from spct.errors import StageStopped
    from spct.records import write_items

    items = tmp_path / "bench.parquet"
    write_items(items, bench(), seed=0)
    out = tmp_path / "out.parquet"
    pairs = Slice.of(load(["experiment=tiny_pair_input"]), "recast")
    recast.run(pairs, 0, items=items, out=out)
    assert len(read_items(out)) == 12
    with pytest.raises(StageStopped, match="no item"):
        recast.run(Slice.of(load(["experiment=tiny_reference"]), "recast"), 0, items=items, out=out)
    with pytest.raises(ConfigError, match="recast.form: ''"):
        recast.run(Slice.of(load(["experiment=tiny"]), "recast"), 0, items=items, out=out)
