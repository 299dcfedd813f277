"""What is refused before the first job: an engine, data or words that are not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from spct import requirements
from spct.__main__ import main
from spct.config import ConfigError, load
from spct.judge import wording
from spct.runs import Runs

VLLM = r"sampler\.engine=vllm needs vLLM: pip install 'spct\[vllm\]', or take"


@pytest.fixture
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)


def test_a_job_that_samples_needs_its_engine(no_vllm: None) -> None:
    runs = Runs("smoke", "sampler=vllm")
    (run,) = runs.targets
    place = {"run": run, "seed": "0", "size": "toy_m"}
    requirements.check(runs, [("rft", place), ("report", {"run": run}), ("freeze", {})])
    requirements.check(runs, [("baseline", {**place, "baseline": "btrm"})])
    with pytest.raises(ConfigError, match=VLLM):
        requirements.check(runs, [("report", {"run": run}), ("judge", place)])
    with pytest.raises(ConfigError, match=VLLM):
        requirements.check(runs, [("baseline", {**place, "baseline": "cloud"})])
    (warning,) = requirements.warnings(runs)
    assert warning.startswith("not installed on this machine: sampler.engine=vllm")
    assert not requirements.warnings(Runs("smoke"))


@pytest.mark.parametrize("stage", ["rollout", "rollout_policy", "judge", "grpo"])
def test_a_stage_by_hand_asks_before_it_loads_anything(
    no_vllm: None, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([stage, "experiment=smoke", "sampler=vllm", "io.out=nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spct: sampler.engine=vllm needs vLLM")


def test_preparing_needs_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = Runs("smollm2_cpu")
    due = [("prepare", {"run": "smollm2_cpu", "seed": "0"})]
    monkeypatch.delenv("SPCT_DATA", raising=False)
    with pytest.raises(ConfigError, match="lies under SPCT_DATA, which is not set; set it to the"):
        requirements.check(runs, due)
    monkeypatch.setenv("SPCT_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="no folder .*; correct path or SPCT_DATA"):
        requirements.check(runs, due)
    requirements.check(runs, [("judge", {"run": "smollm2_cpu", "size": "smollm2"})])
    requirements.check(Runs("smoke"), [("prepare", {"run": "smoke", "seed": "0"})])


def test_a_stage_by_hand_wants_a_template_it_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rft", "model=smollm2", "io.out=nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "spct: judge.template: toy.jinja is written in the toy world's own words"
    )


# ---- templates and tokenizers --------------------------------------------------------------------


def folder(root: Path, words: dict[str, int]) -> str:
    root.mkdir()
    (root / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    return str(root)


@pytest.mark.medium
def test_the_toy_template_wants_the_toy_tokenizer(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", {"the": 0, "judge": 1})
    older = tmp_path / "older"  # its tokenizer is a SentencePiece file
    older.mkdir()
    (older / "config.json").write_text("{}")
    for source in (real, str(older), "HuggingFaceTB/SmolLM2-135M-Instruct"):
        with pytest.raises(ConfigError, match=f"judge.template: toy.jinja .*{source}.*default.jin"):
            load(["experiment=tiny", f"model.source={source}"])
        load(["experiment=tiny", f"model.source={source}", "judge.template=default.jinja"])


def test_the_toy_tokenizer_wants_the_toy_template() -> None:
    for name in ("default.jinja", "short.jinja"):
        with pytest.raises(
            ConfigError, match=f"{name} is in plain English.*builtin:toy_m.*toy.jin"
        ):
            load(["experiment=tiny", f"judge.template={name}"])


def test_what_cannot_be_known_passes(tmp_path: Path) -> None:
    toy = folder(tmp_path / "toy", {"<judge>": 0})
    for source in ("endpoint:x", str(tmp_path / "made later"), "cache:not-there"):
        for name in ("toy.jinja", "default.jinja"):
            wording.check(name, source)
    wording.check("toy.jinja", toy)
    own = tmp_path / "own.jinja"
    own.write_text("mine")
    wording.check(str(own), toy)


def test_a_run_is_refused_whatever_part_the_model_plays() -> None:
    for words in ("model=smollm2", "plan.sizes=[smollm2]"):
        with pytest.raises(ConfigError, match="experiment 'tiny': judge.template: toy.jinja"):
            Runs("tiny", words)
    # a trained reward model reads by its own chat template
    load(["experiment=tiny", "plan.reward_models=[smollm2]", "model=smollm2"])
