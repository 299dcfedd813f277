"""Where too much is too long a stage stops before it computes, and says what sets the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_grpo import OVERRIDES as GRPO
from test_metarm import FIT, rows_of

from spct import lm
from spct.__main__ import main
from spct.baselines import score as baseline_score
from spct.baselines import train as baseline
from spct.config import ConfigError, Slice, load
from spct.data.general import write_general
from spct.errors import StageStopped
from spct.grpo import train as grpo
from spct.judge.task import Judge
from spct.metarm import score
from spct.metarm import train as metarm
from spct.records import Item, read_bank, write_bank, write_items
from spct.rft import train as rft
from spct.sampling import fill, principles, stages
from spct.sampling.limits import fitting, hold

KEY = "more than judge.max_too_long=0.1 lets pass"
CONTEXT = r"max_position_embeddings of 20"


@pytest.fixture
def items_file(make_items: Callable[..., list[Item]], tmp_path: Path) -> Path:
    write_items(tmp_path / "items.parquet", make_items("pair", 8) + make_items("single", 2))
    return tmp_path / "items.parquet"


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a sampler fails the test."""

    def started(*_: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(fill, "build", started)
    monkeypatch.setattr("spct.grpo.trainer.Trainer._engine", started)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models whose context is 20 tokens, shorter than a prompt of two responses."""
    monkeypatch.setattr(lm.LM, "context", 20)


@pytest.mark.parametrize(
    ("long", "allowed", "stops"),
    [
        pytest.param(1, 0.1, False, id="at the share"),
        pytest.param(2, 0.1, True, id="above it"),
        pytest.param(1, 0.0, True, id="none may"),
        pytest.param(0, 0.0, False, id="none is"),
        pytest.param(10, 1.0, False, id="all may"),
    ],
)
def test_the_share_is_what_may_pass(long: int, allowed: float, stops: bool) -> None:
    if not stops:
        hold("t", long, 10, allowed, "prompts", "cure")
        return
    with pytest.raises(StageStopped, match=f"t: {long} of 10 prompts, .*={allowed:g} .*; cure; or"):
        hold("t", long, 10, allowed, "prompts", "cure")


def test_the_share_is_a_share() -> None:
    for value in ("-0.1", "1.1", "nan"):
        with pytest.raises(ConfigError, match=r"judge\.max_too_long"):
            load(["model=toy_s", f"judge.max_too_long={value}"])


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["judge", "rollout", "rollout_policy"])
def test_a_stage_that_samples(
    stage: str, slice_of: Callable[..., Slice], talker_folder: Path, items_file: Path,
    no_engine: None, tmp_path: Path,
) -> None:  # fmt: skip
    more: dict[str, Any] = {"judge": {"policy": "base"}, "rollout": {}}.get(
        stage, {"models": [talker_folder]}
    )
    out, cfg = tmp_path / "bank/0.parquet", slice_of(stage, "sampler.max_prompt_tokens=20")
    with pytest.raises(StageStopped) as stopped:
        getattr(stages, stage)(cfg, 3, items=items_file, shard=0, out=out, **more)
    said = str(stopped.value)
    assert said.startswith(f"{stage} ") and "exceed 20 tokens" in said and KEY in said
    assert "sampler.max_prompt_tokens is 20 and the longest has " in said and "raise it" in said
    assert not out.exists() and not list(out.parent.glob("*.parts"))


def test_the_model_sets_the_limit(
    slice_of: Callable[..., Slice], items_file: Path, short: None, no_engine: None, tmp_path: Path
) -> None:
    with pytest.raises(StageStopped, match=f"{CONTEXT} leave 10 .*take a model with a longer"):
        stages.judge(
            slice_of("judge"), 3, items=items_file, shard=0, policy="base", out=tmp_path / "0"
        )


def test_on_the_command_line_it_is_one_sentence(
    items_file: Path, talker_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=toy_s", f"model.source={talker_folder}", "sampler.max_prompt_tokens=20"]
    given = [f"io.items={items_file}", "io.policy=base", "io.shard=0"]
    assert main(["judge", *words, *given, f"io.out={tmp_path}/0.parquet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spct: judge base-toy_s: ") and KEY in line


def test_queries_too_long_for_principles(
    talker: lm.LM, judge: Judge, items: list[Item], slice_of: Callable[..., Slice], tmp_path: Path
) -> None:
    asking = replace(judge, config=replace(judge.config, principles="query_only"))
    config = replace(slice_of("judge").sampler, max_prompt_tokens=2)
    given: Any = (tmp_path, talker, None, config, asking, items)
    with pytest.raises(StageStopped, match="principles: 7 of 7 queries exceed 2 tokens, more than"):
        principles.Notebook.fill(*given, seed=1, temperature=1.0)


def test_grpo_before_its_engine_starts(
    slice_of: Callable[..., Slice], items_file: Path, no_engine: None, tmp_path: Path
) -> None:
    cfg = slice_of("grpo", *GRPO, "sampler.max_prompt_tokens=20")
    with pytest.raises(StageStopped, match=f"grpo toy_s: .* exceed 20 tokens, {KEY}"):
        grpo.run(cfg, 3, items=items_file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- learning and scoring ------------------------------------------------------------------------


@pytest.fixture
def judged(judge: Judge, make_items: Callable[..., list[Item]], tmp_path: Path) -> Path:
    pool = make_items("pair", 8) + make_items("single", 2)
    write_bank(tmp_path / "bank.parquet", rows_of(judge, pool), policy="base", size="toy_s")
    return tmp_path / "bank.parquet"


def test_rejective_fine_tuning(
    slice_of: Callable[..., Slice], items_file: Path, judged: Path, short: None, tmp_path: Path
) -> None:
    write_general(tmp_path / "general.parquet", [("vivid", "brief")])
    rows = [row for row in read_bank(judged) if row.kind == "sample"]
    write_bank(tmp_path / "rows.parquet", rows)
    files = {name: tmp_path / f"{name}.parquet" for name in ("items", "rows", "general")}
    with pytest.raises(StageStopped, match=f"rft toy_s: .*{CONTEXT}, {KEY}; the longest has"):
        rft.run(slice_of("rft"), 3, **files, out=tmp_path / "out")


def test_a_few_long_texts_are_left_out_and_said(
    tiny: lm.LM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lm.LM, "context", 20)
    lengths = [5] * 19 + [21]
    assert fitting("t", tiny, lengths, 0.1, "cure") == [True] * 19 + [False]
    assert "t: 1 of 20 texts exceed" in capsys.readouterr().err
    monkeypatch.setattr(lm.LM, "context", None)
    assert all(fitting("t", tiny, lengths, 0.0, "cure"))


def test_the_meta_reward_model(
    slice_of: Callable[..., Slice], items_file: Path, judged: Path, short: None, tmp_path: Path
) -> None:
    cfg = slice_of("metarm", *FIT)
    with pytest.raises(StageStopped, match=f"metarm toy_s: .*{CONTEXT}, {KEY}"):
        metarm.run(cfg, 3, items=items_file, banks=[judged], out=tmp_path / "out")


def test_every_judgement_must_fit_to_be_scored(
    slice_of: Callable[..., Slice], items_file: Path, judged: Path, tiny_folder: Path, short: None,
    tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(StageStopped, match="score toy_s: .* a guided vote needs the score of each"):
        score.run(
            slice_of("score"), 3, items=items_file, bank=judged, metarm=tiny_folder,
            out=tmp_path / "out",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["btrm", "pairrm"])
def test_the_other_reward_models(
    name: str, slice_of: Callable[..., Slice], items_file: Path, tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(lm.LM, "context", 8)  # a prompt of one response has more
    out, said = tmp_path / "out", f"{name} toy_s: .*max_position_embeddings of 8, {KEY}"
    with pytest.raises(StageStopped, match=said):
        baseline.run(slice_of("baseline"), 3, items=items_file, name=name, out=out)
    cfg, init = slice_of("baseline_score"), str(tiny_folder)
    with pytest.raises(StageStopped, match=said):
        baseline_score.run(cfg, 3, items=items_file, name=name, init=init, out=out)
