"""The ``audit`` stage: does anything to train on overlap the benchmarks, and how much of them?"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact
from spct.data.general import read_general
from spct.data.overlap import Index
from spct.data.text import normal, questions
from spct.errors import StageStopped
from spct.records import Item, read_items

if TYPE_CHECKING:
    from spct.config import Slice

SHOWN = 20  # pairs printed where the audit fails; all of them are in the file


@dataclass(frozen=True)
class Text:
    """A text that is compared: the prompt of an item or one of its responses."""

    owner: str  # item id
    dataset: str
    part: str  # prompt | response
    text: str
    publishable: bool


@dataclass(frozen=True)
class Pair:
    """A training text that has (a share of) a benchmark's text in it."""

    train: str
    bench: str
    dataset: str  # the benchmark
    part: str  # of the benchmark item: prompt | response
    kind: str  # exact: reads the same; ngram
    share: float  # of the benchmark text's shingles


def item_texts(items: Iterable[Item]) -> Iterator[Text]:
    """Prompt and responses of items, as texts to compare."""
    for item in items:
        free = bool(item.meta.get("publishable", True))
        for question in questions(item):
            yield Text(item.id, item.dataset, "prompt", question, free)
        for response in item.responses:
            yield Text(item.id, item.dataset, "response", response, free)


def general_texts(pairs: Iterable[tuple[str, str]]) -> Iterator[Text]:
    """General text, with the ids of its file."""
    for i, (prompt, completion) in enumerate(pairs):
        for part, text in (("prompt", prompt), ("response", completion)):
            yield Text(f"general-{i:06d}", "general", part, text, False)


def overlaps(
    train: Iterable[Text], bench: Iterable[Text], ngram: int, share: float
) -> Iterator[tuple[Pair, Text]]:
    """Pairs that overlap, with the benchmark's text, each (train, bench, part) once.

    ``exact``: prompts that read the same, however short. ``ngram``: a training text holds at least
    ``share`` of the distinct runs of ``ngram`` words of a benchmark prompt or response; shorter
    benchmark texts have none.
    """
    unique: dict[tuple[str, str], list[Text]] = defaultdict(list)
    for text in bench:
        unique[text.part, normal(text.text)].append(text)
    groups = list(unique.values())
    index = Index([group[0].text for group in groups], ngram)
    done: set[tuple[str, str, str]] = set()
    for mine in train:
        equal = unique.get(("prompt", normal(mine.text)), []) if mine.part == "prompt" else []
        found = [("exact", 1.0, equal)]
        found += [("ngram", much, groups[at]) for at, much in index.shares(mine.text, share)]
        for kind, much, group in found:
            for theirs in group:
                key = (mine.owner, theirs.owner, theirs.part)
                if key not in done:
                    done.add(key)
                    names = (mine.owner, theirs.owner, theirs.dataset, theirs.part)
                    yield Pair(*names, kind, round(much, 4)), theirs


def run(
    cfg: Slice, seed: int, *, train: Path, bench: Path, general: Path | None = None, out: Path
) -> None:
    """Write the overlap of each benchmark, and beside it all pairs as ``overlap.jsonl``.

    Reads ``cfg.audit``. Raises :class:`~spct.errors.StageStopped` if of any benchmark more than
    ``max_overlap`` of the items overlap; the list of pairs is written before. It has the text of
    publishable benchmarks only.
    """
    spec, items = cfg.audit, read_items(bench)
    mine = [
        *item_texts(read_items(train)),
        *general_texts(read_general(general) if general else []),
    ]
    found = list(overlaps(mine, item_texts(items), spec.ngram, spec.share))
    pairs = out.with_name("overlap.jsonl")
    artifact.write_text(pairs, "".join(_line(pair, text) for pair, text in found))
    summary = summarise([pair for pair, _ in found], items)
    over = [
        f"{part['items']} of {part['of']} items of {name}"
        for name, part in summary.items()
        if part["rate"] > spec.max_overlap
    ]
    if over:
        for pair, _ in found[:SHOWN]:
            print(f"audit: {pair.train} has {pair.kind} {pair.part} of {pair.bench} "
                  f"({pair.share:.0%})", file=sys.stderr)  # fmt: skip
        raise StageStopped(
            f"audit: {', '.join(over)} overlap the training data, over audit.max_overlap = "
            f"{spec.max_overlap}; {pairs} lists the pairs: drop the training source, set "
            "data.drop_overlap, or raise audit.max_overlap"
        )
    identity = {"stage": "audit", "seed": seed, "slice": cfg.as_dict()}
    artifact.write_json(out, {**identity, "benchmarks": summary, "pairs": len(found)})


def summarise(pairs: Iterable[Pair], bench: Iterable[Item]) -> dict[str, dict[str, Any]]:
    """By benchmark: its items (``of``), those that overlap (``items``), their share (``rate``)."""
    touched: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        touched[pair.dataset].add(pair.bench)
    sizes: dict[str, int] = defaultdict(int)
    for item in bench:
        sizes[item.dataset] += 1
    return {
        name: {"of": of, "items": len(touched[name]), "rate": len(touched[name]) / of}
        for name, of in sorted(sizes.items())
    }


def _line(pair: Pair, text: Text) -> str:
    entry: dict[str, Any] = asdict(pair)
    if text.publishable:
        entry["text"] = text.text
    return json.dumps(entry, ensure_ascii=False) + "\n"
