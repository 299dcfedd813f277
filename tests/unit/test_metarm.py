from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from judged_rows import rows_of
from torch.nn.functional import softplus

from spct import artifact, config, lm
from spct.config import Slice
from spct.errors import StageStopped
from spct.judge.neutralise import special_tokens
from spct.judge.task import Judge
from spct.metarm import model as metarm
from spct.metarm import score
from spct.metarm import train as fitting
from spct.metarm.auc import auc, within_items
from spct.metarm.data import Encoder, Labelled, labelled, margin, margin_weights, split
from spct.records import Item, read_bank, write_bank, write_items
from spct.tracking import read_metrics
from spct.training import choice, plain, shared
from spct.training.batching import Example, collate
from spct.training.groups import Group
from spct.training.plain import Forward
from spct.training.steps import dealt
from spct.training.world import World

signals = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30)


# ---- AUC ---------------------------------------------------------------------------------------


def brute(signal: list[float], right: list[bool]) -> float:
    wins = [
        (a > b) + (a == b) / 2
        for a, good in zip(signal, right, strict=True) if good
        for b, bad in zip(signal, right, strict=True) if not bad
    ]  # fmt: skip
    return sum(wins) / len(wins) if wins else math.nan


@given(signals)
def test_auc_is_the_share_of_pairs_won(pairs: list[tuple[int, bool]]) -> None:
    signal, right = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert auc(signal, right) == pytest.approx(brute(signal, right), nan_ok=True)


def test_auc_values() -> None:
    assert auc([1, 2, 3], [False, False, True]) == 1.0
    assert auc([3, 2, 1], [False, False, True]) == 0.0
    assert auc([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert math.isnan(auc([1, 2], [True, True])) and math.isnan(auc([], []))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from("abc")), max_size=30))
def test_within_items_averages_the_items_of_both_classes(rows: list) -> None:
    values = []
    for name in "abc":
        value = brute([r[0] for r in rows if r[2] == name], [r[1] for r in rows if r[2] == name])
        values += [] if math.isnan(value) else [value]
    found = within_items(*([r[i] for r in rows] for i in range(3)))
    assert found == pytest.approx(np.mean(values) if values else math.nan, nan_ok=True)


def test_a_signal_of_items_alone_is_no_use_within_them() -> None:
    signal, right, ids = [5, 5, 5, 1, 1, 1], [True, True, False, True, False, False], list("aaabbb")
    assert auc(signal, right) > 0.6
    assert within_items(signal, right, ids) == 0.5


# ---- data --------------------------------------------------------------------------------------


@pytest.fixture
def inputs(judge: Judge, make_items: Callable[..., list[Item]], tmp_path: Path) -> dict[str, Path]:
    pool = make_items("pair", 24) + make_items("single", 8)
    paths = {name: tmp_path / f"{name}.parquet" for name in ("items", "one", "two")}
    write_items(paths["items"], pool)
    rows = rows_of(judge, pool)
    facts = {"policy": "base", "size": "toy_s", "params": 5, "stage": "judge", "seed": 3}
    write_bank(paths["one"], rows[::2], **facts)
    write_bank(paths["two"], rows[1::2], **facts)
    return paths


def test_which_rows_are_learnt_from(talker: lm.LM, judge: Judge, inputs: dict[str, Path]) -> None:
    banks = [inputs["one"], inputs["two"]]
    data, skipped = labelled(talker, judge, inputs["items"], banks)
    assert skipped == {"greedy": 32, "hinted": 32, "malformed": 32}
    used = [r for r in read_bank(banks) if r.kind == "sample" and r.outcome == "ok"]
    assert [row.correct for row in data] == [row.correct for row in used]
    assert Counter(row.item_id for row in data) == Counter(row.item_id for row in used)
    for row, source in zip(data, used, strict=True):
        assert ("vivid" in talker.tokenizer.decode(row.example.completion)) == row.correct
        assert row.margin == margin(source.scores or [])
    rating = replace(judge, config=replace(judge.config, single="rating"))
    assert len(labelled(talker, rating, inputs["items"], banks)[0]) == len(data)


