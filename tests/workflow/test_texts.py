"""Texts among the overrides, through a real Snakemake into the frozen files."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from spct.runs import Runs

TEXT = 'Rules: be kind, don\'t say $HOME or {this}; the #1 rule is "no" `id`'


@pytest.mark.medium
def test_a_text_is_frozen_as_it_was_typed(stubs: Any) -> None:
    quoted = TEXT.replace('"', '\\"')
    words = ["judge.principles=fixed", f'judge.criteria="{quoted}"', "grpo.lr=5e-5"]
    (run,) = Runs("smoke", words).targets
    config = ["--config", "experiments=[smoke]", f"hydra={' '.join(words)}"]
    wanted = [f"results/{run}/config/toy_s/judge.yaml", f"results/{run}/config/run.yaml"]
    stubs.snakemake("--cores", "1", *wanted, *config)
    frozen, origin = (yaml.safe_load((stubs.root / path).read_text()) for path in wanted)
    assert frozen["judge"]["criteria"] == TEXT
    assert sorted(origin["overrides"]) == sorted(words)


def test_what_would_be_dropped_is_refused_before_any_job(clone: Any) -> None:
    config = ["experiments=[smoke]", "hydra=grpo.lr=5e-5 #grpo.steps=3"]
    text = clone.snakemake("--dry-run", "--config", *config, ok=False)
    assert "hydra: #grpo.steps=3 is a comment" in text
    assert "Traceback" not in text and not (clone.root / "results").exists()
