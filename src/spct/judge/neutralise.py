"""Text from data is never an instruction: breaks up template delimiters and special tokens in it.

The change is visible and small: one space after the first character of each occurrence, so that
``<|eot|>`` becomes ``< |eot|>``. Everything else stays as it is, so the judge reads the same words.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache


def neutralise(text: str, forbidden: Collection[str]) -> str:
    """``text`` without any of the ``forbidden`` strings (case-sensitive); unchanged if it has none.

    Breaking one string can leave or form another (``<<|a|>|a|>``), so the pass is repeated until
    none is left. It ends: each pass widens gaps between characters, and no forbidden string spans a
    gap wider than its own longest run of spaces. What has none is unchanged: idempotent.

    Only ``text`` is cleared: the template must part it from its own delimiters, e.g. by a newline.
    Raises ``ValueError`` for a forbidden string with fewer than two characters between its outer
    spaces, which no space can break.
    """
    pattern = _pattern(frozenset(forbidden))
    while pattern is not None and pattern.search(text):
        text = pattern.sub(_split, text)
    return text


@lru_cache(maxsize=64)
def _pattern(forbidden: frozenset[str]) -> re.Pattern[str] | None:
    hopeless = sorted(string for string in forbidden if len(string.strip(" ")) < 2)
    if hopeless:
        raise ValueError(f"a space cannot break up {hopeless}: too short to forbid")
    longest_first = sorted(forbidden, key=lambda string: (-len(string), string))
    return re.compile("|".join(map(re.escape, longest_first))) if forbidden else None


def _split(match: re.Match[str]) -> str:
    """The occurrence with a space after its first character that is not a space itself."""
    found = match.group()
    cut = len(found) - len(found.lstrip(" ")) + 1
    return f"{found[:cut]} {found[cut:]}"
