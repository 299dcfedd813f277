"""A plan beside what was measured: a finished run's own records, and the paper's reported hours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from spct.errors import ConfigError
from spct.planning import assumed
from spct.planning.cards import Cost
from spct.planning.measured import Finished, Use
from spct.planning.work import Planner, Work

MEMORY = "GiB/GPU"
HEAD = ("planned / measured", "Mtokens", "GPU-h", MEMORY, "disk MiB")
Pair = tuple[float, float | None]  # planned, measured


def paper(planner: Planner, found: Sequence[tuple[Work, Cost]]) -> Iterator[str]:
    """The plan's GPU-hours beside those that the paper reports for its 27B; else nothing."""
    if planner.cfg.plan.main != "gemma2_27b":
        return
    yield f"Against the paper's hours ({assumed.PAPER}, appendix; {assumed.PAPER_GPUS} A100)"
    for stage, hours in assumed.PAPER_HOURS.items():
        reported = hours * assumed.PAPER_GPUS
        for price in (price for work, price in found if work.node.stage == stage):
            yield (
                f"  {stage}: reported {hours} h = {reported:,.0f} GPU-hours; planned "
                f"{price.gpu_hours:,.0f}; planned / reported {price.gpu_hours / reported:.2f}"
            )


def run(done: Finished, found: Sequence[tuple[Work, Cost]]) -> Iterator[tuple[str, ...]]:
    """A row for each piece of work that the finished run has too, and of all: sums, peaks.

    Raises :class:`~spct.errors.ConfigError` if they have nothing in common.
    """
    rows = {
        work.node.folder: _pairs(work, price, done.uses[work.node.folder])
        for work, price in found
        if work.shape is not None and work.node.folder in done.uses
    }
    if not rows:
        raise ConfigError(f"plan: {done.run} did none of this work; name a run of the same models")
    yield HEAD
    for name, pairs in rows.items():
        yield (name, *map(_ratio, pairs))
    columns = zip(*rows.values(), strict=True)
    yield (
        "in all",
        *(_ratio(_whole(name, pairs)) for name, pairs in zip(HEAD[1:], columns, strict=True)),
    )


def _pairs(work: Work, price: Cost, use: Use) -> tuple[Pair, ...]:
    return (
        (work.tokens / 1e6, use.tokens and use.tokens / 1e6),
        (price.gpu_hours, use.hours),
        (price.memory, use.memory),
        (1024 * price.disk, 1024 * use.disk),
    )


def _whole(name: str, pairs: Sequence[Pair]) -> Pair:
    """Over what was measured: the sum; of memory the peak."""
    known = [(planned, used) for planned, used in pairs if used is not None]
    if not known:
        return 0.0, None
    reduce = max if name == MEMORY else math.fsum
    planned, used = (reduce(column) for column in zip(*known, strict=True))
    return planned, used


def _ratio(pair: Pair) -> str:
    planned, used = pair
    return f"{planned:.3g} / {used:.3g} = {planned / used:.2f}" if used else f"{planned:.3g} / –"
