"""Chat templates, rendered so that a prompt is a function of what is recorded, not of the day.

Some templates write today's date (``strftime_now``: Llama 3.2, Granite 3, SmolLM3, gpt-oss). Here
they get the day that ``model.date`` names, so that a bank begun today and resumed tomorrow holds
one prompt; without one they are refused. A template that takes a ``date_string`` (Llama 3) gets the
same day, and keeps its own default if none is named.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jinja2

from spct.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLOCK = "strftime_now"
LLAMA = "%d %b %Y"  # how Llama's templates write their ``date_string``
# What stands in the place of ``transformers``' clock. It lets a template call nothing from outside,
# so the answers come along, for every format that stands in the template.
_STOPPED = """{%% macro strftime_now(format) %%}\
{%% set known = %s %%}\
{{ known[format] if format in known else raise_exception("UNKNOWN strftime_now format") }}\
{%% endmacro %%}
"""
_MISSING = """{% macro strftime_now(format) %}{{ raise_exception("UNDATED") }}{% endmacro %}
"""
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)*%(?:(?!\1).)*)\1""", re.DOTALL)
_CHANCE = re.compile(r"\|\s*random\b|\blipsum\b")  # what draws at random in Jinja


def day(text: str) -> datetime.date:
    """The date that ``model.date`` names. Raises ``ConfigError`` unless it is YYYY-MM-DD."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"model.date: {text!r} is no day of the form YYYY-MM-DD") from None


def render(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, str]],
    *,
    date: str = "",
    prompt: bool = False,
) -> str:
    """A conversation as the tokenizer's chat template writes it on ``date``, YYYY-MM-DD.

    ``prompt`` adds the head of the assistant's turn. Raises ``ConfigError`` if the template asks
    for the date and there is none, draws at random, or refuses the conversation.
    """
    template, name = str(tokenizer.get_chat_template()), tokenizer.name_or_path or "this model"
    if _CHANCE.search(template):
        raise ConfigError(
            f"model.source: the chat template of {name} draws at random, so no prompt could be "
            "told again; take that out of its tokenizer's folder"
        )
    more: dict[str, Any] = {"date_string": day(date).strftime(LLAMA)} if date else {}
    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                chat_template=_stopped(template, date),
                tokenize=False,
                add_generation_prompt=prompt,
                **more,
            )
        )
    except jinja2.TemplateError as error:
        if str(error) == "UNDATED":
            raise ConfigError(
                f"model.date: the chat template of {name} writes the date, so every day would be "
                "another prompt; set model.date=YYYY-MM-DD, the day that all its prompts shall bear"
            ) from None
        raise ConfigError(f"model.source: the chat template of {name} says: {error}") from error


@lru_cache(maxsize=16)
def _stopped(template: str, date: str) -> str:
    """The template with a clock that stands at midnight of ``date``, or complains without one."""
    if CLOCK not in template:
        return template
    if not date:
        return _MISSING + template
    moment = datetime.datetime.combine(day(date), datetime.time())
    formats = sorted({match[2] for match in _QUOTED.finditer(template)})
    return _STOPPED % json.dumps({form: moment.strftime(form) for form in formats}) + template
