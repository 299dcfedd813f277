"""The data of a run as the page tells them: the cards that ``prepare`` wrote beside its ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spct.report.ledgers import place, read_json

ROLES = {"train": "training", "bench": "benchmarks", "general": "general text"}


def data_block(ledgers: Sequence[Path]) -> dict[str, Any]:
    """``lines``, one for each role and seed, and ``sources`` of the first seed; both may be empty.

    Raises :class:`spct.artifact.BrokenArtifact` for a card that is no JSON. Data of older code
    have no card.
    """
    paths = [path.with_name("card.json") for path in ledgers if place(path)["stage"] == "prepare"]
    cards = [read_json(path) for path in paths if path.is_file()]
    return {
        "world": cards[0]["world"] if cards else "",
        "lines": [_line(card, role) for card in cards for role in ROLES],
        "sources": [_source(entry) for entry in cards[0]["sources"]] if cards else [],
        "seeds": len(cards),
    }


def _line(card: dict[str, Any], role: str) -> dict[str, Any]:
    part = card[role]
    return {
        "seed": card["seed"],
        "role": ROLES[role],
        "items": part["items"],
        "sets": _named(part.get("by_dataset", {})),
        "responses": _named(part.get("by_responses", {})),
        "labels": _named(part.get("by_label", {})),
        "prompt": part["prompt_characters"],
        "response": part["response_characters"],
    }


def _source(entry: dict[str, Any]) -> dict[str, Any]:
    dropped = _named(dict(sorted(entry["dropped"].items(), key=lambda pair: -pair[1])))
    page = entry["page"] if str(entry["page"]).startswith(("https://", "http://")) else ""
    return {**entry, "page": page, "dropped": dropped, "revision": entry["revision"][:12]}


def _named(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
