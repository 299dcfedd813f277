"""What makes an item unusable: a label that names no response, empty or equal responses, …"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from spct.data.text import normal
from spct.judge.predicate import sides
from spct.records import Item, Label

Flaw = tuple[str, str]  # reason, detail


def label_flaw(label: Label, n: int) -> str:
    """What is wrong with a label of ``n`` responses; empty if it reads and names real ones."""
    try:
        return "" if _FITS[label.kind](label.value, n) else f"{label.kind}: not of {n} response(s)"
    except (TypeError, KeyError, AttributeError):
        return f"{label.kind}: not the value that this kind has"


def size_flaw(n: int, wanted: int) -> Flaw | None:
    """What a judge of exactly ``wanted`` responses (0: of any number) cannot take."""
    return ("other_size", f"{n} response(s), not {wanted}") if wanted and n != wanted else None


def _index(value: Any, n: int) -> bool:
    return type(value) is int and 0 <= value < n


def _groups(value: Any, n: int) -> bool:
    better, worse = value["better"], value["worse"]
    named = [*better, *worse]
    return bool(better and worse and len(set(named)) == len(named)) and all(
        _index(i, n) for i in named
    )


_FITS: dict[str, Callable[[Any, int], bool]] = {
    "best": lambda value, n: n > 1 and _index(value, n),
    "pair_tie": lambda value, n: n == 2 and (value["winner"] is None or _index(value["winner"], n)),
    "graded": lambda value, n: (
        len(value) == n
        and all(type(score) in (int, float) and math.isfinite(score) for score in value)
    ),
    "correct": lambda value, n: len(value) == n and all(type(right) is bool for right in value),
    "groups": _groups,
    "votes": lambda value, n: len(value) > 0 and all(v is None or _index(v, n) for v in value),
}


def flaw(item: Item, max_chars: int) -> Flaw | None:
    """The first flaw of a training item, or None.

    ``bad_label``, ``empty_prompt``, ``empty_response``, ``equal_responses`` (after
    :func:`spct.data.text.normal`), ``too_long`` (a text of more than ``max_chars`` characters; 0
    for no limit). Details give places and counts, never text.
    """
    if wrong := label_flaw(item.label, item.n):
        return "bad_label", wrong
    if not item.messages or not item.messages[-1]["content"].strip():
        return "empty_prompt", "the last message has no text"
    for i, response in enumerate(item.responses):
        if not response.strip():
            return "empty_response", f"response {i}"
    for what, texts in (("message", [m["content"] for m in item.messages]),
                        ("response", item.responses)):  # fmt: skip
        for i, text in enumerate(texts):
            if max_chars and len(text) > max_chars:
                return "too_long", f"{what} {i} has {len(text)} characters, over {max_chars}"
    seen: dict[str, int] = {}
    for i, response in enumerate(item.responses):
        first = seen.setdefault(normal(response), i)
        if first != i:
            return "equal_responses", f"responses {first} and {i}"
    return None


def length_flaw(item: Item, max_chars: int) -> Flaw | None:
    """``too_long`` if messages and responses together exceed ``max_chars`` (0: never)."""
    count = sum(len(message["content"]) for message in item.messages)
    count += sum(map(len, item.responses))
    if max_chars and count > max_chars:
        return "too_long", f"{count} characters in all, over {max_chars}"
    return None


def best_response(item: Item) -> int | Flaw:
    """Index of the one best response (paper: exactly one maximal reward), or why there is none.

    ``tie``: no single best among several; ``unverifiable``: one response whose label is not right
    or wrong. A single verifiable response is index 0.
    """
    if item.n == 1:
        verifiable = item.label.kind == "correct"
        return 0 if verifiable else ("unverifiable", f"one response, label {item.label.kind}")
    try:
        better, _ = sides(item.label, item.n)
    except ValueError:
        return "tie", f"label {item.label.kind} has no single best"
    return better[0] if len(better) == 1 else ("tie", f"{len(better)} best responses")
