"""What the report tells of the stages before the curves: data, yield, judgements, environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from bank_world import CONFIG, make_items, manifest_of

from spct import artifact, provenance
from spct.judge import prompts
from spct.judge.task import Judge, tasks
from spct.records import Item, Sample, write_bank, write_items
from spct.report.data import data_block
from spct.report.environment import environment_block
from spct.report.examples import PLACES, example_block
from spct.report.ledgers import read_ledger, rft_yield
from spct.report.page import policy, render
from spct.report.training import trainings
from spct.tracking import MetricsLog

# ---- the yield of RFT --------------------------------------------------------------------------


def ledger(root: Path, size: str, by_n: dict[str, Any] | None = None, **rejected: int) -> Path:
    path = root / f"results/t/seed0/select/{size}/ledger.json"
    detail = {"by_n": by_n} if by_n else None
    total = 6 + sum(rejected.values())
    artifact.write_ledger(path, total=total, kept=6, rejected=rejected, detail=detail)
    return path


def test_yield_by_size_and_number_of_responses(tmp_path: Path) -> None:
    by_n = {"1": {"kept": 2, "wrong": 1}, "2": {"kept": 4, "too_easy": 3}}
    paths = [ledger(tmp_path, "s", wrong=1), ledger(tmp_path, "m", by_n, wrong=1, too_easy=3)]
    found = rft_yield([read_ledger(path) for path in paths])
    assert found["reasons"] == ["too_easy", "wrong"]
    small, main = found["lines"]
    assert (small["in"], small["kept"], small["counts"]) == (7, 6, [0, 1])
    assert main["share"] == pytest.approx(0.6)
    one, two = found["by_n"]
    assert (one["n"], one["in"], one["counts"]) == ("1", 3, [0, 1])
    assert (two["n"], two["share"], two["counts"]) == ("2", pytest.approx(4 / 7), [3, 0])
    assert str(found["figure"]).startswith("<svg")


def test_nothing_selected_is_no_figure() -> None:
    assert rft_yield([]) == {"reasons": [], "lines": [], "by_n": [], "figure": None}


def test_a_nested_evaluation_is_flat(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "results/t/seed2/metarm/m/metrics.jsonl")
    log.write(0, {"loss": 1.0})
    artifact.write_json(log.path.with_name("eval.json"), {"auc": 0.7, "skipped": {"hinted": 5}})
    (entry,) = trainings([log.path])["metarm"]
    assert entry["evaluations"] == [{"seed": "2", "values": {"auc": 0.7, "skipped hinted": 5}}]


# ---- the data ----------------------------------------------------------------------------------


def card(seed: int) -> dict[str, Any]:
    part = {
        **{"items": 3000, "by_dataset": {"<set>": 3000}, "by_responses": {"2": 3000}},
        **{"by_label": {"best": 3000}, "prompt_characters": {"median": 40, "p95": 90, "max": 99}},
        **{"response_characters": {}},
    }
    source = {
        **{"role": "train", "name": "gsm8k", "page": "javascript:alert(1)", "license": "mit"},
        **{"publishable": False, "revision": "0123456789abcdef", "in": 9, "kept": 4},
        **{"dropped": {"short": 1, "twice": 4}},
    }
    general = {"items": 5, "prompt_characters": {}, "response_characters": {}}
    parts = {"train": part, "bench": part, "general": general}
    return {"world": "real", "seed": seed, "sources": [source], **parts}


def test_data_are_told_from_their_cards(tmp_path: Path) -> None:
    paths = [tmp_path / f"results/t/seed{seed}/data/ledger.json" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        artifact.write_json(path.with_name("card.json"), card(seed))
    found = data_block(paths)
    assert (found["world"], found["seeds"], len(found["lines"])) == ("real", 2, 6)
    line = found["lines"][0]
    assert (line["role"], line["items"], line["sets"]) == ("training", 3000, "<set> 3,000")
    (source,) = found["sources"]
    assert source["dropped"] == "twice 4, short 1"
    assert source["page"] == "" and source["revision"] == "0123456789ab"


def test_data_of_older_code_have_no_card(tmp_path: Path) -> None:
    assert data_block([tmp_path / "results/t/seed0/data/ledger.json"])["lines"] == []


# ---- judgements to read --------------------------------------------------------------------------


def judged(items: list[Item]) -> list[Sample]:
    """Two samples of each item: of three neighbours one is right, one wrong, one unreadable."""
    judge = Judge(CONFIG, prompts.load(CONFIG.template), ("</s>",))
    made: dict[str, Any] = {"model": "m", "prompt_tokens": 9, "finish": "stop"}
    made |= {"completion_tokens": 7, "logprob": -1.0}
    rows = []
    for number, item in enumerate(items):
        for task in tasks(judge, item, "sample", 2, seed=0, temperature=1.0):
            rank = {True: 1, False: 0}[item.label.value[0]] if item.n == 1 else 0
            best = [rank] if item.n == 1 else [2 + 5 * (i == item.label.value) for i in task.order]
            worst = [1 - x if item.n == 1 else 9 - x for x in best]
            scores = worst if number % 3 == 1 else best
            text = f"Principles: <b>of {item.id}</b> Critique: x Scores: \\boxed{{{scores[0]}"
            text += "".join(f", {score}" for score in scores[1:]) + "}" * (number % 3 != 2)
            rows.append(task.row(judge, text=text, **made))
    return rows


def bank(root: Path, items: list[Item], name: str = "grpo-toy_m", **more: Any) -> list[list[Path]]:
    """Banks and items of one judge, as :func:`example_block` takes them."""
    source = root / "data/bench.parquet"
    write_items(source, items, stage="prepare", seed=more.get("seed", 0))
    rows = judged(items)
    told = manifest_of(artifact.content_hash(source), 0, **more)
    half = len(rows) // 2
    paths = [root / f"judge/{name}/{part}.parquet" for part in range(2)]
    for path, part in zip(paths, (rows[:half], rows[half:]), strict=True):
        write_bank(path, part, **told)
    return [paths, [source]]


def test_judgements_right_wrong_and_unreadable(tmp_path: Path) -> None:
    items = make_items(6)
    found = example_block(*bank(tmp_path, items, policy="grpo"), "toy_m")
    (policy_,) = found["policies"]
    assert policy_["name"] == "GRPO toy_m" and found["withheld"] == 0
    verdicts = [one["verdict"] for one in policy_["examples"]]
    assert verdicts == [name for name, n in PLACES.items() for _ in range(n)]
    by_id = {item.id: item for item in items}
    for one in policy_["examples"]:
        item = by_id[one["item"]]
        assert one["principles"] == f"Principles: <b>of {item.id}</b>"
        assert one["critique"].startswith("Critique: x Scores:")
        assert sorted(r["text"] for r in one["responses"]) == sorted(item.responses)
        (best,) = [r["text"] for r in one["responses"] if r["best"]] or [item.responses[0]]
        assert item.n == 1 or best == item.responses[item.label.value]
    right = [one for one in policy_["examples"] if one["verdict"] == "right"]
    assert all(
        max(one["responses"], key=lambda r: r["score"])["best"] or one["single"] for one in right
    )
    assert example_block(*bank(tmp_path, items, policy="grpo"), "toy_m") == found


def test_policies_show_the_same_items_in_the_order_shown(tmp_path: Path) -> None:
    items = make_items(4)
    base, source = bank(tmp_path, items, "base-toy_m")
    grpo, _ = bank(tmp_path, items, "grpo-toy_m", policy="grpo")
    other, _ = bank(tmp_path, items, "grpo-toy_l", policy="grpo", size="toy_l")
    first, second = example_block([*base, *grpo, *other], source, "toy_m")["policies"]
    assert [one["item"] for one in first["examples"]] == [one["item"] for one in second["examples"]]
    row = judged(items)[0]
    shown = [one for one in first["examples"] if one["item"] == row.item_id]
    for one in shown:
        assert [r["text"] for r in one["responses"]] == [items[0].responses[i] for i in row.order]


def test_texts_that_may_not_be_published_are_left_out(tmp_path: Path) -> None:
    items = [replace(item, meta={"publishable": False}) for item in make_items(4)]
    found = example_block(*bank(tmp_path, items), "toy_m")
    assert found["withheld"] == len(items)
    assert all(policy_["examples"] == [] for policy_ in found["policies"])
    some = [*items[1:], make_items(1)[0]]
    mixed = example_block(*bank(tmp_path / "mixed", some), "toy_m")
    assert {one["item"] for p in mixed["policies"] for one in p["examples"]} == {items[0].id}
    assert mixed["withheld"] == len(items) - 1


def test_no_banks_no_judgements() -> None:
    assert example_block([], [], "toy_m")["policies"] == []


# ---- the environment -----------------------------------------------------------------------------


def test_environment_from_manifests_and_sidecars(tmp_path: Path) -> None:
    folder = tmp_path / "results/t"
    work = [
        {"stage": "rft", "folder": "rft/m", "home": "base", "slice": "m/rft"},
        {"stage": "judge", "folder": "judge/rft-m", "home": "t", "slice": "m/judge"},
        {"stage": "grpo", "folder": "grpo/m", "home": "t", "slice": "m/grpo"},
    ]
    run = {"experiment": "t", "base": "", "overrides": [], "seeds": [0], "work": work}
    (folder / "config").mkdir(parents=True)
    (folder / "config/run.yaml").write_text(yaml.safe_dump(run, sort_keys=True))
    model = tmp_path / "results/base/seed0/rft/m"
    with artifact.atomic_dir(model, stage="rft") as aside:
        (aside / "weights").write_text("1")
    bank(tmp_path / "results/t/seed0", make_items(1), "rft-m", engine="native")
    made = {
        **{"code": {"version": "0", "commit": None, "fingerprint": "ff"}, "tier": "gpu"},
        **{"packages": {"torch": "9.9"}, "hardware": {"processor": "Z80", "gpus": ["H"]}},
        **{"started": "then", "outputs": {"out": str(model)}, "seconds": 3.5},
    }
    artifact.write_json(provenance.beside(model), made)
    found = environment_block(folder)
    rft, judge = found["work"]
    assert (rft["home"], rft["tier"], rft["seconds"]) == ("base", "gpu", 3.5)
    assert rft["content"] == artifact.content_hash(model)
    assert (judge["slot"], judge["engine"], judge["parts"]) == ("rft-m", "native", 2)
    assert judge["seconds"] is None and judge["code"] == artifact.code_fingerprint()
    (told,) = found["made"]
    assert told["stages"] == ["rft"] and told["hardware"]["gpus"] == ["H"]
    assert environment_block(tmp_path) == {"work": [], "made": []}


# ---- the page ------------------------------------------------------------------------------------


def test_the_policy_names_the_script_alone() -> None:
    assert policy("") != policy(" ")
    assert policy("").startswith("default-src 'none'; ")
    # SHA-256 of nothing, as in FIPS 180-4's test vectors.
    assert "script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in policy("")
    assert "'unsafe-inline'" not in policy("").split("script-src")[1]


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with pytest.raises(Exception, match="is undefined"):
        render("report.html.jinja", title="t")
