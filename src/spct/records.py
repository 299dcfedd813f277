"""The two record types everything is a query on: preference items and judged samples.

``Item`` is one judging problem with its label; ``Sample`` is one judgement of it, kept whole in a
*bank* whatever came of it. Both live in Parquet; nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from spct import artifact

LABEL_KINDS = ("best", "pair_tie", "graded", "correct", "groups", "votes")
Kind = Literal["sample", "greedy", "hinted"]


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


@dataclass
class Sample:
    """One judgement of one item: a row of the bank.

    ``order[p]`` is the original index of the response shown at position ``p``; ``scores`` are in
    the *original* order. ``scores`` and ``correct`` are ``None`` unless ``outcome == "ok"``.
    ``logprob`` is the sampler's own sum over the completion tokens (nats).
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

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.item_id, self.kind, self.sample)


ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("subset", pa.string()),
        ("domain", pa.string()),
        ("messages", pa.string()),
        ("responses", pa.list_(pa.string())),
        ("label_kind", pa.string()),
        ("label", pa.string()),
        ("reference", pa.string()),
        ("meta", pa.string()),
    ]
)

BANK_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("kind", pa.string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("order", pa.list_(pa.int16())),
        ("model", pa.string()),
        ("template", pa.string()),
        ("text", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("logprob", pa.float32()),
        ("finish", pa.string()),
        ("outcome", pa.string()),
        ("scores", pa.list_(pa.int16())),
        ("correct", pa.bool_()),
        ("meta_score", pa.float32()),
    ]
)


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
    """Write one bank shard atomically; raises ``ValueError`` on a repeated (item, kind, sample)."""
    table = pa.Table.from_pylist([asdict(sample) for sample in samples], schema=BANK_SCHEMA)
    artifact.write_table(path, table, key=("item_id", "kind", "sample"), kind="bank", **manifest)


def read_bank(paths: Path | Iterable[Path]) -> Iterator[Sample]:
    """Samples of one or several shards, in file order."""
    for path in [paths] if isinstance(paths, Path) else paths:
        for row in artifact.read_table(path, BANK_SCHEMA, kind="bank").to_pylist():
            yield Sample(**row)
