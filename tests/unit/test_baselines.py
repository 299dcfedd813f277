"""The other reward models: their losses by hand, their scores, what they refuse, their stages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import artifact, lm
from spct.baselines import btrm, pairrm, rows, score, stock, train
from spct.baselines.encoding import Encoder
from spct.baselines.rows import ONE_RESPONSE, TOO_LONG, Scored
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.judge.task import Judge
from spct.metarm import model as scalar
from spct.records import Item, Label, write_items
from spct.schema import ModelConfig, OptimConfig
from spct.training.batching import Example
from spct.training.optim import Optimizer
from spct.training.steps import Pass, dealt
from spct.training.world import World

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def headed(slice_of: Callable[..., Slice]) -> scalar.MetaRM:
    """A scalar model at random weights, head included."""
    rm = scalar.load(slice_of("baseline").model)
    torch.manual_seed(0)
    torch.nn.init.normal_(rm.model.score.weight)
    return rm


@pytest.fixture
def encoder(headed: scalar.MetaRM, judge: Judge) -> Encoder:
    return Encoder(headed.text, judge)


def whole(example: Example) -> tuple[int, ...]:
    return example.prompt + example.completion


def alone(rm: scalar.MetaRM, ids: tuple[int, ...]) -> torch.Tensor:
    """The logit of one text, by the stock forward pass on it alone."""
    logits: torch.Tensor = rm.model(torch.tensor([ids])).logits[0, 0]
    return logits


# ---- what they read ----------------------------------------------------------------------------


def test_responses_are_the_judges_prompt_for_each_alone(
    encoder: Encoder, items: list[Item]
) -> None:
    for item in items:
        group = encoder.responses(item)
        assert len(group.completions) == item.n and all(group.lengths)
        for completion, response in zip(group.completions, item.responses, strict=True):
            text = encoder.text.tokenizer.decode(group.prompt + completion)
            assert response in text and text.endswith("Answer: </s>")
            assert sum(other in text for other in item.responses) == 1
    pair = next(item for item in items if item.n == 2)
    assert encoder.responses(pair).prompt[-1] == encoder.text.tokenizer.encode("[1]")[0]


def test_a_chat_template_makes_the_response_the_assistants_turn(
    encoder: Encoder, items: list[Item]
) -> None:
    encoder.text.tokenizer.chat_template = CHAT
    item = replace(items[0], responses=("vivid </s>", items[0].responses[1]))
    group = encoder.responses(item)
    ids = encoder.text.tokenizer.encode(
        f"user: {item.messages[0]['content']} assistant: vivid < /s> ", add_special_tokens=False
    )
    assert list(group.prompt + group.completions[0]) == ids
    assert encoder.text.end not in group.completions[0]


def test_a_pair_is_shown_in_the_order_given(encoder: Encoder, items: list[Item]) -> None:
    one, two = (encoder.pair(items[0], *order) for order in ((0, 1), (1, 0)))
    first, second = items[0].responses
    text, turned = (encoder.text.tokenizer.decode(whole(pair)) for pair in (one, two))
    assert "<judge> none index" in text and one.completion == (encoder.text.end,)
    assert text.index(first) < text.index(second) and turned.index(second) < turned.index(first)


# ---- losses ------------------------------------------------------------------------------------


def fixed_logits(monkeypatch: pytest.MonkeyPatch, values: torch.Tensor) -> None:
    """Every token of completion c has logit ``values[c]``, but the last tokens alone may count."""

    def token_logits(model: object, groups: list) -> torch.Tensor:
        lengths = [length for group in groups for length in group.lengths]
        assert len(lengths) == len(values)
        return torch.cat(
            [
                torch.cat([torch.full((length - 1,), 99.0), v[None]])
                for length, v in zip(lengths, values, strict=True)
            ]
        )

    monkeypatch.setattr(scalar, "token_logits", token_logits)


def test_the_loss_of_btrm_on_numbers(
    encoder: Encoder, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A best of four (best: 2) and a pair (best: 0), scores given: the formula and its slope."""
    four = replace(next(i for i in items if i.n == 4), label=Label("best", 2))
    two = replace(items[0], label=Label("best", 0))
    lesson = btrm.lesson(encoder, [four, two])
    scores = torch.tensor([0.5, -1.0, 2.0, 3.0, 1.0, 4.0], requires_grad=True)
    fixed_logits(monkeypatch, scores)
    shares = lesson.loss(torch.nn.Module(), Pass([], [0, 1]), [0, 1])
    gaps = [2.0 - 0.5, 2.0 - -1.0, 2.0 - 3.0, 1.0 - 4.0]
    expected = sum(math.log(1 + math.exp(-gap)) for gap in gaps) / 4
    assert float(shares["loss"]) == pytest.approx(expected)
    assert float(shares["accuracy"]) == 0.5
    shares["loss"].backward()
    pulls = [-1 / (1 + math.exp(gap)) / 4 for gap in gaps]
    expected_slopes = [-pulls[0], -pulls[1], sum(pulls[:3]), -pulls[2], pulls[3], -pulls[3]]
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx(expected_slopes)


