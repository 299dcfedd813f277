"""Chat templates, rendered so that a prompt is a function of what is recorded, not of the day.

Some templates write today's date (``strftime_now``: Llama 3.2, Granite 3, SmolLM3, gpt-oss). Here
they get the day that ``model.date`` names, so that a bank begun today and resumed tomorrow holds
one prompt; without one they are refused. A template that takes a ``date_string`` (Llama 3) gets the
same day, and keeps its own default if none is named. Templates of models that see images (LLaVA,
SmolVLM) read a list of parts instead of a text, and get one; left alone they would drop the text.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

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
# Every text between two equal quotes, also where an apostrophe in prose shifts what they pair.
_QUOTED = re.compile(r"""(?=(["'])((?:(?!\1).)*%(?:(?!\1).)*)\1)""", re.DOTALL)
_UNDATED, _UNKNOWN = "UNDATED", "UNKNOWN strftime_now format"
_PROBE = "qzaskq"
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
    name = tokenizer.name_or_path or "this model"
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError as error:  # it has several and none is the default
        raise ConfigError(f"model.source: the chat template of {name}: {error}") from error
    if _CHANCE.search(template):
        raise ConfigError(
            f"model.source: the chat template of {name} draws at random, so no prompt could be "
            "told again; take that out of its tokenizer's folder"
        )
    more: dict[str, Any] = {"date_string": day(date).strftime(LLAMA)} if date else {}
    write: Callable[..., str] = partial(
        _write, tokenizer, chat_template=_stopped(template, date), **more
    )
    try:
        shown = parts(turns) if _reads_parts(template, date, write) else turns
        return write(shown, prompt=prompt)
    except Exception as error:  # a template may raise whatever it likes
        raise ConfigError(_complaint(name, error)) from error


def parts(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns with their texts as content parts, as templates of models with vision want them."""
    return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


def _write(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, Any]],
    *,
    prompt: bool = True,
    **more: str,
) -> str:
    return str(
        tokenizer.apply_chat_template(
            [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=prompt, **more
        )
    )


_forms: dict[tuple[str, str], bool] = {}  # by template and date: whether it reads parts


def _reads_parts(template: str, date: str, write: Callable[..., str]) -> bool:
    """Whether a template writes what a user says only where that is a list of parts.

    Raises ``ValueError`` if it writes it in neither form.
    """
    if (template, date) not in _forms:
        asked = [{"role": "user", "content": _PROBE}]
        if _PROBE in write(asked).lower():
            _forms[template, date] = False
        elif _PROBE in write(parts(asked)).lower():
            _forms[template, date] = True
        else:
            raise ValueError("it leaves out what the user says")
    return _forms[template, date]


def _complaint(name: str, error: Exception) -> str:
    """What to tell of a template that renders nothing."""
    if str(error) == _UNDATED:
        return (
            f"model.date: the chat template of {name} writes the date, so every day would be "
            "another prompt; set model.date=YYYY-MM-DD, the day that all its prompts shall bear"
        )
    if str(error) == _UNKNOWN:
        return (
            f"model.source: the chat template of {name} calls {CLOCK} with a format that it makes "
            "up while it renders; write the format into the call, in its tokenizer's folder"
        )
    return f"model.source: the chat template of {name} says: {error}"


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
