"""Tries a template out on marked texts: nothing is dropped, nothing from data touches a delimiter.

A template that forgets a response, or lets one stand right beside a delimiter that it could
complete, would spoil a run without a word. So every form that a configuration asks for is rendered
once with a marker for each text, and read back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import jinja2

from spct.errors import ConfigError
from spct.judge import prompts
from spct.judge.neutralise import folded
from spct.records import Item, Label
from spct.schema import JudgeConfig

SIZES = (1, 2, 4)
QUERY, ROLE, GIVEN, REFERENCE = "probequery", "proberole", "probecriteria", "probereference"
_MARKER = re.compile(r"probe(?:query|role|criteria|reference|response\d+x)")


@dataclass(frozen=True)
class Form:
    """One kind of prompt: how many responses, where principles come from, what to write."""

    n: int
    principles: str
    output: str
    reference: bool
    hint: bool

    def __str__(self) -> str:
        extras = (" and a reference" * self.reference) + (" and a hint" * self.hint)
        return f"{self.n} response(s), output {self.output}, principles {self.principles}{extras}"


def try_out(
    template: prompts.Template, config: JudgeConfig, special_tokens: Collection[str] = ()
) -> None:
    """Render every form that ``config`` can ask for and check it.

    Raises ``ConfigError`` naming the template, the form and what is wrong: it cannot be rendered;
    a response, the query or the principles given are missing; responses out of order; a text that
    touches the beginning or end of a delimiter or special token; it does not know the answer asked.
    """
    forbidden = sorted({*template.delimiters, *special_tokens})
    for form in _forms(config):
        prompt = _render(template, config, form)
        problem = _missing(prompt, form) or _touching(prompt, forbidden)
        if form.output in ("index", "critique"):
            asked = _render(template, config, replace(form, output="scores"))
            problem = problem or "asks for scores all the same" * (asked == prompt)
        if problem:
            raise ConfigError(f"{template.name}: {problem} (with {form})")


def _forms(config: JudgeConfig) -> Iterator[Form]:
    sources = {
        "self": ("self",),
        "none": ("none",),
        "query_only": ("given", "none"),  # none where what was written cannot be read
    }.get(config.principles, ("given",))
    if config.principles == "query_only":
        yield Form(0, "self", "principles", False, False)
    for n in SIZES:
        for output in ("verdict", config.answer) if n == 1 else (config.answer,):
            for source in sources:
                for reference in (False, True):
                    for hint in (False, True) if n > 1 else (False,):
                        yield Form(n, source, output, reference, hint)


def _item(form: Form) -> Item:
    messages = ({"role": ROLE, "content": QUERY},)
    responses = tuple(_response(i) for i in range(form.n))
    label = Label("best", 0)
    return Item("", "", "", "", messages, responses, label, REFERENCE if form.reference else None)


def _response(number: int) -> str:
    return f"proberesponse{number}x"


def _render(template: prompts.Template, config: JudgeConfig, form: Form) -> str:
    low, high = prompts.score_range(form.output, config.score_min, config.score_max)
    try:
        return prompts.render(
            template,
            _item(form),
            range(form.n),
            principles=form.principles,
            output=form.output,
            score_min=low,
            score_max=high,
            hint=0 if form.hint else None,
            given=GIVEN if form.principles == "given" else None,
        )
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError) as error:
        raise ConfigError(f"{template.name}: {error} (with {form})") from error


def _missing(prompt: str, form: Form) -> str:
    """What the prompt lacks, or has in another order than shown; empty if nothing."""
    if QUERY not in prompt:
        return "does not show the query (messages)"
    if form.principles == "given" and GIVEN not in prompt:
        return "does not show the principles given"
    places = [prompt.find(_response(i)) for i in range(form.n)]
    if -1 in places:
        return f"does not show response {places.index(-1) + 1} of {form.n}"
    if places != sorted(places):
        return "shows the responses in another order than given"
    return ""


def _touching(prompt: str, forbidden: Collection[str]) -> str:
    """What data could complete to a forbidden string together with its neighbours, or nothing."""
    parts = [folded(part) for part in _MARKER.split(prompt)]
    for place, part in enumerate(parts):
        after_data, before_data = place > 0, place + 1 < len(parts)
        for name in forbidden:
            string = folded(name)
            if (
                (before_data and any(part.endswith(string[:k]) for k in range(1, len(string))))
                or (after_data and any(part.startswith(string[k:]) for k in range(1, len(string))))
                or (before_data and after_data and part in string[1:-1])
            ):
                return f"lets a text touch {name!r}; put a line break or a word between them"
    return ""
