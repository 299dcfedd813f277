"""Judgements to read by hand: a few right, wrong and unreadable ones of every policy.

They are not picked by how they look. Items stand in one seeded order for all policies; the first
sample of an item goes to the first free place of its verdict, from a benchmark not shown there yet
where there is one. Items whose owner asks not to republish them are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spct import artifact, seeds
from spct.judge.parse import Outcome
from spct.judge.predicate import sides
from spct.records import Item, Sample, bank_batches, read_items
from spct.scaling.lines import policy_name

# How many of each verdict a policy shows.
PLACES = {"right": 2, "wrong": 2, "unreadable": 1}
_COLUMNS = ("item_id", "kind", "sample", "outcome", "correct")
_MARK = "Critique:"  # what the prompts ask for after the principles


def example_block(banks: Sequence[Path], bench_items: Sequence[Path], size: str) -> dict[str, Any]:
    """``policies`` with their examples at one size, of the first seed, and how many were withheld.

    ``banks`` are the shards of all judges and seeds, ``bench_items`` the items of each seed. Raises
    :class:`spct.artifact.BrokenArtifact` for a file that is missing, truncated or of another kind.
    """
    shards = [(path, artifact.read_manifest(path)) for path in banks]
    mine = [(path, told) for path, told in shards if told.get("size") == size]
    if not mine or not bench_items:
        return {"policies": [], "withheld": 0, "seed": None}
    seed = min(_seed(told) for _, told in mine)
    files = [path for path in bench_items if _seed(artifact.read_manifest(path)) == seed]
    items = {item.id: item for path in files for item in read_items(path)}
    free = {name: item for name, item in items.items() if item.publishable}
    by_policy: dict[str, list[Path]] = {}
    for path, told in mine:
        if _seed(told) == seed:
            by_policy.setdefault(str(told.get("policy")), []).append(path)
    policies = [
        {"name": f"{policy_name(policy)} {size}", "examples": list(_examples(paths, free))}
        for policy, paths in by_policy.items()
    ]
    return {"policies": policies, "withheld": len(items) - len(free), "seed": seed}


def _seed(manifest: Mapping[str, Any]) -> int:
    return int(manifest.get("seed", 0))


def _examples(paths: Sequence[Path], items: dict[str, Item]) -> Iterator[dict[str, Any]]:
    order = list(items)
    seeds.rng("report", "examples").shuffle(order)
    verdicts = dict(_verdicts(paths))
    chosen = _choose([(name, verdicts[name]) for name in order if name in verdicts], items)
    samples = _samples(paths, chosen)
    for name in chosen:
        yield _example(samples[name], items[name])


def _verdicts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Item and verdict of every item's first sample, without its text."""
    for path in paths:
        for rows in bank_batches(path, _COLUMNS):
            first = rows.filter(_first(rows))
            for row in first.to_pylist():
                verdict = _verdict(row["outcome"], row["correct"])
                if verdict:
                    yield row["item_id"], verdict


def _first(rows: pa.Table) -> Any:
    return pc.and_(pc.equal(rows["kind"], "sample"), pc.equal(rows["sample"], 0))


def _verdict(outcome: str, correct: bool | None) -> str:
    """Where a judgement belongs; nowhere if it is readable and its item has no right answer."""
    if outcome != Outcome.ok:
        return "unreadable"
    return "" if correct is None else ("right" if correct else "wrong")


def _choose(found: Iterable[tuple[str, str]], items: dict[str, Item]) -> list[str]:
    """Items for :data:`PLACES`, the places of one verdict together."""
    by_verdict: dict[str, list[str]] = {verdict: [] for verdict in PLACES}
    for name, verdict in found:
        by_verdict[verdict].append(name)
    chosen: list[str] = []
    for verdict, n in PLACES.items():
        shown: list[str] = []
        while len(shown) < n and (rest := [x for x in by_verdict[verdict] if x not in shown]):
            met = {items[name].dataset for name in shown}
            shown.append(next((x for x in rest if items[x].dataset not in met), rest[0]))
        chosen += shown
    return chosen


def _samples(paths: Sequence[Path], items: Sequence[str]) -> dict[str, Sample]:
    """The first sample of each of these items."""
    wanted = pa.array(items, pa.large_string())
    found: dict[str, Sample] = {}
    for path in paths:
        for rows in bank_batches(path):
            hits = rows.filter(pc.and_(_first(rows), pc.is_in(rows["item_id"], wanted)))
            found.update((row["item_id"], Sample(**row)) for row in hits.to_pylist())
    return found


def _example(sample: Sample, item: Item) -> dict[str, Any]:
    """What the page shows of a judgement, responses in the order the judge saw them."""
    principles, mark, critique = sample.text.partition(_MARK)
    best = _best(item)
    return {
        "verdict": _verdict(sample.outcome, sample.correct),
        "outcome": sample.outcome,
        "item": item.id,
        "where": " / ".join(dict.fromkeys((item.dataset, item.subset, item.domain))),
        "messages": item.messages,
        "reference": item.reference,
        "responses": [
            {
                "text": item.responses[at],
                "score": None if sample.scores is None else sample.scores[at],
                "best": at in best,
            }
            for at in sample.order
        ],
        "single": _truth(item),
        "given": sample.principles,
        "principles": principles.strip() if mark else "",
        "critique": (mark + critique).strip() if mark else sample.text.strip(),
        "tokens": sample.completion_tokens,
        "meta": sample.meta_score,
    }


def _best(item: Item) -> list[int]:
    """The responses that are best by the label, as far as it names any."""
    if item.n == 1:
        return []
    try:
        return sides(item.label, item.n)[0]
    except ValueError:
        return []


def _truth(item: Item) -> str:
    """What the label says of a response that stands alone; empty for several or no verdict."""
    if item.n > 1 or item.label.kind != "correct":
        return ""
    return "right" if item.label.value[0] else "wrong"
