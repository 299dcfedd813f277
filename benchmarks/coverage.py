"""How often 95 % intervals hold the truth, near 1 and for few items: percentiles against ours.

    python benchmarks/coverage.py                       # about three minutes
    python benchmarks/coverage.py --replicates 200 --out table.md

Worlds whose truth is known are drawn again and again, and each goes the way of the tables: Poisson
weights of whole prompts, a statistic, its interval. ``before`` are what stood in the tables until
this was measured: percentiles of the same draws, as far out as Student's t; for seeds the t
interval of their means. *Accuracies*: ``coins`` are right or wrong; ``votes`` are voting@5 from
banks of 8 samples, the skills of items Beta-distributed; ``prompts`` have 2 to 5 items with one
skill.
*Differences*: two policies that judge the same items, three or five points apart or equally good;
voting@5 minus voting@1 of one bank. *Areas*: ROC-AUC of normal scores. *Seeds*: the mean accuracy
of three seeds with 100 items each, as an interval for the recipe.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import comb
from pathlib import Path
from statistics import NormalDist

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from spct.scaling import stats, student
from spct.scaling.measure import area
from spct.scaling.scalars import Points

Floats = NDArray[np.float64]
LEVEL, DRAWS = 0.95, 1000
LIKELY = (0.93, 0.97)
COUNTS = (20, 30, 50, 100, 200, 500)
SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
AREAS = (0.6, 0.8, 0.9, 0.97, 0.99)
CLASSES = ((10, 10), (20, 20), (50, 50), (100, 100), (10, 40), (20, 80), (80, 20))
GAPS = ((0.98, 0.95), (0.99, 0.96), (0.99, 0.99), (0.95, 0.95), (0.9, 0.8), (0.75, 0.7))
NORMAL = NormalDist()


@dataclass(frozen=True)
class Cell:
    """Coverage in one world, by the old way and by ours."""

    kind: str
    world: str
    column: str
    before: float
    now: float


# ---- worlds: credits of (replicates, items) and their truth --------------------------------------


@cache
def expected(n: int, k: int) -> Floats:
    """Credit of voting@k by how many of n verdicts are right, ``(n + 1,)``."""
    worth = [1.0 if 2 * j > k else 0.5 * (2 * j == k) for j in range(k + 1)]
    ways = [[comb(s, j) * comb(n - s, k - j) for j in range(k + 1)] for s in range(n + 1)]
    return np.array(ways) @ np.array(worth) / comb(n, k)


def coins(draw: np.random.Generator, p: float, shape: tuple[int, int]) -> Floats:
    return (draw.random(shape) < p).astype(float)


def voted(draw: np.random.Generator, p: float, shape: tuple[int, int]) -> Floats:
    skill = draw.beta(2 * p, 2 * (1 - p), shape)
    return expected(8, 5)[draw.binomial(8, skill)]


def prompted(draw: np.random.Generator, p: float, shape: tuple[int, int]) -> Floats:
    """Items of one prompt stand side by side; see :func:`prompts`."""
    of = prompts(shape[1])
    skill = draw.beta(p, 1 - p, (shape[0], of.max() + 1))
    return (draw.random(shape) < skill[:, of]).astype(float)


def prompts(items: int) -> NDArray[np.int64]:
    sizes = np.resize([2, 3, 4, 5], items)
    return np.repeat(np.arange(items), sizes)[:items]


def coins_paired(draw: np.random.Generator, p: float, q: float, shape: tuple[int, int]) -> Floats:
    """Differences of two policies whose luck has a correlation of one half."""
    shared = draw.normal(size=shape)
    sides = [
        (shared + draw.normal(size=shape)) / np.sqrt(2) < NORMAL.inv_cdf(each) for each in (p, q)
    ]
    return sides[0].astype(float) - sides[1]


def voted_paired(draw: np.random.Generator, p: float, q: float, shape: tuple[int, int]) -> Floats:
    """Differences of votes; the better policy has the skill of the other, and some more."""
    skill = draw.beta(2 * q, 2 * (1 - q), shape)
    better = skill + (1 - skill) * (p - q) / (1 - q)
    return expected(8, 5)[draw.binomial(8, better)] - expected(8, 5)[draw.binomial(8, skill)]


def more_votes(draw: np.random.Generator, p: float, _: float, shape: tuple[int, int]) -> Floats:
    """voting@5 minus voting@1 of one bank of 8."""
    right = draw.binomial(8, draw.beta(2 * p, 2 * (1 - p), shape))
    return expected(8, 5)[right] - expected(8, 1)[right]


def truth(world: Callable[..., Floats], *shares: float) -> float:
    """The mean of two million items that have prompts of their own."""
    if world in (coins, prompted):
        return shares[0]
    if world is coins_paired:
        return shares[0] - shares[1]
    return float(world(np.random.default_rng(99), *shares, (20, 100_000)).mean())


# ---- coverage ------------------------------------------------------------------------------------


def held(ends: Sequence[tuple[float, float]], value: float) -> float:
    return float(np.mean([low <= value + 1e-9 and value - 1e-9 <= high for low, high in ends]))


def of_means(
    values: Floats, value: float, labels: Sequence[str], scale: stats.Scale
) -> tuple[float, float]:
    """Coverage of percentiles and of ours, from credits ``(replicates, items)``."""
    weights = stats.item_weights(labels, DRAWS, 0).astype(np.float64)
    drawn, alone = weights @ values.T, len(set(labels))
    found = [
        stats.Statistic(float(row.mean()), drawn[:, r], len(row), scale, row.astype(np.float32))
        for r, row in enumerate(values)
    ]
    return tuple(  # type: ignore[return-value]
        held([stats.interval(one, LEVEL, alone) for one in each], value)
        for each in ([replace(one, scale="free") for one in found], found)
    )


def accuracies(replicates: int) -> Iterator[Cell]:
    for name, world in (("coins", coins), ("votes", voted), ("prompts", prompted)):
        for p in SHARES:
            value = truth(world, p)
            for count in COUNTS:
                draw = np.random.default_rng([count, int(1000 * p)])
                of = prompts(4 * count) if world is prompted else np.arange(count)
                of = of[of < count]
                values = world(draw, p, (replicates, len(of)))
                both = of_means(values, value, [str(i) for i in of], "share")
                yield Cell(f"accuracy, {name}", f"{value:.3f}", str(count), *both)


def differences(replicates: int) -> Iterator[Cell]:
    worlds = (("coins", coins_paired), ("votes", voted_paired), ("@5 − @1", more_votes))
    for name, world in worlds:
        for p, q in GAPS:
            if world is more_votes and p != q and q != 0.8:
                continue
            value = truth(world, p, q)
            for count in COUNTS:
                draw = np.random.default_rng([count, int(1000 * p), int(1000 * q)])
                values = world(draw, p, q, (replicates, count))
                both = of_means(values, value, [str(i) for i in range(count)], "gap")
                told = f"{p:g}" if world is more_votes else f"{p:g} − {q:g}"
                yield Cell(f"difference, {name}", told, str(count), *both)


def areas(replicates: int) -> Iterator[Cell]:
    for value in AREAS:
        apart = np.sqrt(2) * NORMAL.inv_cdf(value)
        for good, bad in CLASSES:
            draw, items = np.random.default_rng([good, bad, int(1000 * value)]), good + bad
            right = np.arange(items) < good
            weights = stats.item_weights([str(i) for i in range(items)], 400, 0)
            scores = draw.normal(size=(replicates, items)) + apart * right
            found = [area(Points(row[:, None], right), weights) for row in scores]
            assert None not in found
            free = [replace(one, scale="free", balance=1.0) for one in found if one]
            before = held([stats.interval(one, LEVEL, items) for one in free], value)
            now = held([stats.interval(one, LEVEL, items) for one in found if one], value)
            yield Cell("ROC-AUC", f"{value:.2f}", f"{good} + {bad}", before, now)


def seeds(replicates: int) -> Iterator[Cell]:
    reach, items = student.quantile((1 + LEVEL) / 2, 2), 100
    for p in SHARES:
        for spread in (0.0, 0.2):
            draw = np.random.default_rng(int(1000 * p))
            base, lots = np.log(p / (1 - p)), draw.normal(size=1_000_000)
            value = float((1 / (1 + np.exp(-base - spread * lots))).mean())
            chance = 1 / (1 + np.exp(-base - spread * draw.normal(size=(replicates, 3))))
            means = draw.binomial(items, chance) / items
            error = reach * means.std(axis=1, ddof=1) / np.sqrt(3)
            middle = means.mean(axis=1)
            before = held(list(zip(middle - error, middle + error, strict=True)), value)
            parts = [[stats.Statistic(x, np.full(2, x), items) for x in row] for row in means]
            now = held([stats.seeds_interval(each, LEVEL, 3 * items) for each in parts], value)
            told = "seeds differ" if spread else "seeds alike"
            yield Cell("over three seeds of 100", f"{p:g}", told, before, now)


# ---- the page ------------------------------------------------------------------------------------


def tables(cells: Sequence[Cell]) -> Iterator[str]:
    """A table for each kind, a line for each world: coverage before → now, in percent."""
    for kind in dict.fromkeys(cell.kind for cell in cells):
        mine = [cell for cell in cells if cell.kind == kind]
        columns = list(dict.fromkeys(cell.column for cell in mine))
        yield from ("", f"| {kind} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|")
        for world in dict.fromkeys(cell.world for cell in mine):
            at = {cell.column: cell for cell in mine if cell.world == world}
            shown = [f"{100 * c.before:.0f} → {100 * c.now:.1f}" for c in map(at.get, columns) if c]
            yield f"| {world} | {' | '.join(shown)} |"


def summary(cells: Sequence[Cell]) -> Iterator[str]:
    yield "| kind | way | mean | least | most | below 93 | 93 to 97 | above 97 |"
    yield "|---|---|---|---|---|---|---|---|"
    for kind in dict.fromkeys(cell.kind for cell in cells):
        for way in ("before", "now"):
            found = np.array([getattr(cell, way) for cell in cells if cell.kind == kind])
            below, above = (found < LIKELY[0]).sum(), (found > LIKELY[1]).sum()
            yield (
                f"| {kind} | {way} | {100 * found.mean():.1f} | {100 * found.min():.1f} | "
                f"{100 * found.max():.1f} | {below} | {len(found) - below - above} | {above} |"
            )


def measure(replicates: int) -> list[Cell]:
    parts = (accuracies, differences, areas, seeds)
    return [cell for part in parts for cell in part(replicates)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cells = measure(args.replicates)
    lines = [
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()} · "
        f"{args.replicates:,} replicates a cell, {DRAWS} draws (areas 400), level {LEVEL:.0%}",
        "",
        *summary(cells),
        *tables(cells),
    ]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
