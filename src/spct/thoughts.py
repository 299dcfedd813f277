"""Which part of a text is the answer, where a model thinks first.

The answer is what follows the last mark that closes thoughts; without such a mark it is the whole
text. Thoughts are open, and there is no answer, if a line begins with an opening mark that no
closing mark follows, or if the chat template opened them at the end of the prompt and the text
never closes them. A mark quoted within a line opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Qwen, DeepSeek and most others; EXAONE; Seed-OSS; Mistral's Magistral; Cohere; Kimi; Gemma 4's and
# gpt-oss's channels.
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
# Tags are written in either case and with attributes too, channels with what they hold.
_TAG = re.compile(r"<(/?[a-z:]+)>")


def _any(marks: Iterable[str]) -> str:
    """A pattern of every way to write the marks."""
    ways = []
    for mark in marks:
        if tag := _TAG.fullmatch(mark):
            ways.append(rf"<{tag[1]}(?:\s[^<>]*)?>")
        else:
            ways.append(re.escape(mark).replace("final", r"final\b[^\n]{0,80}?"))
    return "|".join(ways)


_OPEN = _any(opening for opening, _ in MARKS)
_CLOSED = re.compile(_any(closing for _, closing in MARKS), re.IGNORECASE)
# A line's beginning, or gpt-oss's head of a message.
_BEGUN = re.compile(rf"^[^\S\n]*(?:<\|start\|>assistant)?(?:{_OPEN})", re.MULTILINE | re.IGNORECASE)
_OPENED = re.compile(rf"(?:{_OPEN})\s*\Z", re.IGNORECASE)


def opened(prompt: str) -> bool:
    """Whether a prompt ends in a mark that opens thoughts."""
    return bool(_OPENED.search(prompt))


def answer(text: str, opened: bool = False) -> str | None:
    """What stands behind the thoughts; None if they are not closed. ``opened``: by the prompt."""
    closings = list(_CLOSED.finditer(text))
    rest = text[closings[-1].end() :] if closings else text
    if _BEGUN.search(rest) or (opened and not closings):
        return None
    return rest
