"""Named filters of a source: which of its items are clear enough to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spct.data.flaws import Flaw
from spct.records import Item

Options = Mapping[str, str | int | float]
Filter = Callable[[Item, Options], Flaw | None]


def _min_gap(item: Item, options: Options) -> Flaw | None:
    """The best grade leads by ``options.min_gap`` at least."""
    if item.n < 2:
        return "no_gap", "one response, and no other to lead by a gap"
    first, second = sorted(item.label.value, reverse=True)[:2]
    least = float(options["min_gap"])
    return None if first - second >= least else ("small_gap", f"{first - second:.3g} < {least:g}")


def _min_strength(item: Item, options: Options) -> Flaw | None:
    """The preference is of strength ``options.min_strength`` at least."""
    given = item.label.value.get("strength")
    if given is None:
        return "no_strength", "a preference without a strength"
    strength, least = float(given), float(options["min_strength"])
    return None if strength >= least else ("weak_preference", f"{strength:g} < {least:g}")


def _single_turn(item: Item, options: Options) -> Flaw | None:
    """One user turn, perhaps after a system message."""
    turns = sum(message["role"] != "system" for message in item.messages)
    return None if turns == 1 else ("many_turns", f"{turns} turns")


FILTERS: dict[str, Filter] = {
    "min_gap": _min_gap,
    "min_strength": _min_strength,
    "single_turn": _single_turn,
}
KINDS = {"min_gap": "graded", "min_strength": "pair_tie"}
NEEDS = {"min_gap": "min_gap", "min_strength": "min_strength"}  # filter -> its option


def filtered(item: Item, name: str, options: Options) -> Flaw | None:
    """Why the filter (``""``: none) drops the item, or None.

    ``other_kind`` where its label is not of the kind that the filter reads.
    """
    if not name:
        return None
    if KINDS.get(name, item.label.kind) != item.label.kind:
        return "other_kind", f"filter {name} reads {KINDS[name]}, not {item.label.kind}"
    return FILTERS[name](item, options)
