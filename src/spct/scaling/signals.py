"""What a filter's signal is worth: tables ``signals.csv`` and ``meta_auc.csv``, of guided banks.

A meta RM must beat what costs nothing: the judgement's own score margin, the sampler's mean
log-probability of its tokens, its length (longer first) and chance. The oracle, which keeps right
judgements first, is the headroom. An AUC alone is no evidence: a signal that repeats the margin
ranks judgements well and adds nothing to a vote that counts the margin already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spct.metarm.auc import auc
from spct.metarm.calibration import Calibration, expected_error
from spct.scaling import stats
from spct.scaling.cells import SIGNALS, Cell, CellKey, Query
from spct.scaling.measure import Group, Measured
from spct.scaling.stats import Statistic
from spct.scaling.table import written
from spct.scaling.votes import Bools, Floats, Index, Votes, margins

COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "signal", "k", "k_meta"),
    *("accuracy", "low", "high", "gain", "gain_low", "gain_high"),
    *("lead", "lead_low", "lead_high", "items"),
]
AUC_COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "signal"),
    *("auc_across", "auc_within", "low", "high", "ece", "samples"),
]
META = "meta"
_PAIRS = 1 << 22  # comparisons of two samples held at a time
Row = dict[str, Any]


# ---- what filtering by it gains ----------------------------------------------------------------


def signal_rows(run: str, measured: Measured, surfaces: Measured) -> Iterator[Row]:
    """Votes filtered by each signal at every (k, k_meta < k), by benchmark, then seed by seed.

    ``gain`` is over the plain vote of all k, ``lead`` the meta RM's over this signal at the same
    (k, k_meta): paired over the same items and subsets, seeds pooled in ``all``.
    """
    names = {method: name for name, method in SIGNALS.items()}
    for group in (group for group in measured.groups if group.subset == "all"):
        for key in sorted(key for key in surfaces.cells if key.k_meta < key.k):
            plain = key._replace(method="voting", k_meta=key.k)
            guided = key._replace(method=SIGNALS[META])
            for label, seeds in surfaces.seeds(key):
                own = surfaces.statistics(key, group, seeds)
                vote = measured.statistics(plain, group, seeds)
                if not own or not vote:
                    continue
                prompts = surfaces.clusters(key, group, seeds)
                meta = surfaces.statistics(guided, group, seeds) if guided != key else []
                yield written(
                    {
                        **{"run": run, "seed": label, "benchmark": group.benchmark},
                        **key._asdict(),
                        "signal": names[key.method],  # type: ignore[index]
                        **_summary("accuracy", own, prompts, measured.cfg.level),
                        **_summary("gain", _minus(own, vote), prompts, measured.cfg.level),
                        **_summary("lead", _minus(meta, own), prompts, measured.cfg.level),
                        "items": sum(part.items for part in own),
                    }
                )


def _minus(a: Sequence[Statistic], b: Sequence[Statistic]) -> list[Statistic]:
    return [one - other for one, other in zip(a, b, strict=True)] if a else []


def _summary(name: str, parts: Sequence[Statistic], prompts: int, level: float) -> Row:
    """A value and its interval, named as the columns of a table are; nothing without parts."""
    if not parts:
        return {}
    whole = stats.pooled(parts)
    low, high = stats.interval(whole, level, prompts)
    ends = ("low", "high") if name == "accuracy" else (f"{name}_low", f"{name}_high")
    return {name: whole.value, ends[0]: low, ends[1]: high}


# ---- how well it ranks -------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """How a signal ranks the judgements of each item, and those of all items together."""

    within: Floats  # (I,): AUC among an item's judgements; NaN unless right and wrong ones exist
    signal: Floats  # (I, n)
    counted: Bools  # (I, n): readable judgements of items that have a right answer
    right: Bools  # (I, n)
    told: Calibration | None  # of the signal as a probability, where it is one

    def across(self, rows: Index) -> float:
        """AUC of all judgements of some items, whatever item they are of."""
        here = self.counted[rows]
        return auc(self.signal[rows][here].tolist(), self.right[rows][here].tolist())

    def error(self, rows: Index) -> float:
        """Expected calibration error of the probability; NaN where there is none."""
        if self.told is None:
            return float("nan")
        here = self.counted[rows]
        chance = self.told.probability(self.signal[rows][here])
        return expected_error(chance, self.right[rows][here])


def rankings(query: Query) -> dict[str, Ranking]:
    """Of the meta RM and the cheap signals of a guided bank, by name."""
    votes = query.bank.samples.votes
    known = votes.valid & ~(votes.undecided | votes.rated)[:, None]
    found = {}
    for name in query.signals:
        signal = _values(votes, name)
        if signal is None:
            continue
        counted = known & ~np.isnan(signal)
        found[name] = Ranking(
            within=within(signal, votes.correct, counted),
            signal=signal,
            counted=counted,
            right=votes.correct,
            told=Calibration.of(query.bank.calibration) if name == META else None,
        )
    return found


def _values(votes: Votes, name: str) -> Floats | None:
    """None for chance and the oracle, whose AUC is ½ and 1 whatever the bank."""
    arrays = {META: votes.meta, "logprob": votes.logprob, "length": votes.length}
    return margins(votes) if name == "margin" else arrays.get(name)


def within(signal: Floats, right: Bools, counted: Bools) -> Floats:
    """AUC among the counted samples of each item, arrays ``(I, n)`` to ``(I,)``.

    The share of pairs of a right and a wrong sample in which the right one has the higher signal,
    equal ones counting half; NaN without such a pair.
    """
    items, n = signal.shape
    found = np.full(items, np.nan)
    step = max(1, _PAIRS // (n * n))
    for start in range(0, items, step):
        here = slice(start, start + step)
        good, bad = right[here] & counted[here], ~right[here] & counted[here]
        value = np.nan_to_num(signal[here])
        above = value[:, :, None] > value[:, None, :]
        equal = value[:, :, None] == value[:, None, :]
        pairs = good[:, :, None] & bad[:, None, :]
        wins = (pairs & above).sum(axis=(1, 2)) + (pairs & equal).sum(axis=(1, 2)) / 2
        total = good.sum(axis=1) * bad.sum(axis=1)
        np.divide(wins, total, out=found[here], where=total > 0)
    return found


class Ranked:
    """The rankings of all seeds' guided banks, under the bootstrap draws of the curves."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured.beside()
        self.found: dict[tuple[CellKey, int], Ranking] = {}

    def add(self, query: Query) -> None:
        """Take in one bank."""
        seed = query.bank.key.seed
        for name, ranking in rankings(query).items():
            key = query.key(name, 0, 0)
            none = np.full_like(ranking.within, np.nan)
            cell = Cell(ranking.within, none, none, none, none, none, none)
            self.measured.add(seed, {key: cell})
            self.found[key, seed] = ranking

    def rows(self, run: str) -> Iterator[Row]:
        """Rows of ``meta_auc.csv``, by benchmark, then seed by seed.

        ``auc_within`` is the mean over items of the AUC among an item's judgements, all that a
        guided vote can use; ``low`` and ``high`` are its interval. ``auc_across`` ranks judgements
        of different items too. ``ece`` is of the meta RM's probability, as calibrated on held-out
        training items (raw in banks scored by older code). Pooled seeds: means by judgements.
        """
        for group in (group for group in self.measured.groups if group.subset == "all"):
            for key in self.measured.cells:
                for label, seeds in self.measured.seeds(key):
                    parts = self.measured.statistics(key, group, seeds)
                    if parts:
                        where = {"run": run, "seed": label, "benchmark": group.benchmark}
                        yield written({**where, **self._row(key, group, seeds, parts)})

    def _row(
        self, key: CellKey, group: Group, seeds: Sequence[int], parts: Sequence[Statistic]
    ) -> Row:
        rows = {seed: self.measured.rows_of(group, seed) for seed in seeds}
        found = {seed: self.found[key, seed] for seed in seeds}
        samples = [int(found[seed].counted[rows[seed]].sum()) for seed in seeds]
        whole = stats.pooled(parts)
        prompts = self.measured.clusters(key, group, seeds)
        low, high = stats.interval(whole, self.measured.cfg.level, prompts)
        across = [found[seed].across(rows[seed]) for seed in seeds]
        errors = [found[seed].error(rows[seed]) for seed in seeds]
        return {
            **{"policy": key.policy, "size": key.size, "signal": key.method},
            "auc_across": float(np.average(across, weights=samples)),
            "auc_within": whole.value,
            **{"low": low, "high": high},
            "ece": float(np.average(errors, weights=samples)),
            "samples": sum(samples),
        }