def test_a_row_without_truth_is_counted(
    talker: lm.LM, judge: Judge, inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = [replace(r, correct=None) for r in read_bank(inputs["one"]) if r.outcome == "ok"]
    write_bank(tmp_path / "blank.parquet", rows)
    data, skipped = labelled(talker, judge, inputs["items"], [tmp_path / "blank.parquet"])
    assert not data and skipped["no_truth"] == sum(r.kind == "sample" for r in rows)


def test_margin() -> None:
    assert margin([3, 9, 4]) == 5.0 and margin([7, 7]) == 0.0 and margin([1]) == 0.0


@given(st.floats(0, 1), st.integers(0, 9))
def test_an_item_is_wholly_on_one_side(share: float, seed: int) -> None:
    data = [Labelled(f"i{i % 11}", 2, Example((1,), (2,)), True, 0.0) for i in range(40)]
    train, dev = split(data, share, seed)
    train_ids, dev_ids = {row.item_id for row in train}, {row.item_id for row in dev}
    assert not train_ids & dev_ids
    assert len(train) + len(dev) == 40 and len(dev_ids) == round(share * 11)


def test_the_split_is_seeded() -> None:
    data = [Labelled(f"i{i}", 2, Example((1,), (2,)), True, 0.0) for i in range(40)]
    assert split(data, 0.3, 1) == split(data, 0.3, 1) != split(data, 0.3, 2)
    assert split(data[::-1], 0.3, 1)[1] == split(data, 0.3, 1)[1][::-1]


strata = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.integers(0, 2), st.booleans()), min_size=1, max_size=40
)


@given(strata)
def test_weights_take_the_margin_out_of_the_label(rows: list[tuple[int, int, bool]]) -> None:
    data = [Labelled("i", n, Example((1,), (2,)), right, float(m)) for n, m, right in rows]
    weights = margin_weights(data)
    sides: dict[tuple, list[float]] = {}
    for row, weight in zip(data, weights, strict=True):
        sides.setdefault((row.n, row.margin, row.correct), []).append(weight)
    for (n, m, right), values in sides.items():
        other = sides.get((n, m, not right), [])
        assert min(values) == max(values)
        assert sum(values) == pytest.approx(sum(other))
        assert all(values) == bool(other)
    if any(weights):
        assert np.mean(weights) == pytest.approx(1.0)


# ---- model -------------------------------------------------------------------------------------


def logits(judge_model: metarm.MetaRM, examples: list[Example], tokens: int = 10**6) -> list[float]:
    return metarm.score("test", judge_model.model, examples, tokens)


def test_a_new_head_is_zero_and_an_old_one_stays(
    slice_of: Callable[..., Slice], talker_folder: Path, tmp_path: Path
) -> None:
    config = slice_of("metarm").model
    examples = [Example((5, 6), (7, 8, 9, 1)), Example((5,), (9,))]
    for init in ("", talker_folder):  # a language model has no head to keep
        judge_model = metarm.load(config, init)
        assert logits(judge_model, examples) == [0.0, 0.0]
    torch.nn.init.normal_(judge_model.model.score.weight)
    expected = logits(judge_model, examples)
    assert all(expected)
    judge_model.model.save_pretrained(tmp_path / "m")
    judge_model.text.tokenizer.save_pretrained(tmp_path / "m")
    again = metarm.load(config, tmp_path / "m")
    assert logits(again, examples) == pytest.approx(expected, abs=1e-5)
    assert again.params == judge_model.text.params


UNEVEN = [
    Example((5, 6, 7), (8,)),
    Example((5, 6, 7), (9, 10, 11, 12, 1)),
    Example((20,), (21,)),
    Example((5, 6, 7), (13, 1)),
    Example(tuple(range(30, 50)), tuple(range(60, 71))),
    Example(tuple(range(30, 50)), (3,)),
]


@pytest.fixture
def headed(slice_of: Callable[..., Slice]) -> metarm.MetaRM:
    """A meta RM at random weights, head included."""
    judge_model = metarm.load(slice_of("metarm").model)
    torch.manual_seed(0)
    torch.nn.init.normal_(judge_model.model.score.weight)
    return judge_model


@pytest.mark.parametrize("tokens", [1, 40, 10**6])
@pytest.mark.parametrize("sharing", [True, False])
def test_shared_scores_are_those_of_a_pass_each(
    headed: metarm.MetaRM, monkeypatch: pytest.MonkeyPatch, sharing: bool, tokens: int
) -> None:
    passes = watched(monkeypatch, sharing)
    found = logits(headed, UNEVEN, tokens)
    assert (shared.__name__ in passes) == (sharing and tokens > 1)
    for example, value in zip(UNEVEN, found, strict=True):
        with torch.no_grad():
            alone = headed.model(torch.tensor([example.prompt + example.completion])).logits
        assert value == pytest.approx(float(alone), abs=1e-5)
    assert len(set(found)) == len(UNEVEN)


