"""Anthropic's hh-rlhf: human preferences between two transcripts (Bai et al. 2022; MIT).

Rows ``{"chosen", "rejected"}``. A few pairs differ before the last turn; they are dropped.
"""

from __future__ import annotations

import re

from spct.data.sources.base import BadRow, Messages, Row, build, by_row, two_replies
from spct.records import Item, Label
from spct.schema import SourceConfig

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is a transcript in this form: a turn of a human, then one of an assistant."""
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text.replace("\r\n", "\n")


def turns(transcript: str) -> Messages:
    """A transcript as messages. Raises ``BadRow`` for text before the first turn."""
    text = transcript.replace("\r\n", "\n").lstrip()
    before, *parts = TURN.split(f"\n\n{text}")
    if before.strip():
        raise BadRow("bad_row", "text before the first turn")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple({"role": ROLES[role], "content": text.strip()} for role, text in pairs)


def make(row: Row, source: SourceConfig) -> Item:
    context, responses = two_replies(turns(row["chosen"]), turns(row["rejected"]))
    return build(source, context, responses, Label("best", 0))


load = by_row(make)
