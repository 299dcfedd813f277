"""The paired comparisons that every run reports, with Holm's adjustment over the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from spct.scaling.measure import NOBODY, CellKey, Measured
from spct.scaling.stats import holm

COLUMNS = [
    *("run", "name", "benchmark", "a", "b", "k"),
    *("difference", "low", "high", "p_holm", "seeds_positive", "items"),
]
POLICIES = ("base", "rft", "grpo")
_STEPS = (("rft", "base"), ("grpo", "rft"))
_FILTERS = (
    ("meta_voting", "voting"),
    ("meta_voting", "margin_voting"),
    ("meta_voting", "random_voting"),
    ("oracle_voting", "voting"),
)


class Pair(NamedTuple):
    """``a`` minus ``b`` at ``k``; ``name`` is one family for Holm's adjustment."""

    name: str
    a: CellKey
    b: CellKey
    k: int


def sizes_by_params(measured: Measured) -> list[str]:
    """Model sizes from small to big; those of unknown size last."""
    return sorted(measured.params, key=lambda s: (measured.params[s] or float("inf"), s))


def compare(run: str, measured: Measured) -> list[dict[str, Any]]:
    """Rows of ``comparisons.csv``: every pair on every benchmark, seeds pooled."""
    groups = [group for group in measured.groups if group.subset == "all"]
    rows = []
    for pair in pairs(measured):
        found = [(group, measured.difference(pair.a, pair.b, group)) for group in groups]
        adjusted = holm([difference.p for _, difference in found])
        for (group, difference), p in zip(found, adjusted, strict=True):
            rows.append(
                {
                    "run": run,
                    "name": pair.name,
                    "benchmark": group.benchmark,
                    "a": str(pair.a),
                    "b": str(pair.b),
                    "k": pair.k,
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "p_holm": p,
                    "seeds_positive": f"{difference.positive}/{difference.seeds}",
                    "items": difference.items,
                }
            )
    return rows


def pairs(measured: Measured) -> Iterator[Pair]:
    """The comparisons that the cells at hand allow, at the fewest or the most votes of a bank."""
    cells = {key[:4]: key for key in measured.cells if key.policy != NOBODY}
    votes: dict[tuple[str, str], list[int]] = {}  # k by policy and size; greedy is no vote
    for key in cells.values():
        if key.method == "voting":
            votes.setdefault(key[:2], []).append(key.k)
    few = min((min(ks) for ks in votes.values()), default=0)

    def pair(name: str, a: tuple[str, str, str, int], b: tuple[str, str, str, int]) -> list[Pair]:
        return [Pair(name, cells[a], cells[b], a[3])] if a in cells and b in cells else []

    sizes = sizes_by_params(measured)
    for size in sizes:
        for better, worse in _STEPS:
            name = f"{better} - {worse} @{few}, {size}"
            yield from pair(name, (better, size, "voting", few), (worse, size, "voting", few))
    for (policy, size), ks in votes.items():
        if (many := max(ks)) > few:
            name = f"@{many} - @{few}, {policy}/{size}"
            yield from pair(name, (policy, size, "voting", many), (policy, size, "voting", few))
    for small, big in zip(sizes, sizes[1:], strict=False):
        name = f"{big} - {small}, base @{few}"
        yield from pair(name, ("base", big, "voting", few), ("base", small, "voting", few))
    guided = dict.fromkeys(key[:2] for key in cells.values() if key.method == "meta_voting")
    for policy, size in guided:
        many = max(votes[policy, size])
        for a, b in _FILTERS:
            name = f"{_short(a)} - {_short(b)} @{many}, {policy}/{size}"
            yield from pair(name, (policy, size, a, many), (policy, size, b, many))
    for policy, size in guided:  # does guidance replace RL?
        many = max(votes[policy, size])
        if policy != "grpo":
            name = f"{policy} + meta - grpo @{many}, {size}"
            guide, plain = (policy, size, "meta_voting", many), ("grpo", size, "voting", many)
            yield from pair(name, guide, plain)


def _short(method: str) -> str:
    return "plain" if method == "voting" else method.removesuffix("_voting")