def watched(monkeypatch: pytest.MonkeyPatch, sharing: bool) -> list[str]:
    """Share prompts whatever the size, or never; the list fills with the passes used."""
    passes: list[str] = []

    def choose(model: torch.nn.Module, groups: list[Group]) -> Forward:
        gains = sharing and sum(len(group.completions) for group in groups) > len(groups)
        path = shared if gains and choice.serves(model) else plain
        passes.append(path.__name__)
        return path.completion_states

    monkeypatch.setattr(metarm, "choose", choose)
    return passes


@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("dense", [0.0, 0.7])
def test_the_loss_is_the_mean_over_the_steps_judgements_and_tokens(
    headed: metarm.MetaRM, monkeypatch: pytest.MonkeyPatch, sharing: bool, dense: float
) -> None:
    """Against loops over examples, tokens and a logit written out; shares add up over passes."""
    watched(monkeypatch, sharing)
    data = [Labelled("i", 2, e, i % 3 == 0, 1.0) for i, e in enumerate(UNEVEN)]
    weights, chosen = [0.5, 1.0, 2.0, 1.5, 0.0, 3.0], [0, 1, 3, 4, 5]
    by_token: dict[int, list[torch.Tensor]] = {}
    for i in chosen:
        ids = torch.tensor([UNEVEN[i].prompt + UNEVEN[i].completion])
        states = headed.model.get_decoder()(ids).last_hidden_state[0]
        every = (states @ headed.model.score.weight[0])[len(UNEVEN[i].prompt) :]
        right = data[i].correct
        by_token[i] = [weights[i] * softplus(-x if right else x) for x in every]
    expected = sum(values[-1] for values in by_token.values()) / len(chosen)
    tokens = [value for values in by_token.values() for value in values]
    expected = expected + dense * sum(tokens) / len(tokens)
    loss_of = fitting._loss(data, weights, dense)
    own = dealt(UNEVEN, chosen, 40, World(), shared=sharing)
    shares = [loss_of(headed.model, one, chosen) for one in own]
    assert len(own) > 1
    loss = torch.stack([share["loss"] for share in shares]).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    parameters = list(headed.model.parameters())
    for one, two in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    hits = [(score > 0) == data[i].correct for i, score in zip(
        chosen, logits(headed, [UNEVEN[i] for i in chosen]), strict=True
    )]  # fmt: skip
    assert sum(float(share["accuracy"]) for share in shares) == pytest.approx(np.mean(hits))


# ---- the stages --------------------------------------------------------------------------------

FIT = [
    "metarm.epochs=16", "metarm.batch_tokens=600", "metarm.dev_share=0.25",
    "metarm.optim.name=muon", "metarm.optim.muon_lr=0.02", "metarm.optim.lr=3e-3",
    "metarm.optim.warmup_steps=2", "metarm.checkpoint_every=50",
]  # fmt: skip


@pytest.mark.parametrize("dense", [0.0, 1.0])
def test_a_separable_signal_is_found(
    slice_of: Callable[..., Slice], inputs: dict[str, Path], tmp_path: Path, dense: float
) -> None:
    out = tmp_path / "metarm"
    banks = [inputs["one"], inputs["two"]]
    cfg = slice_of("metarm", *FIT, f"metarm.dense_weight={dense}")
    fitting.run(cfg, 3, items=inputs["items"], banks=banks, out=out)
    report = json.loads((out / "eval.json").read_text())
    assert report["auc"] > 0.9 and report["auc_within_items"] > 0.9
    assert 0.3 < report["margin_auc"] < 0.7 and 0.3 < report["share_correct"] < 0.7
    assert report["train"] + report["judgements"] == 160
    assert report["skipped"] == {"greedy": 32, "hinted": 32, "malformed": 32}
    assert artifact.check_dir(out)["stage"] == "metarm"
    steps = read_metrics(out / "metrics.jsonl")
    assert len(steps) > 10
    read = sum(len(row.example) for row in labelled_of(slice_of, inputs)) * 16
    assert sum(step["update_tokens"] for step in steps) == pytest.approx(0.75 * read, rel=0.05)
    told = json.loads((out / "calibration.json").read_text())
    assert told["scale"] > 0 and told["judgements"] == report["judgements"]
    assert 0 <= told["ece"] < 0.1 and 0 <= told["ece_raw"] < 0.1  # of 40 judgements