def test_the_loss_of_pairrm_on_numbers(
    encoder: Encoder, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = replace(items[0], label=Label("best", 1))
    lesson = pairrm.lesson(encoder, [item])
    assert lesson.examples == [encoder.pair(item, 1, 0), encoder.pair(item, 0, 1)]
    s = torch.tensor([0.7, -0.2], requires_grad=True)
    monkeypatch.setattr(scalar, "token_logits", lambda model, groups: s)
    own = dealt(lesson.examples, [0, 1], 10**6, World(), shared=True)
    assert [one.places for one in own] == [[0, 1]]
    shares = lesson.loss(torch.nn.Module(), own[0], [0, 1])
    expected = (math.log(1 + math.exp(-0.7)) + math.log(1 + math.exp(-0.2))) / 2
    assert float(shares["loss"]) == pytest.approx(expected)
    assert float(shares["accuracy"]) == 1.0
    shares["loss"].backward()
    assert s.grad is not None and s.grad[0] < 0 < s.grad[1]


@pytest.mark.parametrize("made", [btrm, pairrm])
def test_shares_add_up_over_passes_and_steps_learn(
    headed: scalar.MetaRM, encoder: Encoder, make_items: Callable[..., list[Item]], made: object
) -> None:
    lesson = made.lesson(encoder, make_items("pair", 5) + make_items("best_of_4", 3))  # type: ignore[attr-defined]
    chosen = list(range(len(lesson.examples)))

    def shares(tokens: int) -> dict[str, float]:
        own = dealt(lesson.examples, chosen, tokens, World(), shared=False)
        parts = [lesson.loss(headed.model, one, chosen) for one in own]
        return {name: sum(float(part[name]) for part in parts) for name in parts[0]}

    before = shares(10**6)
    assert shares(1) == pytest.approx(before, rel=1e-4)
    optimizer = Optimizer(headed.model, slice_optim(), 12)
    for step in range(12):
        (one,) = dealt(lesson.examples, chosen, 10**6, World(), shared=False)
        lesson.loss(headed.model, one, chosen)["loss"].backward()
        optimizer.step(step)
    assert shares(10**6)["loss"] < before["loss"]


def slice_optim() -> OptimConfig:
    return OptimConfig("adamw", 1e-2, 0.02, 0.0, warmup_steps=2, final_lr=0.1, max_grad_norm=1.0)


@pytest.mark.parametrize("made", [btrm, pairrm])
def test_what_is_learnt_from(encoder: Encoder, items: list[Item], made: object) -> None:
    pool = [*items, replace(items[0], id="tie", label=Label("pair_tie", {"winner": None}))]
    huge = replace(items[0], id="huge", responses=("vivid " * 600, "brief"))
    lesson = made.lesson(encoder, [*pool, huge])  # type: ignore[attr-defined]
    assert lesson.skipped == {"one_response": 2, "no_best": 1, "too_long": 1}
    assert lesson.items == 5
    assert len(lesson.examples) == (5 if made is btrm else 2 * (3 + 2 * 3))


def test_a_pass_holds_all_responses_of_an_item_and_counts_their_tokens(
    encoder: Encoder, items: list[Item]
) -> None:
    four = next(i for i in items if i.n == 4)
    (example,) = btrm.lesson(encoder, [four]).examples
    group = encoder.responses(four)
    assert len(example) == sum(len(group.prompt) + length for length in group.lengths)


# ---- scores ------------------------------------------------------------------------------------


def test_btrm_scores_every_response_by_itself_in_any_company(
    headed: scalar.MetaRM, encoder: Encoder, items: list[Item]
) -> None:
    found = btrm.score("t", headed.model, encoder, items, 200)
    turned = [replace(item, responses=item.responses[::-1]) for item in items[::-1]]
    again = btrm.score("t", headed.model, encoder, turned, 10**6)[::-1]
    for item, row, other in zip(items, found, again, strict=True):
        group = encoder.responses(item)
        expected = [float(alone(headed, group.prompt + c)) for c in group.completions]
        assert row.scores == pytest.approx(expected, abs=1e-5)
        assert other.scores == pytest.approx(expected[::-1], abs=1e-5)
        assert row.tokens == len(group.prompt) + sum(group.lengths) and not row.refused
    assert {item.n for item in items} == {1, 2, 4}


def test_pairrm_plays_all_pairs_in_both_orders(
    headed: scalar.MetaRM, encoder: Encoder, items: list[Item]
) -> None:
    for seed in range(2):
        found = pairrm.score("t", headed.model, encoder, items, 300, seed=seed)
        for item, row in zip(items, found, strict=True):
            if item.n == 1:
                assert (row.scores, row.refused) == (None, ONE_RESPONSE)
                continue
            won = [0.0] * item.n
            for a, b in combinations(range(item.n), 2):
                s, turned = (
                    float(alone(headed, whole(encoder.pair(item, *order))))
                    for order in ((a, b), (b, a))
                )
                won[a if s > turned else b] += 1
            assert row.scores == won
            assert sum(won) == item.n * (item.n - 1) / 2


@settings(deadline=None)
@given(st.permutations(range(4)), st.data())
def test_games_do_not_depend_on_the_order_they_are_shown_in(
    order: list[int], data: st.DataObject
) -> None:
    """S as a table of all ordered pairs, with a lean towards the first shown: it cancels."""
    strength = data.draw(st.permutations([0.0, 1.0, 2.0, 3.0]))
    lean = data.draw(st.floats(-50, 50))
    logits = [
        s
        for a, b in combinations(order, 2)
        for s in (strength[a] - strength[b] + lean, strength[b] - strength[a] + lean)
    ]
    assert pairrm.wins(order, iter(logits)) == list(strength)


def test_s_of_zero_falls_to_the_first_of_the_shuffle() -> None:
    assert pairrm.wins([1, 0], iter([0.0, 0.0])) == [0.0, 1.0]
    assert pairrm.wins([2, 0, 1], iter([0.0] * 6)) == [1.0, 0.0, 2.0]
    assert pairrm.wins([1, 0], iter([5.0, 5.0])) == [0.0, 1.0]


def test_an_indifferent_pairrm_is_right_by_chance_alone(
    slice_of: Callable[..., Slice], encoder: Encoder, make_items: Callable[..., list[Item]]
) -> None:
    """With a head of zeros every S is 0; response 1 of the file must not win by it."""
    model = scalar.load(slice_of("baseline").model).model
    pool = make_items("pair", 60)
    found = pairrm.score("t", model, encoder, pool, 10**5)
    firsts = sum(row.scores == [1.0, 0.0] for row in found)
    assert 15 < firsts < 45


@pytest.mark.parametrize("made", [btrm, pairrm])
def test_what_does_not_fit_the_context_is_refused(
    headed: scalar.MetaRM, encoder: Encoder, items: list[Item], made: object
) -> None:
    huge = replace(items[0], responses=("vivid " * 600, "brief"))
    with pytest.raises(StageStopped, match="t: 1 of 2 items exceed the model's max_position_emb"):
        made.score("t", headed.model, encoder, [items[1], huge], 10**5)  # type: ignore[attr-defined]
    lenient = replace(encoder.judge.config, max_too_long=0.5)
    encoder = replace(encoder, judge=replace(encoder.judge, config=lenient))
    found = made.score("t", headed.model, encoder, [items[1], huge], 10**5)  # type: ignore[attr-defined]
    assert found[0].scores and (found[1].scores, found[1].refused) == (None, TOO_LONG)


# ---- rows --------------------------------------------------------------------------------------


def test_rows_survive_and_say_why(tmp_path: Path) -> None:
    given = [Scored("a", [1.5, -2.0], "", 7), Scored("b", None, ONE_RESPONSE)]
    rows.write(tmp_path / "s.parquet", given, seed=3)
    assert rows.read(tmp_path / "s.parquet") == given
    told = artifact.read_manifest(tmp_path / "s.parquet")
    assert told["ledger"] == {ONE_RESPONSE: 1, "scored": 1} and told["seed"] == 3
    for bad in (Scored("a", None), Scored("a", [1.0], "why")):
        with pytest.raises(ValueError, match="either scores or a refusal"):
            rows.write(tmp_path / "t.parquet", [bad])
    with pytest.raises(ValueError, match="key occurs twice"):
        rows.write(tmp_path / "t.parquet", [given[0], given[0]])


# ---- the stages --------------------------------------------------------------------------------

FIT = [
    "baseline.epochs=3", "baseline.batch_tokens=1500", "baseline.micro_tokens=500",
    "baseline.dev_share=0.25", "baseline.optim.warmup_steps=1", "baseline.checkpoint_every=2",
    "baseline.optim.lr=3e-3",
]  # fmt: skip


@pytest.fixture
def files(make_items: Callable[..., list[Item]], tmp_path: Path) -> dict[str, Path]:
    pools = {"train": make_items("pair", 24) + make_items("best_of_4", 6)}
    pools["train"] += make_items("single", 4)
    pools["bench"] = make_items("pair", 6, seed=9) + make_items("single", 4, seed=9)
    paths = {name: tmp_path / f"{name}.parquet" for name in pools}
    for name, path in paths.items():
        write_items(path, pools[name], seed=3)
    return paths


@pytest.mark.parametrize("name", ["btrm", "pairrm"])
def test_a_baseline_is_trained_scored_and_resumed(
    slice_of: Callable[..., Slice], files: dict[str, Path], tmp_path: Path, name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cfg, out = slice_of("baseline", *FIT), tmp_path / "whole"
    train.run(cfg, 3, items=files["train"], name=name, out=out)
    report = json.loads((out / "eval.json").read_text())
    assert artifact.check_dir(out)["policy"] == name
    assert report["train"] + report["items"] + report["skipped"].get("one_response", 0) >= 30
    assert 0 <= report["accuracy"] <= 1
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) > 5 and losses[0] == pytest.approx(math.log(2), abs=1e-5)
    stock_model = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert stock_model.config.num_labels == 1

    taken = 0
    step = Optimizer.step

    def stop(self: Optimizer, number: int) -> float:
        nonlocal taken
        if (taken := taken + 1) > 3:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Optimizer, "step", stop)
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        train.run(cfg, 3, items=files["train"], name=name, out=again)
    monkeypatch.setattr(Optimizer, "step", step)
    train.run(cfg, 3, items=files["train"], name=name, out=again)
    assert artifact.content_hash(again) == artifact.content_hash(out)
    assert not again.with_name("again.state").exists()

    table = tmp_path / "scores.parquet"
    score.run(
        slice_of("baseline_score"), 3, items=files["bench"], name=name, init=str(out), out=table
    )
    scored = rows.read(table)
    assert [bool(row.scores) for row in scored] == [True] * 6 + [name == "btrm"] * 4
    told = artifact.read_manifest(table)
    assert (told["policy"], told["size"], told["seed"]) == (name, "toy_s", 3)


