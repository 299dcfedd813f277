"""Rules and stages agree: every io name a rule passes is one the stage takes, none is missing."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from spct.stages import STAGES

RULES = Path(__file__).parents[2] / "workflow" / "rules"
OPTIONAL = {"init"}  # nothing for the base


def passed(stage: str) -> set[str]:
    text = (RULES / f"{stage}.smk").read_text()
    return set(re.findall(r"io\.(\w+)=", text)) | set(re.findall(r'many\("(\w+)"', text))


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_passes_what_its_stage_takes(stage: str) -> None:
    parameters = inspect.signature(STAGES[stage].load()).parameters.values()
    taken = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    needed = {name for name, p in taken.items() if p.default is p.empty}
    assert needed <= passed(stage) <= set(taken)
    assert not needed & OPTIONAL


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_calls_its_own_stage(stage: str) -> None:
    text = (RULES / f"{stage}.smk").read_text()
    assert f'"spct {stage} --config {{input.cfg}}' in text
    assert "log:" in text and "resources:" in text
