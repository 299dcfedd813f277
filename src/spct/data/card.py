"""The data card of a run: what it trains on and is measured on, where from, and what was left out.

Numbers and names only: no text of any source.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spct import artifact
from spct.data.book import Account, Book
from spct.data.text import conversation
from spct.records import Item

QUANTILES = {"median": 0.5, "p95": 0.95, "max": 1.0}


def write(path: Path, card: dict[str, Any]) -> None:
    """The card as JSON, and as a page of Markdown beside it (``.md``)."""
    artifact.write_json(path, card)
    artifact.write_text(path.with_suffix(".md"), page(card))


def describe(items: Iterable[Item]) -> dict[str, Any]:
    """Counts by source, number of responses and label kind; lengths in characters."""
    items = list(items)
    prompts = [len(conversation(item)) for item in items]
    responses = [len(text) for item in items for text in item.responses]
    return {
        "items": len(items),
        "by_dataset": _counts(item.dataset for item in items),
        "by_responses": _counts(str(item.n) for item in items),
        "by_label": _counts(item.label.kind for item in items),
        "prompt_characters": lengths(prompts),
        "response_characters": lengths(responses),
    }


def lengths(values: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile and maximum; empty for no values."""
    if not values:
        return {}
    return {name: int(np.quantile(values, q, method="higher")) for name, q in QUANTILES.items()}


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def describe_pairs(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Count and lengths of general text."""
    return {
        "items": len(pairs),
        "prompt_characters": lengths([len(prompt) for prompt, _ in pairs]),
        "response_characters": lengths([len(completion) for _, completion in pairs]),
    }


def sources(book: Book) -> list[dict[str, Any]]:
    """Every source in its role: place, files with hashes, licence, and its balance."""
    return [_source(account) for account in book.accounts]


def _source(account: Account) -> dict[str, Any]:
    source = account.source
    return {
        "role": account.role,
        "name": source.name,
        "page": source.page,
        "license": source.license,
        "publishable": source.publishable,
        "place": next((file.place for file in account.files), ""),
        "revision": account.commit,
        "pinned": account.pinned,
        "files": {file.name: file.sha256 for file in account.files},
        "split": source.split,
        "filter": source.filter,
        "shape": source.shape,
        "in": account.seen,
        "kept": account.kept,
        "ties": account.ties,
        "sha256_of_no_file": account.unmatched,
        "dropped": dict(sorted(account.drops.items())),
    }


# ---- the page --------------------------------------------------------------------------------


def page(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    parts = [f"# Data card\n\nWorld `{card['world']}`, seed {card['seed']}."]
    for role in ("train", "bench", "general"):
        parts.append(_role(role, card[role]))
    if card["sources"]:
        parts.append(_sources(card["sources"]))
        parts.append(_drops(card["sources"]))
    return "\n\n".join(parts) + "\n"


def _role(role: str, part: dict[str, Any]) -> str:
    lines = [f"## {role}: {part['items']:,} items", ""]
    for title, key in (("Sets", "by_dataset"), ("Responses", "by_responses"),
                       ("Labels", "by_label")):  # fmt: skip
        if part.get(key):
            lines.append(f"- {title}: {_named(part[key])}")
    for title, key in (("Prompt", "prompt_characters"), ("Response", "response_characters")):
        if part[key]:
            lines.append(f"- {title}, characters: {_named(part[key])}")
    return "\n".join(lines)


def _named(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _sources(entries: list[dict[str, Any]]) -> str:
    head = (
        "## Sources\n\n| role | source | from | revision | licence | in | kept |\n" + "| --- " * 7
    )
    rows = []
    for entry in entries:
        name = f"[{entry['name']}]({entry['page']})" if entry["page"] else entry["name"]
        revision = entry["revision"][:12] + ("" if entry["pinned"] else " (revision not pinned)")
        licence = entry["license"] + ("" if entry["publishable"] else " (not to be published)")
        cells = (entry["role"], name, entry["place"], revision, licence)
        rows.append(f"| {' | '.join(cells)} | {entry['in']:,} | {entry['kept']:,} |")
    return "\n".join([head + "|", *rows])


def _drops(entries: list[dict[str, Any]]) -> str:
    table: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for reason, count in entry["dropped"].items():
            table[reason].append(f"{entry['role']} {entry['name']} {count:,}")
    lines = [f"- {reason}: {', '.join(places)}" for reason, places in sorted(table.items())]
    return "\n".join(["## Left out, by reason", "", *(lines or ["Nothing."])])
