"""Scores of benchmark items that are real numbers, not written ones: one row an item and sample.

Nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from spct import artifact
from spct.kinds import BASELINES

CRITIC = "cloud"  # a scalar after a sampled critique
TRAINED = BASELINES
STOCK = "rm"  # a classifier that somebody else has trained
# How a table is read, in its manifest: one look; the mean over sampled critiques; the mean
# probability of a choice over sampled critiques.
SCALAR, MEAN_SCALAR, TOKEN_PROB = "scalar", "mean_scalar", "token_prob"
METHODS = (SCALAR, MEAN_SCALAR, TOKEN_PROB)
ONE_RESPONSE = "it compares two responses; there is one"
TOO_LONG = "longer than the model's context"

SCHEMA = pa.schema(
    [
        ("item_id", pa.large_string()),
        ("sample", pa.int32()),
        ("scores", pa.large_list(pa.float32())),
        ("refused", pa.large_string()),
        ("tokens", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Scored:
    """The scores of an item's responses, in their original order, or why there are none.

    ``tokens`` were read for them, over all passes that generate nothing. Where something was
    written first, ``completion_tokens`` of it, after prompts of ``prompt_tokens`` that all samples
    share. Exactly one of ``scores`` and ``refused`` is given.
    """

    item_id: str
    scores: list[float] | None
    refused: str = ""
    tokens: int = 0
    sample: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def write(path: Path, rows: Sequence[Scored], *, method: str = SCALAR, **manifest: Any) -> None:
    """Write the rows atomically; the manifest gets the method and a ledger of the refusals.

    Raises ``ValueError`` for a repeated (item, sample), and for a row with scores and a refusal or
    with neither.
    """
    for row in rows:
        if (row.scores is None) != bool(row.refused):
            raise ValueError(f"{path}: item {row.item_id} needs either scores or a refusal")
    counts = Counter(row.refused or "scored" for row in rows)
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    own = {"method": method, "ledger": dict(sorted(counts.items()))}
    artifact.write_table(path, table, key=("item_id", "sample"), kind="scores", **manifest, **own)


def read(path: Path) -> list[Scored]:
    """The rows in file order. Raises :class:`spct.artifact.BrokenArtifact`."""
    return [Scored(**row) for row in artifact.read_table(path, SCHEMA, kind="scores").to_pylist()]
