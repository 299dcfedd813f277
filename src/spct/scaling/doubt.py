"""The warning that goes with votes of samples of which few can be read."""

from __future__ import annotations

from collections.abc import Iterable

from spct.scaling.table import Row, select, unique

LEAST = 0.8  # share of readable samples below which headline, curves and MLflow warn


def doubtful(row: Row) -> bool:
    """Whether less than :data:`LEAST` of the samples behind a row of ``curves.csv`` can be read."""
    return bool(1 - row["invalid_rate"] < LEAST - 1e-9)


def remark(rows: Iterable[Row]) -> str:
    """What stands behind the name of a curve: the least share that can be read, if it is doubtful;
    else nothing."""
    shares = [1 - row["invalid_rate"] for row in rows if doubtful(row)]
    return f" ({_percent(min(shares))} readable)" if shares else ""


def warnings(rows: Iterable[Row]) -> list[str]:
    """A sentence for each benchmark with doubtful votes: whose, and how many samples can be read.

    ``rows`` are of ``curves.csv``, one of them a seed's or the pooled seeds'.
    """
    votes = [row for row in rows if row["method"] == "voting" and doubtful(row)]
    return [_sentence(name, select(votes, benchmark=name)) for name in unique(votes, "benchmark")]


def _sentence(benchmark: str, rows: list[Row]) -> str:
    whose = dict.fromkeys((row["policy"], row["size"]) for row in rows)
    shares = {
        f"{policy}/{size}": min(
            1 - row["invalid_rate"] for row in select(rows, policy=policy, size=size)
        )
        for policy, size in whose
    }
    told = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    return (
        f"{benchmark}: less than {_percent(LEAST)} of the samples can be read ({told}). A vote "
        "without a readable sample is a tie of all answers, so a gain from voting is mostly more "
        "votes with something to read; the accuracy of those stands beside"
    )


def _percent(share: float) -> str:
    """Rounded down, so that what is below a rate never reads as that rate."""
    return f"{int(100 * share + 1e-6)} %"
