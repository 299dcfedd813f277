"""Which part of a text is the answer, where a model thinks first.

The answer is what follows the last mark that closes thoughts; without such a mark it is the whole
text. Thoughts are open, and there is no answer, if a line begins with an opening mark that no
closing mark follows, or if the chat template opened them at the end of the prompt and the text
never closes them. A mark quoted within a line opens nothing.
"""

from __future__ import annotations

import re

# Qwen, DeepSeek and most others; Mistral's Magistral; gpt-oss's channels.
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
_OPEN = "|".join(re.escape(opening) for opening, _ in MARKS)
_CLOSED = re.compile("|".join(re.escape(closing) for _, closing in MARKS))
_BEGUN = re.compile(rf"^\s*(?:{_OPEN})", re.MULTILINE)
_OPENED = re.compile(rf"(?:{_OPEN})\s*\Z")


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
