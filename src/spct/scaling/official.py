"""``official.csv``: each benchmark's own sections and overall, by the rules of upstream.

For greedy, voting@k and meta-guided votes of every judge, and for reward models; toy benchmarks
have no rule and no rows. Credits are expectations over all k-subsets, from the estimators of the
curves: P(win) and P(tie), so that a tie earns what upstream gives a judge of that kind, which may
write scores, write the number of the better response, or be a reward model. A benchmark that is not
whole has no overall, and its sections say "(partial)". Where all four benchmarks of the paper's
overall are whole, "paper" has a row with the mean of their overalls under the paper's own ties,
broken at random: ½ to each of two, 1/m to the best of m.

JudgeBench asks in both orders. Here k is the number of samples in all, half of them in each order,
so that a budget is the same on every benchmark: even k alone, no greedy, and only those k for which
every item has k / 2 samples in each order (``bench.order: balanced`` has them all). Reward models
play its single game; token probabilities, which depend on the order, have no rows. ReaLMistake has
rows where responses are rated (``bench.single: rating``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spct.baselines.rows import TOKEN_PROB
from spct.benchmarks import JUDGEBENCH_CLAUDE, JUDGEBENCH_GPT, paper
from spct.benchmarks.judgebench import both_orders
from spct.benchmarks.rule import OVERALL, Answer
from spct.judge.vote import k_meta_for
from spct.scaling import scalars, stats
from spct.scaling.banks import Bench
from spct.scaling.cells import NOBODY, CellKey, Query
from spct.scaling.estimators import Method, Subsets, estimate
from spct.scaling.measure import Group, Measured
from spct.scaling.sections import (
    RATED,
    Part,
    Ruled,
    Sections,
    distinct_prompts,
    has_rule,
    pooled,
)
from spct.scaling.stats import Statistic
from spct.scaling.table import written
from spct.scaling.votes import Bools, Floats, Index

COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "section", "method", "k"),
    *("value", "low", "high", "items", "coverage"),
]
METHODS = ("greedy", *scalars.METHODS, "voting", "meta_voting")
IN_BOTH_ORDERS = (JUDGEBENCH_GPT.name, JUDGEBENCH_CLAUDE.name)
SINGLE_GAME = tuple(method for method in scalars.METHODS if method != TOKEN_PROB)

Fair = dict[str, dict[int, Statistic]]  # overalls by the paper's ties, by benchmark and seed
Games = dict[CellKey, dict[int, Floats]]  # by seed: official credit (I,), NaN for other benchmarks


def official_rows(
    run: str, measured: Measured, games: Games, keys: Sequence[CellKey]
) -> Iterator[dict[str, Any]]:
    """Rows benchmark by benchmark, in the order of ``keys``, seed by seed, then all of them.

    Raises :class:`spct.errors.BankError` for items that a benchmark's rule cannot take.
    """
    overalls: dict[CellKey, Fair] = {}
    four: dict[str, dict[int, Ruled]] = {}
    for group in filter(has_rule, measured.groups):
        benches = {seed: Ruled(measured, group, seed) for seed in measured.benches}
        for key in keys:
            cells = _cells(measured, games, group, key)
            if key.method not in METHODS or not cells:
                continue
            found = {seed: _sections(benches[seed], games, key) for seed in sorted(cells)}
            if group.benchmark in paper.FOUR:
                four[group.benchmark] = benches
                overalls.setdefault(key, {})[group.benchmark] = {
                    seed: _fair(benches[seed], key)
                    for seed, sections in found.items()
                    if OVERALL in sections
                }
            for label, seeds in _labels(found, measured).items():
                parts = pooled([benches[seed] for seed in seeds], [found[seed] for seed in seeds])
                for section, part in parts.items():
                    yield _row(run, label, key, group.benchmark, section, part)
    for key, fair in overalls.items():
        for label, part in _paper(measured, four, fair):
            yield _row(run, label, key, paper.NAME, OVERALL, part)


def _cells(measured: Measured, games: Games, group: Group, key: CellKey) -> Mapping[int, object]:
    """What a judge has of a benchmark, by seed; nothing where it has no official number."""
    if group.benchmark not in IN_BOTH_ORDERS or key.method in SINGLE_GAME:
        return measured.cells.get(key, {})
    return games.get(key, {})


def answer_of(measured: Measured, key: CellKey) -> Answer:
    """How the judge of a cell tells which response is better; content-blind rules are scalars."""
    if key.method in scalars.METHODS or key.policy == NOBODY:
        return "scalar"
    return measured.answers.get((key.policy, key.size), "scores")


def _labels(found: Mapping[int, object], measured: Measured) -> dict[str, list[int]]:
    """The seeds of each row: one by one, then all of them, if none lacks."""
    labels = {str(seed): [seed] for seed in found}
    if len(found) > 1 and len(found) == len(measured.benches):
        labels["all"] = list(found)
    return labels


def _row(
    run: str, label: str, key: CellKey, benchmark: str, section: str, part: Part
) -> dict[str, Any]:
    judge = {"policy": key.policy, "size": key.size, "method": key.method, "k": key.k}
    where = {"run": run, "seed": label, "benchmark": benchmark, "section": section}
    return written({**where, **judge, **vars(part)})


def _fair(bench: Ruled, key: CellKey) -> Statistic:
    """A benchmark's overall with ties broken at random, as the paper has them."""
    cell = bench.measured.cells[key][bench.seed]
    return bench.of_credits(cell.accuracy[bench.rows])[OVERALL]