def test_nothing_to_learn_from_stops_with_the_counts(
    slice_of: Callable[..., Slice], make_items: Callable[..., list[Item]], tmp_path: Path
) -> None:
    write_items(tmp_path / "items.parquet", make_items("single", 4))
    with pytest.raises(StageStopped, match="none of 4 items has a best.*'one_response': 4"):
        train.run(
            slice_of("baseline", "baseline.dev_share=0"), 3, items=tmp_path / "items.parquet",
            name="btrm", out=tmp_path / "out",
        )  # fmt: skip


def test_names_and_folders_must_fit(slice_of: Callable[..., Slice], tmp_path: Path) -> None:
    cfg, nothing = slice_of("baseline_score"), tmp_path / "none.parquet"
    with pytest.raises(ConfigError, match="no baseline 'dpo'; there are btrm, pairrm, cloud, rm"):
        score.run(cfg, 0, items=nothing, name="dpo", out=nothing)
    with pytest.raises(ConfigError, match="btrm needs the folder of the trained baseline"):
        score.run(cfg, 0, items=nothing, name="btrm", out=nothing)
    with pytest.raises(ConfigError, match="rm is read from model.source"):
        score.run(cfg, 0, items=nothing, name="rm", init="somewhere", out=nothing)
    with pytest.raises(ConfigError, match="rm comes trained"):
        train.run(slice_of("baseline"), 0, items=nothing, name="rm", out=nothing)


