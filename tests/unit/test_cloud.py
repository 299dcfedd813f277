"""CLoud: what the critic learns, what the scalar reads, and both stages, killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import artifact, config, lm
from spct.baselines import critic, rows, score, train
from spct.baselines.critic import Writer, alone, kept, without_grade
from spct.config import Slice
from spct.errors import StageStopped
from spct.judge.parse import parse
from spct.records import Item, Label, Sample, write_items
from spct.sampling.parts import parts_of
from spct.training.optim import Optimizer
from spct.training.world import ALONE

FIT = [
    "model=toy_s", "sampler.max_new_tokens=24", "baseline.epochs=2", "baseline.critic_epochs=2",
    "baseline.batch_tokens=600", "baseline.micro_tokens=400", "baseline.dev_share=0.2",
    "baseline.optim.warmup_steps=1", "baseline.checkpoint_every=2", "baseline.k_max=3",
]  # fmt: skip


def stage(name: str, *overrides: str) -> Slice:
    return Slice.of(config.load([*FIT, *overrides]), name)


@pytest.fixture(scope="module")
def base() -> lm.LM:
    return lm.load(stage("baseline").model)


# ---- critiques ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Critique: [1] clear 2 so 4 Scores: \\boxed{4}", "Critique: [1] clear 2 so 4"),
        ("It is good.\n\n**Scores:** \\boxed{ 8 }", "It is good."),
        ("Good.\nScore: \\boxed{8} and so on", "Good."),
        ("A \\boxed{3} first, then\n\\boxed{8}", "A \\boxed{3} first, then"),
        ("No box at all, Scores: 7", "No box at all, Scores: 7"),
    ],
)
def test_a_critique_is_a_judgement_without_its_grade(text: str, left: str) -> None:
    assert without_grade(text) == left


@settings(deadline=None)
@given(st.text(alphabet="ab .\n"), st.integers(1, 10), st.sampled_from(["", "Scores: ", "score "]))
def test_no_grade_is_left(critique: str, grade: int, word: str) -> None:
    text = without_grade(f"{critique} {word}\\boxed{{{grade}}}")
    assert parse(text, 1, 1, 10).scores is None
    assert text == critique.rstrip(" \n")


def judged(
    item: Item, grades: list[int | None], text: str = "Critique: fine"
) -> list[list[Sample]]:
    made = []
    for one, grade in zip(alone(item), grades, strict=True):
        told = f"{text} Scores: \\boxed{{{grade}}}"
        scores = None if grade is None else [grade]
        row = Sample(one.id, "sample", 0, 0, [0], "m", "t", told, 5, 5, -1.0, "stop", "ok",
                     scores, None)  # fmt: skip
        made.append([row])
    return made


def test_critiques_are_kept_where_the_grades_find_the_best(base: lm.LM, items: list[Item]) -> None:
    pair, four = (next(item for item in items if item.n == n) for n in (2, 4))
    pair, four = replace(pair, label=Label("best", 1)), replace(four, label=Label("best", 0))
    cases = {
        "right": (replace(pair, id="right"), [3, 4]),
        "tied": (replace(pair, id="tied"), [4, 4]),
        "turned": (replace(pair, id="turned"), [5, 4]),
        "unread": (replace(pair, id="unread"), [None, 4]),
        "four": (four, [9, 2, 8, 8]),
    }
    pool = [item for item, _ in cases.values()]
    found = {item.id: judged(item, grades) for item, grades in cases.values()}  # type: ignore[arg-type]
    writer = Writer(stage("baseline"), base, "scores", ALONE)
    examples, ledger = kept(writer, pool, found)
    assert ledger == {"invalid": 1, "kept": 2, "wrong": 2} and len(examples) == 2 + 4
    texts = [base.tokenizer.decode(example.prompt) for example in examples]
    assert [text for text in texts if not text.startswith("<judge> self critique Query:")] == []
    assert [pair.responses[i] in texts[i] for i in range(2)] == [True, True]
    assert not any(pair.responses[1 - i] in texts[i] for i in range(2))
    ends = {base.tokenizer.decode(example.completion) for example in examples}
    assert ends == {"Critique: <unk></s>"} or all("boxed" not in end for end in ends)


def test_the_teacher_grades_and_the_critic_does_not(base: lm.LM, items: list[Item]) -> None:
    cfg = stage("baseline", "judge.score_max=7")
    single = next(item for item in items if item.n == 1)
    for answer, word in (("scores", "scores"), ("critique", "critique")):
        judge = Writer(cfg, base, answer, ALONE).judge
        assert judge.prompt(single, [0]).startswith(f"<judge> self {word} Query:")
    cfg.judge = replace(cfg.judge, template="default.jinja")
    default = Writer(cfg, base, "critique", ALONE)
    text = default.judge.prompt(single, [0])
    assert "boxed" not in text and "no grade" in text and "Scores" not in text


# ---- the stages --------------------------------------------------------------------------------


@pytest.fixture
def files(make_items: Callable[..., list[Item]], tmp_path: Path) -> dict[str, Path]:
    pools = {
        "train": make_items("pair", 24) + make_items("best_of_4", 2) + make_items("single", 2),
        "bench": make_items("pair", 3, seed=9) + make_items("single", 2, seed=9),
    }
    paths = {name: tmp_path / f"{name}.parquet" for name in pools}
    for name, path in paths.items():
        write_items(path, pools[name], seed=3)
    return paths


def stopping(monkeypatch: pytest.MonkeyPatch, steps: int) -> Callable[[], None]:
    """The optimiser is killed after so many steps; what is given back lets it live again."""
    step, taken = Optimizer.step, 0

    def stop(self: Optimizer, number: int) -> float:
        nonlocal taken
        if (taken := taken + 1) > steps:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Optimizer, "step", stop)
    return lambda: monkeypatch.setattr(Optimizer, "step", step)


def test_cloud_is_trained_killed_resumed_and_scored(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, out = stage("baseline"), tmp_path / "whole"
    train.run(cfg, 3, items=files["train"], name="cloud", out=out)
    report = json.loads((out / "eval.json").read_text())
    assert sum(report["critiques"].values()) == 28 - round(0.2 * 28)
    assert report["critiques"]["kept"] >= 1 and 0 <= report["accuracy"] <= 1
    assert artifact.check_dir(out)["policy"] == "cloud" and not parts_of(out).exists()
    transformers.AutoModelForSequenceClassification.from_pretrained(out)
    transformers.AutoModelForCausalLM.from_pretrained(out / critic.FOLDER)
    learnt = sum(1 for _ in (out / critic.FOLDER / "metrics.jsonl").open())
    assert learnt >= 2

    again, sampled = tmp_path / "again", 0
    write = Writer.write

    def counted(self: Writer, *args: Any) -> critic.Rows:
        nonlocal sampled
        sampled += 1
        return write(self, *args)

    monkeypatch.setattr(Writer, "write", counted)
    for steps in (1, learnt + 3):  # in the critic's fit, then in the scalar's
        alive = stopping(monkeypatch, steps)
        with pytest.raises(KeyboardInterrupt):
            train.run(cfg, 3, items=files["train"], name="cloud", out=again)
        alive()
    sampled = 0
    train.run(cfg, 3, items=files["train"], name="cloud", out=again)
    assert sampled == 1, "the teacher is asked no more once the critic stands"
    assert artifact.content_hash(again) == artifact.content_hash(out)

    table = tmp_path / "scores.parquet"
    asked = {"items": files["bench"], "name": "cloud", "init": str(out), "out": table}
    score.run(stage("baseline_score"), 3, **asked)  # type: ignore[arg-type]
    found = rows.read(table)
    assert [(row.item_id, row.sample) for row in found] == sorted(
        ((row.item_id, row.sample) for row in found), key=lambda at: at[1]
    ) or len(found) == 15
    assert len({(row.item_id, row.sample) for row in found}) == 5 * 3
    assert all(row.scores and row.completion_tokens and row.prompt_tokens for row in found)
    by_item = {row.item_id: set() for row in found}  # type: ignore[var-annotated]
    for row in found:
        by_item[row.item_id].add(tuple(row.scores or ()))
    assert all(len(values) > 1 for values in by_item.values()), "critiques change the scalar"
    told = artifact.read_manifest(table)
    assert (told["method"], told["policy"], told["ledger"]) == (
        "mean_scalar",
        "cloud",
        {"scored": 15},
    )
    assert not parts_of(table).exists()


def test_no_critique_to_learn_from_stops_with_the_counts(
    files: dict[str, Path], tmp_path: Path
) -> None:
    cfg = stage("baseline", "sampler.max_new_tokens=2")
    with pytest.raises(StageStopped, match=r"no critique of 22 items is kept \(.*'invalid': 2"):
        train.run(cfg, 3, items=files["train"], name="cloud", out=tmp_path / "out")