def labelled_of(slice_of: Callable[..., Slice], inputs: dict[str, Path]) -> list[Labelled]:
    """Every example of both banks, as the stage encodes them."""
    cfg = slice_of("metarm")
    text = metarm.load(cfg.model).text
    judge = Judge.build(cfg.judge, special_tokens(text.tokenizer))
    return labelled(text, judge, inputs["items"], [inputs["one"], inputs["two"]])[0]


@pytest.mark.parametrize("size", ["toy_s", "toy_l"])
def test_it_starts_from_any_base(inputs: dict[str, Path], tmp_path: Path, size: str) -> None:
    """Steps of next to nothing from a base leave a classifier of that base's own body."""
    out = tmp_path / "metarm"
    few = ["metarm.epochs=0.2", "metarm.batch_tokens=600", "metarm.optim.lr=1e-9"]
    cfg = Slice.of(config.load([f"model={size}", *few]), "metarm")
    fitting.run(cfg, 3, items=inputs["items"], banks=[inputs["one"]], out=out)
    assert artifact.read_manifest(out)["size"] == size
    state = metarm.load(cfg.model, out).model.state_dict()
    base = lm.load(cfg.model).model.state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(state[name], base[name], rtol=1e-5, atol=1e-6)


def test_nothing_held_out_leaves_no_calibration(
    slice_of: Callable[..., Slice], inputs: dict[str, Path], tmp_path: Path
) -> None:
    out, scored = tmp_path / "metarm", tmp_path / "scored.parquet"
    few = ["metarm.epochs=0.2", "metarm.batch_tokens=600", "metarm.dev_share=0"]
    cfg = slice_of("metarm", *few)
    fitting.run(cfg, 3, items=inputs["items"], banks=[inputs["one"]], out=out)
    assert not (out / "calibration.json").exists()
    score.run(
        slice_of("score"), 3, items=inputs["items"], bank=inputs["two"], metarm=out, out=scored
    )
    assert artifact.read_manifest(scored)["metarm_calibration"] is None


@pytest.fixture
def fitted(
    headed: metarm.MetaRM, slice_of: Callable[..., Slice], inputs: dict[str, Path], tmp_path: Path
) -> Path:
    """A fit of a few steps, from a head that already tells judgements apart."""
    init, out = tmp_path / "headed", tmp_path / "metarm"
    headed.model.save_pretrained(init)
    headed.text.tokenizer.save_pretrained(init)
    cfg = slice_of("metarm", *FIT, "metarm.epochs=1", "metarm.optim.name=adamw")
    fitting.run(cfg, 3, items=inputs["items"], banks=[inputs["one"]], out=out, init=str(init))
    return out


def test_the_folder_is_a_stock_classifier(
    fitted: Path, slice_of: Callable[..., Slice], judge: Judge, inputs: dict[str, Path]
) -> None:
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(fitted).eval()
    assert stock.config.num_labels == 1
    ours = metarm.load(slice_of("metarm").model, fitted)
    data, _ = labelled(ours.text, judge, inputs["items"], [inputs["two"]])
    examples = [row.example for row in data[:9]]
    with torch.no_grad():
        # finds the last token before the padding
        expected = stock(collate(examples, ours.text.pad).ids).logits.squeeze(1)
    assert logits(ours, examples) == pytest.approx(expected.tolist(), abs=1e-5)
    assert expected.std() > 0.1


