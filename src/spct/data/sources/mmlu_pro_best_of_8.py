"""Eight models' answers to an MMLU-Pro question, right or wrong by the option they chose.

Rows with ``question``, ``options``, ``answer`` (a letter) and ``responses`` of ``{response,
correct, model, pred}``. Models and predictions stay in ``meta``: no judge sees them.
"""

from __future__ import annotations

from string import ascii_uppercase

from spct.data.sources.base import BadRow, Row, build, by_row
from spct.data.sources.turns import kind_of
from spct.records import Item, Label
from spct.schema import SourceConfig


def question(row: Row) -> str:
    """The question with its options, lettered."""
    if not isinstance(row["options"], list):
        raise BadRow("bad_row", f"options is {kind_of(row['options'])}, not a list")
    options = zip(ascii_uppercase, row["options"], strict=False)
    return "\n".join([row["question"], *(f"{letter}. {text}" for letter, text in options)])


def make(row: Row, source: SourceConfig) -> Item:
    answers = row["responses"]
    return build(
        source,
        question(row),
        [answer["response"] for answer in answers],
        Label("correct", [answer["correct"] for answer in answers]),
        id=row["question_id"],
        subset=row["category"],
        reference=row["answer"],
        meta={"models": [answer["model"] for answer in answers]},
    )


load = by_row(make)
