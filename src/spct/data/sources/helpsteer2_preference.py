"""HelpSteer2-Preference: human preferences with a strength of 1 to 3 (Wang et al. 2024; CC BY 4.0).

Rows ``{split, prompt, response_1, response_2, preference_strength}``; a negative strength prefers
the first response, 0 is a tie. A prompt of several turns marks them by ``<extra_id_1>``. Not run
on the real file: tested on rows written by hand in upstream's schema.
"""

from __future__ import annotations

import re

from spct.data.sources.base import Row, build, by_row, of_split
from spct.data.sources.labels import strength
from spct.records import Item
from spct.schema import SourceConfig

TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")


def turns(prompt: str) -> list[dict[str, str]]:
    """A prompt as messages; it begins with the user's first turn, unmarked."""
    first, *parts = TURN.split(prompt)
    pairs = [("User", first), *zip(parts[::2], parts[1::2], strict=True)]
    return [{"role": role.lower(), "content": text.strip()} for role, text in pairs]


def make(row: Row, source: SourceConfig) -> Item:
    of_split(row, source, "split")
    return build(
        source,
        turns(row["prompt"]),
        (row["response_1"], row["response_2"]),
        strength(row["preference_strength"], "preference_strength"),
    )


load = by_row(make)
