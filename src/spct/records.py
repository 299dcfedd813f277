"""The two record types everything is a query on: preference items and judged samples.

``Item`` is one judging problem with its label; ``Sample`` is one judgement of it, kept whole in a
*bank* whatever came of it. Both live in Parquet; nothing here imports torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from spct import artifact
from spct.bank import versions

LABEL_KINDS = ("best", "pair_tie", "graded", "correct", "groups", "votes")
Kind = Literal["sample", "greedy", "hinted"]
WITHHELD = "(withheld: the owner of the data asks not to republish it)"


@dataclass(frozen=True)
class Label:
    """Ground truth of an item.

    ``kind`` says how to read ``value``: ``best`` index of the best response; ``pair_tie``
    ``{"winner": 0 | 1 | None, "strength": …}``; ``graded`` a score per response; ``correct`` a bool
    per response; ``groups`` ``{"better": […], "worse": […]}``; ``votes`` one winner per annotator.
    """

    kind: str
    value: Any

    def __post_init__(self) -> None:
        if self.kind not in LABEL_KINDS:
            raise ValueError(f"label kind {self.kind!r} is not one of {', '.join(LABEL_KINDS)}")

    @property
    def undecided(self) -> bool:
        """Whether people called it a tie: no judgement is right, a tied one may agree."""
        return self.kind == "pair_tie" and self.value["winner"] is None


@dataclass(frozen=True)
class Item:
    """One judging problem: a conversation, its candidate responses and the label."""

    id: str
    dataset: str
    subset: str
    domain: str
    messages: tuple[dict[str, str], ...]
    responses: tuple[str, ...]
    label: Label
    reference: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.responses)

    @property
    def publishable(self) -> bool:
        """Whether its text, or text written about it, may leave the ignored ``results/``."""
        return self.meta.get("publishable") is not False


@dataclass
class Sample:
    """One judgement of one item: a row of the bank.

    ``order[p]`` is the original index of the response shown at position ``p``; ``scores`` are in
    the *original* order. ``scores`` and ``correct`` are ``None`` unless ``outcome == "ok"``.
    ``logprob`` is the sampler's own sum over the completion tokens (nats). ``principles`` is what
    stood in the prompt as the criteria to use, ``None`` where the judge wrote its own;
    ``principle_tokens`` what it cost to write them beforehand, once per query.
    """

    item_id: str
    kind: Kind
    sample: int
    seed: int
    order: list[int]
    model: str
    template: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    logprob: float | None
    finish: str
    outcome: str
    scores: list[int] | None
    correct: bool | None
    meta_score: float | None = None
    principles: str | None = None
    principle_tokens: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.item_id, self.kind, self.sample)


ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("dataset", pa.large_string()),
        ("subset", pa.large_string()),
        ("domain", pa.large_string()),
        ("messages", pa.large_string()),
        ("responses", pa.large_list(pa.large_string())),
        ("label_kind", pa.large_string()),
        ("label", pa.large_string()),
        ("reference", pa.large_string()),
        ("meta", pa.large_string()),
    ]
)

BANK_SCHEMA = pa.schema(
    [
        ("item_id", pa.large_string()),
        ("kind", pa.large_string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("order", pa.large_list(pa.int16())),
        ("model", pa.large_string()),
        ("template", pa.large_string()),
        ("text", pa.large_string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("logprob", pa.float32()),
        ("finish", pa.large_string()),
        ("outcome", pa.large_string()),
        ("scores", pa.large_list(pa.int16())),
        ("correct", pa.bool_()),
        ("meta_score", pa.float32()),
        ("principles", pa.large_string()),
        ("principle_tokens", pa.int32()),
    ]
)
BATCH_ROWS = 65_536


def write_items(path: Path, items: Iterable[Item], **manifest: Any) -> None:
    """Write items atomically; raises ``ValueError`` on a repeated id."""
    rows = [
        {
            "id": item.id,
            "dataset": item.dataset,
            "subset": item.subset,
            "domain": item.domain,
            "messages": json.dumps(list(item.messages), ensure_ascii=False),
            "responses": list(item.responses),
            "label_kind": item.label.kind,
            "label": json.dumps(item.label.value),
            "reference": item.reference,
            "meta": json.dumps(item.meta, sort_keys=True, ensure_ascii=False),
        }
        for item in items
    ]
    table = pa.Table.from_pylist(rows, schema=ITEM_SCHEMA)
    artifact.write_table(path, table, key=("id",), kind="items", **manifest)


def read_items(path: Path) -> list[Item]:
    """Items of one file, in file order. Raises ``artifact.BrokenArtifact``."""
    table = artifact.read_table(path, ITEM_SCHEMA, kind="items")
    return [
        Item(
            id=row["id"],
            dataset=row["dataset"],
            subset=row["subset"],
            domain=row["domain"],
            messages=tuple(json.loads(row["messages"])),
            responses=tuple(row["responses"]),
            label=Label(row["label_kind"], json.loads(row["label"])),
            reference=row["reference"],
            meta=json.loads(row["meta"]),
        )
        for row in table.to_pylist()
    ]


def write_bank(path: Path, samples: Sequence[Sample], **manifest: Any) -> None:
    """Write one bank shard atomically; raises ``ValueError`` on a repeated (item, kind, sample).

    The manifest gets the ledger of :func:`ledger` and the version of the row.
    """
    table = pa.Table.from_pylist([asdict(sample) for sample in samples], schema=BANK_SCHEMA)
    own = {"bank_version": versions.CURRENT, "ledger": ledger(samples)}
    artifact.write_table(
        path, table, key=("item_id", "kind", "sample"), kind="bank", **{**manifest, **own}
    )


def ledger(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Counts of rows by kind, then outcome."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(sample.kind, Counter())[str(sample.outcome)] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def bank_batches(path: Path, columns: Sequence[str] = BANK_SCHEMA.names) -> Iterator[pa.Table]:
    """Some columns of one shard, :data:`BATCH_ROWS` rows at a time, in today's version.

    Raises :class:`spct.artifact.BrokenArtifact` for a file that is missing, truncated or no bank,
    :class:`spct.bank.versions.UnknownVersion` for one of another age.
    """
    found = versions.check(artifact.read_manifest(path), path)
    schema = pa.schema([BANK_SCHEMA.field(name) for name in columns])
    for rows in artifact.table_batches(path, columns, kind="bank", size=BATCH_ROWS):
        rows = versions.lift(rows, found)
        if missing := sorted(set(columns) - set(rows.column_names)):
            raise artifact.BrokenArtifact(
                f"{path} lacks the columns {missing}; delete it and run again"
            )
        yield rows.select(schema.names).cast(schema)


def read_bank(paths: Path | Iterable[Path]) -> Iterator[Sample]:
    """Samples of one or several shards, in file order."""
    for path in [paths] if isinstance(paths, Path) else paths:
        for rows in bank_batches(path):
            yield from (Sample(**row) for row in rows.to_pylist())
