"""Prompts: a Jinja text file and the pieces of an item, with data that cannot forge a delimiter.

A template is any file that declares ``delimiters`` (a list of strings that mean something to it).
Text from data is neutralised against those and the tokenizer's special tokens before rendering.
:mod:`spct.judge.probe` tries a template out before anything is sampled with it.

A template is given

* ``messages`` (each with ``role`` and ``content``), ``responses`` in the order shown, ``reference``
  (or none), ``hint`` (the shown number of the best response, or none);
* ``output``, what to write: ``scores``, ``verdict`` (one response, 0 or 1), ``index`` (the shown
  number of the best response), ``critique`` (no grade at all), or ``principles`` (from the query
  alone: there are no responses yet); ``score_min`` and ``score_max``;
* ``principles``: ``self`` (the judge writes them first), ``none``, or ``given``, when ``given`` is
  their text, whether it came with the item, from the configuration or from an earlier call.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from spct.errors import ConfigError
from spct.judge.neutralise import neutralise
from spct.records import Item, Label

FOLDER = Path(__file__).parent / "templates"
CRITERIA = Path(__file__).parent / "criteria"


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

    Raises ``FileNotFoundError`` naming both places, and as :func:`from_text`.
    """
    file = path(name)
    if not file.is_file():
        raise FileNotFoundError(
            f"judge.template: no file {name} in {FOLDER} nor at {file.resolve()}"
        )
    return from_text(name, file.read_text(encoding="utf-8"))


def from_text(name: str, text: str) -> Template:
    """The template with this text. ``ConfigError`` if it is no Jinja or declares no delimiters."""
    item = Item("", "", "", "", ({"role": "user", "content": ""},), ("",), Label("correct", [True]))
    bare = Template(name, text, (), hashlib.sha256(text.encode()).hexdigest()[:16])
    try:
        values = _values(bare, item, [0], "self", "scores", 1, 10)
        module = _compiled(text).make_module(values)
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    delimiters = tuple(getattr(module, "delimiters", ()))
    if not delimiters:
        raise ConfigError(f"{name}: a template must start with {{% set delimiters = [...] %}}")
    return replace(bare, delimiters=delimiters)


def read_criteria(value: str) -> str:
    """Criteria from a file of ``judge/criteria``, from a file at that path, or the text itself.

    The configuration is composed with the text, so a frozen slice holds what a file said then and
    an edited file is another configuration. Raises ``ConfigError`` for a path to no file.
    """
    text = value.strip()
    for file in (CRITERIA / text, Path(text)):
        if os.path.isfile(file):  # unlike Path.is_file, false for a text too long to be a name
            return file.read_text(encoding="utf-8").strip()
    if len(text.split()) == 1 and ("/" in text or text.endswith((".txt", ".md"))):
        raise ConfigError(
            f"judge.criteria: no file {text} in {CRITERIA} nor at {Path(text).resolve()}"
        )
    return text


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

    ``principles`` is ``self``, ``none`` or ``given``, the last with their text in ``given``.
    ``hint`` is the *original* index of the best response; the prompt names its shown number.
    """
    return template.render(
        **_values(
            template, item, order, principles, output, score_min, score_max,
            hint=hint, given=given, special_tokens=special_tokens,
        )
    )  # fmt: skip


def _values(
    template: Template,
    item: Item,
    order: Sequence[int],
    principles: str,
    output: str,
    score_min: int,
    score_max: int,
    *,
    hint: int | None = None,
    given: str | None = None,
    special_tokens: Collection[str] = (),
) -> dict[str, Any]:
    """What a template is given, the texts from data neutralised."""
    forbidden = (*template.delimiters, *special_tokens)

    def clean(text: str) -> str:
        return neutralise(text, forbidden)

    return {
        "messages": [{name: clean(text) for name, text in m.items()} for m in item.messages],
        "responses": [clean(item.responses[i]) for i in order],
        "reference": None if item.reference is None else clean(item.reference),
        "given": None if given is None else clean(given),
        "hint": None if hint is None else list(order).index(hint) + 1,
        "principles": principles,
        "output": output,
        "score_min": score_min,
        "score_max": score_max,
    }


def render_principles(
    template: Template,
    item: Item,
    *,
    score_min: int,
    score_max: int,
    special_tokens: Collection[str] = (),
) -> str:
    """The prompt that asks for principles from the query alone: no responses, no reference."""
    return render(
        template,
        replace(item, responses=(), reference=None),
        [],
        principles="self",
        output="principles",
        score_min=score_min,
        score_max=score_max,
        special_tokens=special_tokens,
    )


def output_kind(item: Item, single: str, answer: str = "scores") -> str:
    """What to write: a verdict for one response in ``verdict`` mode, else the ``answer``."""
    return "verdict" if item.n == 1 and single == "verdict" else answer


def score_range(output: str, low: int, high: int) -> tuple[int, int]:
    """The scores allowed: 0 and 1 for a verdict, else the configured range (paper: 1 to 10)."""
    return (0, 1) if output == "verdict" else (low, high)


def box(output: str, n: int, low: int, high: int) -> tuple[int, int, int]:
    """How many numbers the box holds for ``n`` responses, the least and the greatest."""
    return (1, 1, n) if output == "index" else (n, *score_range(output, low, high))
