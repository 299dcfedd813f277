"""The two pages of a set: its tables, figures and claims; and wrong judgements to read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from spct.report.page import environment, rendered


def render(template: str, **values: Any) -> str:
    """A page from its template beside this module; every value that is not Markup is escaped."""
    return rendered(_environment(), template, values)


@cache
def _environment() -> Environment:
    """That of the report, whose frame and filters these pages share."""
    shared = environment()
    own = FileSystemLoader(Path(__file__).parent)
    assert shared.loader is not None
    found = shared.overlay(loader=ChoiceLoader([own, shared.loader]))
    return found
