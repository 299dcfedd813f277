"""HelpSteer2's ratings: one response a row, graded 0 to 4 (Wang et al. 2024; CC BY 4.0).

Rows ``{prompt, response, helpfulness, correctness, coherence, complexity, verbosity}``. The rows of
one prompt that follow each other make an item; ``options.attribute`` (helpfulness) is its grade.
Not run on the real file: tested on rows written by hand in upstream's schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from spct.data.reading import Dropped, named, rows
from spct.data.sources.base import BadRow, Row, build, made
from spct.data.sources.helpsteer2_preference import turns
from spct.data.sources.turns import text_of
from spct.records import Item, Label
from spct.schema import SourceConfig


def load(paths: Sequence[Path], source: SourceConfig) -> Iterator[Item | Dropped]:
    """Items of the prompts that have several rows; a prompt with one is dropped, ``no_pair``."""
    for path, name in named(paths):
        for asked, group in groupby(rows(path, name), key=_prompt):
            if asked is None:
                yield from (
                    found
                    if isinstance(found, Dropped)
                    else Dropped(found[0], "bad_row", "prompt is no text")
                    for found in group
                )
                continue
            several = [found for found in group if not isinstance(found, Dropped)]
            where = several[0][0]
            if len(several) == 1:
                yield Dropped(where, "no_pair", "the only row of its prompt")
            else:
                yield made(_make, where, {"prompt": asked, "rows": several}, source)


def _prompt(found: tuple[str, Row] | Dropped) -> str | None:
    asked = None if isinstance(found, Dropped) else found[1].get("prompt")
    return asked if isinstance(asked, str) else None


def _make(row: Row, source: SourceConfig) -> Item:
    attribute = str(source.options.get("attribute", "helpfulness"))
    grades = [one.get(attribute) for _, one in row["rows"]]
    if not all(type(grade) in (int, float) for grade in grades):
        raise BadRow("no_label", f"a row of the prompt has no number as {attribute}")
    responses = [text_of(one.get("response"), "response") for _, one in row["rows"]]
    return build(source, turns(row["prompt"]), responses, Label("graded", grades))
