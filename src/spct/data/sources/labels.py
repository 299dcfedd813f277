"""Labels as people write them, as :class:`~spct.records.Label`; by the words of :func:`read`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from spct.data.sources.base import BadRow, Row
from spct.data.sources.turns import kind_of
from spct.records import LABEL_KINDS, Item, Label
from spct.schema import SourceConfig

_NAMED = re.compile(
    r"(?:(?:model|response|assistant|answer|output|candidate|option|completion)[ _-]?)?([a-z])"
)
_ORDER = re.compile(r"([ab])\s*([<>=]+)\s*([ab])")
_TIES = {"tie", "draw", "equal", "same", "both", "neither", "bothbad", "tie(bothbad)"}
# What grades two named answers; chosen must lead. Then what grades or ranks a list of them.
PAIR_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
SCORES, RANKS = ("scores", "ratings"), ("ranks", "rankings", "ranking")


def read(value: Any, kind: object, n: int, first: int = 0) -> Label:
    """A label of ``n`` responses, whose indices count from ``first``.

    Text is read as JSON, or as the name of a response: ``A``, ``model_b``, ``A>B``, ``tie``. Raises
    :class:`BadRow` for one that says nothing; what it says is checked by
    :func:`spct.data.flaws.label_flaw`.
    """
    if kind not in LABEL_KINDS:
        known = ", ".join(LABEL_KINDS)
        raise BadRow("bad_label", f"an unknown kind of label; known: {known}")
    value = _decoded(value)
    if value is None and kind != "pair_tie":
        raise BadRow("no_label", "the label is null or missing")
    return Label(str(kind), _READ[str(kind)](value, n, first))


def first_index(source: SourceConfig) -> int:
    """What the labels of a source count from."""
    return int(source.options.get("first_index", 0))


def of_pair(row: Row) -> None:
    """Scores beside ``chosen`` and ``rejected`` must agree. Raises :class:`BadRow`.

    ``two_labels`` where the rejected one leads, ``tie`` where both have one score, ``bad_label``
    for a score that is no number.
    """
    for good, bad in PAIR_SCORES:
        one, other = (_score(row.get(name), name) for name in (good, bad))
        if one is not None and other is not None and one <= other:
            reason, how = ("tie", "equals") if one == other else ("two_labels", "is below")
            raise BadRow(reason, f"{good} {how} {bad}")


def of_list(row: Row, n: int) -> Label | None:
    """The label that lists of scores (higher is better) and ranks (1 is best) make, if any.

    Raises :class:`BadRow`: ``bad_label`` for one that is no list of ``n`` numbers, ``two_labels``
    where scores and ranks put two responses the other way round.
    """
    scores = _numbers(row, SCORES, n)
    ranks = _numbers(row, RANKS, n)
    if ranks is not None:
        if 0 in ranks:
            told = "ranks count from 1, the best; with a 0 they may be an order of the responses"
            raise BadRow("bad_label", told)
        ranks = [-rank for rank in ranks]
    if scores is not None and ranks is not None:
        pairs = [(i, j) for i in range(n) for j in range(n)]
        if any(scores[i] > scores[j] and ranks[i] < ranks[j] for i, j in pairs):
            raise BadRow("two_labels", "scores and ranks order the responses differently")
    found = scores if scores is not None else ranks
    return None if found is None else Label("graded", found)


def indices(item: Item) -> list[int]:
    """The responses that an item's label names by index."""
    value = item.label.value
    if item.label.kind == "pair_tie" and isinstance(value, dict):
        value = value.get("winner")
    elif item.label.kind == "groups" and isinstance(value, dict):
        value = [*_list(value.get("better")), *_list(value.get("worse"))]
    elif item.label.kind not in ("best", "pair_tie", "votes"):
        return []
    return [i for i in (value if isinstance(value, list) else [value]) if type(i) is int]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _decoded(value: Any) -> Any:
    """Text as the JSON that it may be; a missing number of a table (NaN) as null."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value.strip().lower()
    return None if missing(value) else value


def _index(value: Any, n: int, first: int) -> Any:
    """An index from 0, or None for a tie; what is neither stays as it is."""
    if isinstance(value, str):
        return _by_name(value, n)
    if isinstance(value, bool):
        raise BadRow("bad_label", "the label is true or false, not the index of a response")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value - first if isinstance(value, int) else value


def _by_name(word: str, n: int) -> int | None:
    word = word.strip().lower()
    if word in _TIES or re.sub(r"[\s_-]", "", word) in _TIES:
        return None
    if found := _ORDER.fullmatch(word):
        left, sign, right = found.groups()
        if left != right and set(sign) in ({">"}, {"<"}, {"="}):
            ends = {"<": right, ">": left, "=": None}[sign[0]]
            return None if ends is None else ord(ends) - ord("a")
    if (found := _NAMED.fullmatch(word)) and ord(found[1]) - ord("a") < n:
        return ord(found[1]) - ord("a")
    raise BadRow(
        "bad_label",
        "the label is text that names no response; known are an index, A, model_a, A>B and tie",
    )


def _best(value: Any, n: int, first: int) -> Any:
    found = _index(value, n, first)
    if found is None:
        raise BadRow("tie", "the label calls it a tie; kind pair_tie or votes keeps ties")
    return found


def _pair(value: Any, n: int, first: int) -> Any:
    if isinstance(value, Mapping):
        return {**value, "winner": _index(value.get("winner"), n, first)}
    return {"winner": _index(value, n, first), "strength": 1}


def _graded(value: Any, n: int, first: int) -> Any:
    if isinstance(value, list):
        return [one if (number := _finite(one)) is None else number for one in value]
    number = _finite(value)
    return value if number is None else [number]


def _correct(value: Any, n: int, first: int) -> Any:
    value = value if isinstance(value, list) else [value]
    return [bool(one) if type(one) is int and one in (0, 1) else one for one in value]


def _groups(value: Any, n: int, first: int) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        name: [_index(one, n, first) for one in ones] if isinstance(ones, list) else ones
        for name, ones in value.items()
    }


def _votes(value: Any, n: int, first: int) -> Any:
    return [_index(one, n, first) for one in value] if isinstance(value, list) else value


_READ = {
    "best": _best, "pair_tie": _pair, "graded": _graded, "correct": _correct, "groups": _groups,
    "votes": _votes,
}  # fmt: skip


def _finite(value: Any) -> float | int | None:
    """A number, also one written as text; None for anything else."""
    try:
        if isinstance(value, str):
            value = float(value)
        known = type(value) in (int, float) and math.isfinite(value)
    except (ValueError, OverflowError):
        return None
    return value if known else None


def _score(value: Any, name: str) -> float | int | None:
    found = _finite(value)
    if found is None and not missing(value):
        raise BadRow("bad_label", f"{name} is no number that a float can hold")
    return found


def missing(value: Any) -> bool:
    """Whether there is no value: null, or a table's missing number (NaN)."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def winner(row: Row, n: int = 2, first: int = 0) -> Label:
    """The column ``winner`` as a ``pair_tie``; a missing winner is no tie."""
    if missing(row["winner"]):
        raise BadRow("no_label", "winner is null or missing")
    return read(row["winner"], "pair_tie", n, first)


def strength(value: Any, name: str) -> Label:
    """A signed preference as a ``pair_tie``: below 0 the first response is better, 0 is a tie."""
    found = _finite(value)
    if found is None or found != int(found):
        raise BadRow("no_label", f"{name} is {kind_of(value)}, not a whole number")
    index = None if found == 0 else int(found > 0)
    return Label("pair_tie", {"winner": index, "strength": abs(int(found))})


def _numbers(row: Row, names: Sequence[str], n: int) -> list[float | int] | None:
    for name in names:
        if row.get(name) is not None:
            found = [_finite(one) for one in _list(row[name])]
            if len(found) != n or None in found:
                told = f"{name} is {kind_of(row[name])}, not a list of {n} finite number(s)"
                raise BadRow("bad_label", told)
            return [one for one in found if one is not None]
    return None