def _paper(
    measured: Measured, four: Mapping[str, Mapping[int, Ruled]], fair: Fair
) -> Iterator[tuple[str, Part]]:
    """The mean of the four overalls, seeds as in their own rows; nothing unless all four are whole.

    The prompts of a benchmark have the same weights in a draw as in its own interval.
    """
    whole = {}
    for seed in measured.benches:
        ones = {name: found[seed] for name, found in fair.items() if seed in found}
        if len(ones) == len(paper.FOUR):
            whole[seed] = _mean(ones)
    for label, seeds in _labels(whole, measured).items():
        found = stats.pooled([whole[seed] for seed in seeds])
        ruled = [[benches[seed] for seed in seeds] for benches in four.values()]
        prompts = sum(distinct_prompts(benches, OVERALL) for benches in ruled)
        low, high = stats.interval(found, measured.cfg.level, prompts)
        yield label, Part(found.value, low, high, found.items, "all four benchmarks are whole")


def _mean(ones: Mapping[str, Statistic]) -> Statistic:
    value = paper.overall(**{name: np.array([one.value]) for name, one in ones.items()})
    draws = paper.overall(**{name: one.draws for name, one in ones.items()})
    return Statistic(float(value[0]), draws, sum(one.items for one in ones.values()))


def _sections(bench: Ruled, games: Games, key: CellKey) -> Sections:
    if bench.group.benchmark in IN_BOTH_ORDERS and key.method not in SINGLE_GAME:
        return bench.of_credits(games[key][bench.seed][bench.rows])
    cell = bench.measured.cells[key][bench.seed]
    if cell.refused is not None and (cell.refused[bench.rows] != "").any():
        return {}  # the rules average whole benchmarks
    if bench.group.benchmark != RATED:
        return bench.of_votes(cell, answer_of(bench.measured, key))
    if cell.auc is None:
        return {}
    return bench.of_ratings(cell.auc.scores().take(np.searchsorted(cell.auc.items, bench.rows)))


def play(query: Query, games: Games) -> None:
    """Add the credits of a bank's votes on JudgeBench, k / 2 samples in each order."""
    rows = _both_orders_items(query.bench)
    if not len(rows):
        return
    votes, cfg = query.bank.samples.votes, query.cfg
    first = query.bank.samples.shown[rows, :, 0] == 0
    halves = [k // 2 for k in query.ks if k % 2 == 0]
    most = min(int(first.sum(axis=1).min()), int((~first).sum(axis=1).min()))
    halves = [half for half in halves if half <= most]
    methods: tuple[Method, ...] = ("voting", "meta_voting") if query.bank.guided else ("voting",)
    for method in methods if halves else []:
        sides = [_outcomes(query, rows, shown, method, halves) for shown in (first, ~first)]
        for at, half in enumerate(halves):
            credit = np.full(len(votes.valid), np.nan)
            credit[rows] = both_orders(*sides[0][:, at], *sides[1][:, at])
            keep = half if method == "voting" else k_meta_for(half, cfg.k_meta_share)
            key = query.key(method, 2 * half, 2 * keep)
            games.setdefault(key, {})[query.bank.key.seed] = credit


def _both_orders_items(bench: Bench) -> Index:
    named = [item.dataset in IN_BOTH_ORDERS for item in bench.items]
    return np.flatnonzero(named)


def _outcomes(query: Query, rows: Index, shown: Bools, method: Method, ks: Sequence[int]) -> Floats:
    """P(win) and P(tie) ``(2, ks, rows)`` of votes by the samples in ``shown`` (rows, n) alone."""
    votes, cfg = query.bank.samples.votes, query.cfg
    found = np.empty((2, len(ks), len(rows)))
    counts = shown.sum(axis=1)
    for n in np.unique(counts).tolist():
        here = np.flatnonzero(counts == n)
        kept = np.argsort(~shown[here], axis=1, kind="stable")[:, :n]
        ids = [query.subsets.ids[i] for i in rows[here]]
        subsets = Subsets(ids, n, cfg.subsets, query.bank.key.seed)
        part = votes.among(rows[here], kept)
        values = estimate(part, subsets, method, ks, cfg.k_meta_share, cfg.invalid)
        for at, k in enumerate(ks):
            found[:, at, here] = values[k].won, values[k].tied
    return found