# ---- reward models that came trained -----------------------------------------------------------


@pytest.fixture
def trained(headed: scalar.MetaRM, tmp_path: Path) -> ModelConfig:
    """A folder as TRL's RewardTrainer leaves it: classifier, head, tokenizer with its template."""
    headed.text.tokenizer.chat_template = CHAT
    headed.model.save_pretrained(tmp_path / "rm")
    headed.text.tokenizer.save_pretrained(tmp_path / "rm")
    return ModelConfig("my_rm", str(tmp_path / "rm"), None, "float32", False)


def test_a_trained_classifier_scores_as_it_does_by_itself(
    trained: ModelConfig, judge: Judge, items: list[Item]
) -> None:
    rm = stock.load(trained)
    found = stock.score("t", rm.model, Encoder(rm.text, judge), items, 200)
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.source)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained.source).eval()
    for item, row in zip(items, found, strict=True):
        for response, value in zip(item.responses, row.scores or [], strict=True):
            turns = [*item.messages, {"role": "assistant", "content": response}]
            ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                assert value == pytest.approx(float(model(**ids).logits[0, 0]), abs=1e-5)


def test_what_is_no_trained_reward_model_is_refused(
    trained: ModelConfig, headed: scalar.MetaRM, talker_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is a classifier of 2 labels; a reward model has one"):
        stock.load(replace(trained, source=str(talker_folder)))
    bare = lm.load(replace(trained, source=str(talker_folder)))
    bare.model.config.num_labels = 1
    lm.save(bare, tmp_path)
    with pytest.raises(ConfigError, match=r"no trained reward model: it lacks score\.weight"):
        stock.load(replace(trained, source=str(tmp_path)))
    headed.text.tokenizer.chat_template = None
    headed.model.save_pretrained(tmp_path / "mute")
    headed.text.tokenizer.save_pretrained(tmp_path / "mute")
    with pytest.raises(ConfigError, match="has no chat template, so nobody knows"):
        stock.load(replace(trained, source=str(tmp_path / "mute")))


def test_a_trained_classifier_is_a_row_by_config(
    trained: ModelConfig, slice_of: Callable[..., Slice], files: dict[str, Path], tmp_path: Path
) -> None:
    cfg = slice_of("baseline_score", f"model.source={trained.source}", "model.name=my_rm")
    out = tmp_path / "scores.parquet"
    score.run(cfg, 3, items=files["bench"], name="rm", out=out)
    assert all(row.scores for row in rows.read(out))
    assert artifact.read_manifest(out)["policy"] == "rm"