def test_one_class_stops_with_the_counts(
    slice_of: Callable[..., Slice], inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = [r for r in read_bank(inputs["one"]) if r.correct or r.outcome != "ok"]
    write_bank(tmp_path / "right.parquet", rows)
    with pytest.raises(StageStopped, match=r"(\d+) judgements to learn from, \1 of them right"):
        fitting.run(
            slice_of("metarm"), 3, items=inputs["items"], banks=[tmp_path / "right.parquet"],
            out=tmp_path / "out",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_scoring_fills_readable_rows_and_nothing_else(
    fitted: Path, slice_of: Callable[..., Slice], judge: Judge, inputs: dict[str, Path],
    make_items: Callable[..., list[Item]], tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "scored.parquet"
    cfg = slice_of("score", "metarm.micro_tokens=300")
    artifact.write_timing(inputs["one"], seconds=2.5, samples=40, completion_tokens=9)
    score.run(cfg, 3, items=inputs["items"], bank=inputs["one"], metarm=fitted, out=out)
    before, after = list(read_bank(inputs["one"])), list(read_bank(out))
    ours = metarm.load(cfg.model, fitted)
    encode = Encoder(ours.text, judge, make_items("pair", 24) + make_items("single", 8))
    for old, new in zip(before, after, strict=True):
        assert (new.meta_score is not None) == (old.scores is not None)
        assert asdict(replace(new, meta_score=None)) == asdict(old)
        if new.meta_score is not None:
            example = encode(old)
            assert new.meta_score == pytest.approx(*logits(ours, [example]), abs=1e-5)
    assert len({row.meta_score for row in after}) > 10
    manifest = artifact.read_manifest(out)
    assert {k: manifest[k] for k in ("stage", "policy", "size", "params", "seed")} == {
        "stage": "score", "policy": "base", "size": "toy_s", "params": 5, "seed": 3,
    }  # fmt: skip
    assert manifest["metarm"] == artifact.content_hash(fitted)[:16]
    assert manifest["metarm_params"] == ours.params
    told = json.loads((fitted / "calibration.json").read_text())
    assert manifest["metarm_calibration"] == {name: told[name] for name in ("scale", "bias")}
    timing = json.loads((tmp_path / "scored.parquet.timing.json").read_text())
    assert timing["scored"] == sum(row.scores is not None for row in before)
    assert (timing["judge_seconds"], timing["judge_samples"]) == (2.5, 40)
    assert manifest["content_hash"] != artifact.content_hash(inputs["one"])


@pytest.mark.parametrize("told", [True, False])
def test_prompts_are_those_of_the_bank_not_of_the_stage(
    fitted: Path, slice_of: Callable[..., Slice], judge: Judge, inputs: dict[str, Path],
    make_items: Callable[..., list[Item]], tmp_path: Path, told: bool,
) -> None:  # fmt: skip
    """Rated in evaluation, principles of the row; a bank that tells nothing: the stage's own."""
    config = replace(judge.config, single="rating", principles="query_only")
    rows = [
        replace(row, principles="safe 3" if row.sample % 4 else None)
        for row in read_bank(inputs["one"])
    ]
    facts = (
        {"slice": {"judge": asdict(config)}, "template_text": judge.template.text} if told else {}
    )
    bank, out = tmp_path / "bank.parquet", tmp_path / "scored.parquet"
    write_bank(bank, rows, **facts)
    cfg = slice_of("score", "metarm.micro_tokens=300")
    score.run(cfg, 3, items=inputs["items"], bank=bank, metarm=fitted, out=out)
    ours = metarm.load(cfg.model, fitted)
    items = make_items("pair", 24) + make_items("single", 8)
    encode = Encoder(ours.text, replace(judge, config=config) if told else judge, items)
    for row in read_bank(out):
        if row.scores is not None:
            example = encode(row)
            prompt = ours.text.tokenizer.decode(example.prompt)
            form = "given" if row.principles else "none" if told else "self"
            kind = "scores" if told or len(row.scores) > 1 else "verdict"
            assert prompt.startswith(f"<judge> {form} {kind} Query:")
            assert row.meta_score == pytest.approx(*logits(ours, [example]), abs=1e-5)


def test_scored_banks_name_the_code_that_scored(
    fitted: Path, slice_of: Callable[..., Slice], inputs: dict[str, Path], tmp_path: Path
) -> None:
    old = tmp_path / "old.parquet"
    write_bank(old, list(read_bank(inputs["one"])), code="older code", policy="base")
    out = tmp_path / "scored.parquet"
    score.run(slice_of("score"), 3, items=inputs["items"], bank=old, metarm=fitted, out=out)
    assert artifact.read_manifest(out)["code"] == artifact.code_fingerprint()


def test_hinted_rows_are_scored_without_their_hint(
    talker: lm.LM, judge: Judge, inputs: dict[str, Path], make_items: Callable[..., list[Item]]
) -> None:
    item = make_items("pair", 1)[0]
    row = next(r for r in read_bank(inputs["two"]) if r.item_id == item.id and r.kind == "hinted")
    text = talker.tokenizer.decode(Encoder(talker, judge, [item])(row).prompt)
    assert "Hint" not in text and text.endswith("Answer:")
