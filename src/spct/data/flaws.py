"""What makes an item unusable: a label that names no response, empty or equal responses, …"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spct.data.text import blank, squeezed
from spct.judge.predicate import sides
from spct.records import Item, Label

Flaw = tuple[str, str]  # reason, detail


def label_flaw(label: Label, n: int) -> str:
    """What is wrong with a label of ``n`` responses; empty if it reads and names real ones."""
    try:
        fits = _FITS[label.kind](label.value, n)
    except (TypeError, KeyError, AttributeError):
        fits = False
    return "" if fits else f"{label.kind}: not {_wanted(label.kind, n)}"


def _wanted(kind: str, n: int) -> str:
    """What a label of this kind is for ``n`` responses."""
    if kind == "best" and n < 2:
        return f"for {n} response(s): it needs two or more to name the best of"
    if kind == "pair_tie" and n != 2:
        return f"for {n} response(s): it compares exactly two"
    named = f"from 0 to {n - 1}, counted from 0, for {n} response(s)"
    return {
        "best": f"an index {named}",
        "pair_tie": "a winner 0, 1 or null with a strength that is a number or null",
        "graded": f"a list of {n} finite number(s), one for each response",
        "correct": f"a list of {n} times true or false, one for each response",
        "groups": f"lists better and worse, neither empty, of different indices {named}",
        "votes": f"a list of an index {named}, or null for each annotator",
    }[kind]


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


def _number(value: Any) -> bool:
    """Whether it is a number that a float can hold; true and false are none."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _pair_tie(value: Any, n: int) -> bool:
    winner, strength = value["winner"], value.get("strength")
    known = winner is None or _index(winner, n)
    return n == 2 and known and (strength is None or _number(strength))


_FITS: dict[str, Callable[[Any, int], bool]] = {
    "best": lambda value, n: n > 1 and _index(value, n),
    "pair_tie": _pair_tie,
    "graded": lambda value, n: len(value) == n and all(map(_number, value)),
    "correct": lambda value, n: len(value) == n and all(type(right) is bool for right in value),
    "groups": _groups,
    "votes": lambda value, n: len(value) > 0 and all(v is None or _index(v, n) for v in value),
}


def flaw(item: Item, max_chars: int) -> Flaw | None:
    """The first flaw of a training item, or None.

    ``bad_label``, ``empty_prompt``, ``answer_in_context`` (:func:`leak`), ``empty_response``,
    ``equal_responses`` (but for white space), ``too_long`` (a text of more than ``max_chars``
    characters; 0 for no limit). Details give places and counts, never text.
    """
    if wrong := label_flaw(item.label, item.n):
        return "bad_label", wrong
    if not item.messages or blank(item.messages[-1]["content"]):
        return "empty_prompt", "the last message has no text"
    if told := leak(item.messages, item.responses):
        return told
    for i, response in enumerate(item.responses):
        if blank(response):
            return "empty_response", f"response {i}"
    for what, texts in (("message", [m["content"] for m in item.messages]),
                        ("response", item.responses)):  # fmt: skip
        for i, text in enumerate(texts):
            if max_chars and len(text) > max_chars:
                return "too_long", f"{what} {i} has {len(text)} characters, over {max_chars}"
    seen: dict[str, int] = {}
    for i, response in enumerate(item.responses):
        first = seen.setdefault(squeezed(response), i)
        if first != i:
            return "equal_responses", f"responses {first} and {i}"
    return None


def leak(messages: Sequence[Mapping[str, str]], responses: Sequence[str]) -> Flaw | None:
    """``answer_in_context`` if a judge would read an answer as part of the question, or None.

    That is a conversation that ends with a turn of the assistant, or one in which the assistant
    says one of the responses, but for white space. So does a system message, and a turn of the user
    right behind another: an answer under a wrong role. Other users may say what a response repeats.
    """
    if messages and messages[-1]["role"] == "assistant":
        return "answer_in_context", "the conversation ends with a turn of the assistant"
    answers = {squeezed(text): i for i, text in enumerate(responses) if text.strip()}
    roles = ["", *(message["role"] for message in messages)]
    for turn, message in enumerate(messages):
        answering = message["role"] in ("assistant", "system") or roles[turn] == "user"
        if message["role"] == "tool" or not answering:
            continue
        if squeezed(message["content"]) in answers:
            which = answers[squeezed(message["content"])]
            return "answer_in_context", f"turn {turn + 1} of the conversation is response {which}"
    return None


def length_flaw(item: Item, max_chars: int) -> Flaw | None:
    """``too_long`` if messages and responses together exceed ``max_chars`` (0: never)."""
    count = sum(len(message["content"]) for message in item.messages)
    count += sum(map(len, item.responses))
    if max_chars and count > max_chars:
        return "too_long", f"{count} characters in all, over {max_chars}"
    return None


def undecidable(item: Item) -> Flaw | None:
    """Why no judgement of a benchmark item could be called right or wrong, or None.

    ``tie``: several responses are equally good by the label, so that none is the one to pick;
    ``unverifiable``: one response whose label is not right or wrong. What people called a tie
    (``pair_tie`` without a winner) is kept: rules count it.
    """
    best = () if item.label.undecided or item.label.kind == "groups" else best_response(item)
    if not isinstance(best, tuple) or not best:
        return None
    if item.label.kind == "correct" and item.n > 1:
        right = sum(item.label.value)
        way = "; shape best_of or pair makes items of one right one" if 0 < right < item.n else ""
        return "tie", f"{right} of {item.n} responses are right, not one{way}"
    return best


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
