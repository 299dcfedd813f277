"""MATH problems with sampled solutions, graded by their final answer (Hendrycks et al. 2021; MIT).

Upstream's rows ``{problem, level, type, solution}`` with ``responses`` added: a list of solutions
that a model wrote (the paper samples its own and says no more). A solution is right if its last
boxed answer is that of upstream's solution (:mod:`spct.data.answers`). Not run on the real file:
tested on rows written by hand in upstream's schema, and on GSM8K's problems and solutions in it.
"""

from __future__ import annotations

from spct.data.answers import final_answer, same
from spct.data.sources.base import BadRow, Row, build, by_row
from spct.data.sources.turns import kind_of
from spct.records import Item, Label
from spct.schema import SourceConfig


def make(row: Row, source: SourceConfig) -> Item:
    truth = final_answer(row["solution"])
    if truth is None:
        raise BadRow("no_label", "the reference solution boxes no answer")
    if not row.get("responses"):
        raise BadRow("no_response", "no sampled solutions; add a list `responses` to the rows")
    if not isinstance(row["responses"], list):
        raise BadRow("bad_row", f"responses is {kind_of(row['responses'])}, not a list")
    answers = [final_answer(response) for response in row["responses"]]
    return build(
        source,
        row["problem"],
        row["responses"],
        Label("correct", [answer is not None and same(answer, truth) for answer in answers]),
        subset=row["type"],
        domain="math",
        reference=truth,
        meta={"level": row["level"]},
    )


load = by_row(make)
