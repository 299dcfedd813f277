"""What the machine lacks for jobs that are due: a run stops before the first of them."""

from __future__ import annotations

from typing import Any

import pytest

VLLM = ("--config", "experiments=[smoke]", "hydra=sampler=vllm")
LACKING = "sampler.engine=vllm needs vLLM: pip install 'spct[vllm]'"


@pytest.fixture
def bare(stubs: Any) -> Any:
    """A clone on a machine without vLLM."""
    (stubs.root / "src/sitecustomize.py").write_text("import sys\nsys.modules['vllm'] = None\n")
    return stubs


@pytest.mark.medium
def test_an_engine_that_is_not_installed(bare: Any) -> None:
    told = bare.snakemake("--cores", "1", *VLLM, ok=False)
    assert LACKING in told and "Traceback" not in told
    assert not (bare.root / "results").exists()
    planned = bare.snakemake("--dry-run", *VLLM)  # of a plan it is only said
    assert f"spct: not installed on this machine: {LACKING}" in planned


def test_data_that_are_not_there(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPCT_DATA", raising=False)
    told = bare.snakemake("--cores", "1", "--config", "experiments=[smollm2]", ok=False)
    assert "lies under SPCT_DATA, which is not set" in told and "Traceback" not in told
    assert not (bare.root / "results").exists()


def test_a_template_that_the_tokenizer_cannot_read(bare: Any) -> None:
    told = bare.snakemake(
        "--dry-run", "--config", "experiments=[tiny]", "hydra=model=smollm2", ok=False
    )
    assert "experiment 'tiny': judge.template: toy.jinja is written in the toy world's" in told
    assert "Traceback" not in told
