"""The paired comparisons that every run reports, with Holm's adjustment.

A family of tests is a pair on all benchmarks, or a pair on the subsets of one benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spct.scaling import scalars
from spct.scaling.cells import NOBODY, CellKey
from spct.scaling.measure import Group, Measured
from spct.scaling.stats import holm
from spct.scaling.table import written

COLUMNS = [
    *("run", "name", "benchmark", "subset", "a", "b", "k", "metric"),
    *("difference", "low", "high", "low_seeds", "high_seeds"),
    *("p_holm", "mde", "seeds_positive", "items"),
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
    """``a`` minus ``b`` at ``k``."""

    name: str
    a: CellKey
    b: CellKey
    k: int


def sizes_by_params(measured: Measured) -> list[str]:
    """Model sizes from small to big; those of unknown size last."""
    return sorted(measured.params, key=lambda s: (measured.params[s] or float("inf"), s))


def compare(run: str, measured: Measured) -> list[dict[str, Any]]:
    """Rows of ``comparisons.csv``, seeds pooled: every pair on every benchmark, then its subsets.

    ``mde`` is the least true difference that such a test finds with a power of 0.8.
    """
    families: dict[str, list[Group]] = {}
    for group in measured.groups:
        families.setdefault("" if group.subset == "all" else group.benchmark, []).append(group)
    return [
        row
        for pair in pairs(measured)
        for groups in families.values()
        for row in _family(run, measured, pair, groups)
    ]


def _family(
    run: str, measured: Measured, pair: Pair, groups: Sequence[Group]
) -> Iterator[dict[str, Any]]:
    """One pair on some groups of items, tested together."""
    found = [(group, measured.difference(pair.a, pair.b, group)) for group in groups]
    known = [(group, difference) for group, difference in found if difference is not None]
    adjusted = holm([difference.p for _, difference in known])
    for (group, difference), p in zip(known, adjusted, strict=True):
        values = {
            **vars(difference),
            **{"run": run, "name": pair.name, "a": str(pair.a), "b": str(pair.b), "k": pair.k},
            **group._asdict(),
            "metric": measured.metric(pair.a, group, min(measured.cells[pair.a])),
            "difference": difference.value,
            "p_holm": p,
            "seeds_positive": f"{difference.positive}/{difference.seeds}",
        }
        yield written(values)


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
    yield from _against_scalars(measured, votes)


def _against_scalars(measured: Measured, votes: dict[tuple[str, str], list[int]]) -> Iterator[Pair]:
    """The last policy's most votes, guided where they can be, minus each baseline's most looks.

    At the baseline's own size; for a model that came trained, at the size with most policies.
    """
    tuned = [policy for policy in POLICIES if any(name == policy for name, _ in votes)]
    sizes = sizes_by_params(measured)
    counts = {size: sum(own == size for _, own in votes) for size in sizes}
    widest = max(sizes, key=lambda size: counts[size], default="")
    most: dict[tuple[str, str, str], CellKey] = {}
    for key in measured.cells:
        if key.method in scalars.METHODS and key.k >= most.get(key[:3], key).k:
            most[key[:3]] = key
    for other in most.values():
        size = other.size if counts[other.size] else widest
        for policy in [name for name in tuned if (name, size) in votes][-1:]:
            many = max(votes[policy, size])
            for method in ("voting", "meta_voting"):
                for key in measured.cells:
                    if key[:4] == (policy, size, method, many):
                        name = f"{policy} {_short(method)} @{many} - {_named(other)}, {size}"
                        yield Pair(name, key, other, many)


def _named(other: CellKey) -> str:
    """A baseline by its policy; what it samples, and how often, where it samples."""
    if other.method == scalars.SCALAR:
        return other.policy
    asked = f"{other.policy} {other.method}" if other.policy in POLICIES else other.policy
    return f"{asked} @{other.k}"


def _short(method: str) -> str:
    return "plain" if method == "voting" else method.removesuffix("_voting")
