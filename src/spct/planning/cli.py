"""``spct plan``: the table of a run's cost, and where each figure is from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from spct.config import ConfigError
from spct.names import normalise, run_name
from spct.origin import folder_of
from spct.planning import against, measured
from spct.planning.cards import CARDS, Cluster, Cost, cost
from spct.planning.measured import Rates
from spct.planning.work import Planner, Work
from spct.runs import Runs

TRAINING, SAMPLING = 0.35, 0.10  # of the peak; design: 35 % in training, sampling is our guess
HEAD = (
    *("stage", "jobs", "items", "samples", "Mtokens", "PFLOP", "GPU-h", "GPUs", "GiB/GPU"),
    *("disk GiB", "hours"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spct plan", description="what a run costs, stage by stage, before it runs"
    )
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="experiment=… and overrides")
    parser.add_argument("--nodes", type=int, default=16, help="default 16: the paper's 128 GPUs")
    parser.add_argument("--gpus", type=int, default=8, help="of a node (default 8)")
    parser.add_argument(
        "--card", choices=sorted(CARDS), help="default a100, the paper's; cpu for shipped models"
    )
    parser.add_argument("--utilisation", type=float, default=TRAINING, help="share of the peak")
    parser.add_argument(
        "--sampling-utilisation", type=float, default=SAMPLING, help="the same, in sampling"
    )
    parser.add_argument(
        "--measured", metavar="RUN", help="a finished run: its lengths and speeds, on such cards"
    )
    parser.add_argument("--against", metavar="RUN", help="a finished run to hold the plan against")
    return parser


def planned(words: Sequence[str]) -> Planner:
    """The planner of an experiment (``experiment=…``, default tiny) with overrides.

    Raises :class:`~spct.errors.ConfigError` for a wrong key, or a sweep: one run is planned.
    """
    given = dict(word.split("=", 1) for word in words if word.startswith("experiment="))
    experiment = given.get("experiment", "tiny")
    overrides = [word for word in words if not word.startswith("experiment=")]
    if experiment.startswith("sweep/"):
        raise ConfigError("plan: a sweep is several runs; plan one of them")
    runs = Runs(experiment, overrides)
    return Planner(runs, run_name(experiment, normalise(overrides)))


def pilot(words: Sequence[str], name: str) -> tuple[Planner, Rates]:
    """The planner that has the lengths of a finished run, and that run's rates.

    Raises as :func:`planned`, :func:`spct.origin.folder_of` and
    :func:`spct.planning.measured.read`.
    """
    done = measured.read(folder_of(name))
    itself = planned([f"experiment={done.source.experiment}", *done.source.overrides])
    lengths = measured.lengths(done, itself.lengths)
    lengths = measured.with_general(lengths, done, itself.having(lengths))
    return planned(words).having(lengths), measured.rates(done, itself.having(lengths))


def plan_cli(argv: Sequence[str]) -> int:
    """Print the table, the sources of its figures and what they are held against; 0."""
    args = _parser().parse_args(list(argv))
    planner, rates = (
        pilot(args.words, args.measured) if args.measured else (planned(args.words), None)
    )
    done = measured.read(folder_of(args.against)) if args.against else None
    builtin = planner.cfg.model.source.startswith("builtin:")
    card = CARDS[args.card or ("cpu" if builtin else "a100")]
    nodes, gpus = (1, 1) if card.name.endswith("core") else (args.nodes, args.gpus)
    shares = (args.utilisation, args.sampling_utilisation)
    if min(nodes, gpus) < 1 or not all(0 < share <= 1 for share in shares):
        raise ConfigError("plan: at least one node and GPU; utilisation above 0, at most 1")
    cluster = Cluster(card, nodes, gpus, *shares)
    found = [
        (work, cost(work, planner.run, cluster, rates.of(work) if rates else None))
        for work in planner.works()
    ]
    lines = [*_table(planner, cluster, found, rates), ""]
    lines += [*_sources(planner, cluster, found, rates), "", *against.paper(planner, found)]
    if done:
        lines += [f"Against {done.run}, a mean of its seeds", *_aligned(against.run(done, found))]
    print("\n".join(lines))
    return 0


def _table(
    planner: Planner, cluster: Cluster, found: list[tuple[Work, Cost]], rates: Rates | None
) -> Iterator[str]:
    seeds = len(planner.cfg.plan.seeds)
    yield (
        f"{planner.run.name}, one seed of {seeds}, on {cluster.nodes} x {cluster.gpus} "
        f"{cluster.card.name} {_speed(cluster, rates)}"
    )
    yield from _aligned(
        [HEAD, *(_row(work, price) for work, price in found if work.shape), _total(found)]
    )


def _speed(cluster: Cluster, rates: Rates | None) -> str:
    if rates:
        return f"as fast as {rates.run} was"
    return (
        f"at {cluster.training:.0%} of their peak in training, {cluster.sampling:.0%} in sampling"
    )


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Columns to the right, the first to the left."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *rest]).rstrip()


def _row(work: Work, price: Cost) -> tuple[str, ...]:
    return (
        work.node.folder,
        f"{work.jobs}",
        f"{work.items:,.0f}",
        f"{work.samples:,.0f}" if work.samples else "",
        f"{work.tokens / 1e6:,.1f}",
        _short(work.flops / 1e15),
        _short(price.gpu_hours),
        f"{price.job_gpus}",
        _short(price.memory),
        _short(price.disk),
        _short(price.wall_hours),
    )


def _total(found: list[tuple[Work, Cost]]) -> tuple[str, ...]:
    works, prices = [work for work, _ in found], [price for _, price in found]
    return (
        *("in all", f"{sum(work.jobs for work in works if work.shape)}", ""),
        f"{sum(work.samples for work in works):,.0f}",
        f"{sum(work.tokens for work in works) / 1e6:,.1f}",
        _short(sum(work.flops for work in works) / 1e15),
        _short(sum(price.gpu_hours for price in prices)),
        "",
        _short(max(price.memory for price in prices)),
        _short(sum(price.disk for price in prices)),
        _short(sum(price.wall_hours for price in prices)),
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sources(
    planner: Planner, cluster: Cluster, found: list[tuple[Work, Cost]], rates: Rates | None
) -> Iterator[str]:
    """Where the figures are from: of each stage, then what all of them rest on."""
    yield "Where the figures are from"
    for work, price in found:
        if work.shape:
            yield f"  {work.node.folder}"
            for line in (*work.sources, f"weights: {_weights(work)}", *price.notes):
                yield f"    {line}"
    passing = max(price.passing for _, price in found)
    yield "  all stages"
    yield f"    lengths and shares: {planner.lengths.source}"
    yield f"    GPU: {cluster.card.peak / 1e12:g} TFLOP/s a card, {cluster.card.source}"
    yield f"    GPU-hours: {_hours(rates)}"
    yield (
        "    hours: stages one after another; a training has all GPUs, a sampling stage as many "
        "jobs at a time as GPUs hold; loading, waiting and the CPU stages are left out"
    )
    yield f"    disk: kept; resume states of the largest training add {_short(passing)} GiB"
    idle = sorted({work.node.stage for work, _ in found if not work.shape})
    yield f"    without a model, so not in the table: {', '.join(idle)}, curves, health, report"


def _hours(rates: Rates | None) -> str:
    if rates:
        return (
            f"FLOPs by FLOPs a second of the same stage and size in {rates.run}, else of the same "
            "stage, else of all training or sampling; loading and attention are in these"
        )
    return (
        "FLOPs / (peak x utilisation); utilisation is an assumption (--utilisation, "
        "--sampling-utilisation; --measured RUN takes a finished run's); attention over the "
        "context is left out"
    )


def _weights(work: Work) -> str:
    shape = work.shape
    assert shape is not None
    active = "" if shape.active == shape.params else f", {shape.active / 1e9:.3g}e9 active"
    return f"{shape.params:,}{active} ({shape.source})"
