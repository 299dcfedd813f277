"""Prompts: a Jinja text file and the pieces of an item, with data that cannot forge a delimiter.

A template is any file that declares ``delimiters`` (a list of strings that mean something to it).
Text from data is neutralised against those and the tokenizer's special tokens before rendering.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from spct.errors import ConfigError
from spct.judge.neutralise import neutralise
from spct.records import Item

FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Template:
    """A prompt template: its text, its delimiters and the hash that banks record."""

    name: str
    text: str
    delimiters: tuple[str, ...]
    hash: str

    def render(self, **values: Any) -> str:
        return _compiled(self.text).render(**values)


@cache
def _compiled(text: str) -> jinja2.Template:
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    return environment.from_string(text)


def path(name: str) -> Path:
    """The template of that file name in ``judge/templates`` if there is one, else that path."""
    return FOLDER / name if (FOLDER / name).is_file() else Path(name)


@cache
def load(name: str) -> Template:
    """The template of that file name in ``judge/templates``, or at that path.

    Raises ``FileNotFoundError`` naming both places, ``ConfigError`` if it declares no delimiters.
    """
    file = path(name)
    if not file.is_file():
        raise FileNotFoundError(
            f"judge.template: no file {name} in {FOLDER} nor at {file.resolve()}"
        )
    text = file.read_text(encoding="utf-8")
    probe = {"messages": [{"role": "user", "content": ""}], "responses": [""]}
    blanks = dict.fromkeys(("reference", "given", "hint"))
    module = _compiled(text).make_module(
        {
            **probe,
            **blanks,
            "principles": "self",
            "output": "scores",
            "score_min": 1,
            "score_max": 10,
        }
    )
    delimiters = tuple(getattr(module, "delimiters", ()))
    if not delimiters:
        raise ConfigError(f"{file}: a template must start with {{% set delimiters = [...] %}}")
    return Template(name, text, delimiters, hashlib.sha256(text.encode()).hexdigest()[:16])


def render(
    template: Template,
    item: Item,
    order: Sequence[int],
    *,
    principles: str,
    output: str,
    score_min: int,
    score_max: int,
    hint: int | None = None,
    given: str | None = None,
    special_tokens: Collection[str] = (),
) -> str:
    """The prompt for one item with its responses in the order given (shown -> original index).

    ``hint`` is the *original* index of the best response; the prompt names its shown number.
    """
    forbidden = (*template.delimiters, *special_tokens)

    def clean(text: str) -> str:
        return neutralise(text, forbidden)

    return template.render(
        messages=[{name: clean(text) for name, text in m.items()} for m in item.messages],
        responses=[clean(item.responses[i]) for i in order],
        reference=None if item.reference is None else clean(item.reference),
        given=None if given is None else clean(given),
        hint=None if hint is None else list(order).index(hint) + 1,
        principles=principles,
        output=output,
        score_min=score_min,
        score_max=score_max,
    )


def output_kind(item: Item, single: str) -> str:
    """What to write: a verdict for one response in ``verdict`` mode, scores otherwise."""
    return "verdict" if item.n == 1 and single == "verdict" else "scores"


def score_range(output: str, low: int, high: int) -> tuple[int, int]:
    """The scores allowed: 0 and 1 for a verdict, else the configured range (paper: 1 to 10)."""
    return (0, 1) if output == "verdict" else (low, high)
