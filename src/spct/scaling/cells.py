"""Per-item values of every (policy, size, method, k): the cells that all tables are means of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spct.judge.vote import k_meta_for
from spct.scaling import ratings
from spct.scaling.adaptive import by_method
from spct.scaling.banks import Bank, Bench, Draws
from spct.scaling.estimators import METHODS, WHOLE, Estimate, Method, Subsets, estimate, estimates
from spct.scaling.kept import Pair
from spct.scaling.readable import Reading
from spct.scaling.votes import Floats, Votes
from spct.schema import ScalingConfig

NOBODY = "none"
# Filters of a guided bank's surface by what they rank samples by. The first three make surface.csv.
SIGNALS: dict[str, Method] = {
    "meta": "meta_voting",
    "oracle": "oracle_voting",
    "random": "random_voting",
    "margin": "margin_voting",
    "logprob": "logprob_voting",
    "length": "length_voting",
}
Index = NDArray[np.int64]


class CellKey(NamedTuple):
    """One point of a curve."""

    policy: str
    size: str
    method: str
    k: int
    k_meta: int

    def __str__(self) -> str:
        return f"{self.policy}/{self.size} {self.method}@{self.k}"


class Area(Protocol):
    """A ROC-AUC of some items: what a cell has instead of their accuracy."""

    @property
    def items(self) -> Index:
        """Their places in the bench, ascending."""

    def scores(self) -> ratings.Ranked:
        """What the AUC follows from."""


@dataclass(frozen=True)
class Cell:
    """Values of every item ``(I,)``: NaN accuracy where the method does not apply to the item."""

    accuracy: Floats
    tied: Floats
    rerun: Floats  # variance of one fresh vote on the item; NaN where the bank cannot tell
    error: Floats  # standard error of ``accuracy`` from drawing subsets; 0 where it is exact
    invalid: Floats
    tokens: Floats  # generated tokens
    flops: Floats  # NaN where the number of parameters is unknown
    auc: Area | None = None  # of the items judged by ratings, which have no accuracy
    refused: NDArray[np.object_] | None = None  # why an item has no value, "" where it has one
    won: Floats | None = None  # share of votes that tie nothing right with anything wrong
    read: Floats | None = None  # share of the votes that hold a readable sample; None: unknown
    earned: Floats | None = None  # what these add to ``accuracy``


@dataclass(frozen=True)
class Query:
    """A bank and what is asked of it; ``subsets`` are shared by all that samples them.

    Curves and surface want many equal estimates, so each method is estimated once, everywhere.
    """

    bank: Bank
    bench: Bench
    ks: list[int]
    subsets: Subsets
    cfg: ScalingConfig
    _found: dict[Method, dict[Pair, Estimate]] = field(default_factory=dict)

    @classmethod
    def of(cls, bank: Bank, bench: Bench, cfg: ScalingConfig) -> Query:
        """Every k of ``scaling.ks`` that the bank has samples for.

        Raises ``ValueError`` naming the bank if it has too few for the smallest k.
        """
        seed, policy, size = bank.key
        n = bank.samples.votes.n
        ks = sorted(k for k in set(cfg.ks) if k <= n)
        if not ks:
            name = f"the bank of {policy}/{size}, seed {seed}"
            raise ValueError(f"scaling.ks starts at {min(cfg.ks)}; {name} has {n} samples")
        subsets = Subsets([item.id for item in bench.items], n, cfg.subsets, seed)
        return cls(bank, bench, ks, subsets, cfg)

    @property
    def signals(self) -> dict[str, Method]:
        """The :data:`SIGNALS` that the bank has; none if it is not guided."""
        votes = self.bank.samples.votes
        without = {"logprob"} if votes.logprob is None else set()
        names = [name for name in SIGNALS if name not in without] if self.bank.guided else []
        return {name: SIGNALS[name] for name in names}

    @property
    def grid(self) -> list[Pair]:
        """(k, k_meta) of the surface: k_meta every power of two below k, and k."""
        return [
            (k, keep) for k in self.ks for keep in (*(2**j for j in range((k - 1).bit_length())), k)
        ]

    def pair(self, method: Method, k: int) -> Pair:
        """What a method of the curves keeps at k."""
        return k, k if method in WHOLE else k_meta_for(k, self.cfg.k_meta_share)

    @cached_property
    def reading(self) -> Reading:
        """How often votes of its samples have something to read."""
        return Reading.of(self.bank.samples.votes, self.subsets, self.ks, self.cfg.invalid)

    def estimates(self, method: Method) -> dict[Pair, Estimate]:
        """A method at every (k, k_meta) of the curves and, for a signal, of the surface."""
        if method not in self._found:
            wanted = dict.fromkeys(self.pair(method, k) for k in self.ks)
            if method in self.signals.values():
                wanted |= dict.fromkeys(self.grid)
            # A filter that keeps all is a plain vote.
            whole = {} if method in WHOLE else self.estimates("voting")
            votes, invalid = self.bank.samples.votes, self.cfg.invalid
            fresh = [pair for pair in wanted if pair not in whole]
            found = estimates(votes, self.subsets, method, fresh, invalid)
            self._found[method] = {**whole, **found}
        return self._found[method]

    def key(self, method: str, k: int, k_meta: int) -> CellKey:
        """The name of one of its cells."""
        return CellKey(self.bank.key.policy, self.bank.key.size, method, k, k_meta)


Cells = Iterator[tuple[CellKey, Cell]]


def measure_bank(query: Query) -> dict[CellKey, Cell]:
    """What every source of :data:`SOURCES` finds in a bank."""
    return {key: cell for source in SOURCES for key, cell in source(query)}


def _voted(query: Query) -> Cells:
    """Votes of k samples, plain and filtered, at every k."""
    for method in METHODS:
        if method == "meta_voting" and not query.bank.guided:
            continue
        found = query.estimates(method)
        for pair in (query.pair(method, k) for k in query.ks):
            key = query.key(method, *pair)
            yield key, _cell(query, query.bank.samples, key, found[pair], query.reading)


def _mean_rated(query: Query) -> Cells:
    """Mean ratings at every k: invalid samples make them differ from sums."""
    draws = query.bank.samples
    if draws.votes.rated.any():
        nothing = Estimate(*np.full((5, len(query.bench.items)), np.nan))
        for k in query.ks:
            key = query.key("mean_voting", k, k)
            yield key, _cell(query, draws, key, nothing, query.reading)


def _greedy(query: Query) -> Cells:
    """The one greedy judgement of each item, if the bank has it."""
    draws = query.bank.greedy
    if draws is not None:
        one = Subsets(query.subsets.ids, draws.votes.n, 1, query.bank.key.seed)
        found = estimate(draws.votes, one, "voting", [1], 1.0, query.cfg.invalid)
        key = query.key("greedy", 1, 1)
        reading = Reading.of(draws.votes, one, [1], query.cfg.invalid)
        yield key, _cell(query, draws, key, found[1], reading)


def _stopped_early(query: Query) -> Cells:
    """Votes of at most the largest k that stop when a rule is content, at their mean tokens."""
    bank, draws, k = query.bank, query.bank.samples, query.ks[-1]
    found = by_method(
        draws.votes,
        query.subsets,
        query.cfg.adaptive,
        k,
        bank.score_range,
        draws.completion_tokens,
        query.cfg.invalid,
    )
    for method, values in found.items():
        prompt = draws.prompt_tokens.mean(axis=1)
        tokens = values.tokens + draws.principle_tokens
        orders = np.minimum(values.samples, _orders(query.bench))
        yield (
            query.key(method, k, k),
            Cell(
                accuracy=np.where(draws.votes.undecided, np.nan, values.credit),
                tied=values.tied,
                rerun=np.full_like(values.credit, np.nan),
                error=values.error,
                invalid=_invalid(draws),
                tokens=tokens,
                flops=_times(bank.params, tokens + orders * prompt),
            ),
        )


SOURCES: tuple[Callable[[Query], Cells], ...] = (_voted, _mean_rated, _greedy, _stopped_early)


def measure_surface(query: Query) -> dict[CellKey, Cell]:
    """A guided bank's filtered votes at every k, keeping each power of two below k, and all k.

    Beside ``meta_voting`` its bounds, the oracle and a random choice, and cheap signals.
    """
    cells = {}
    for method in query.signals.values():
        found = query.estimates(method)
        for pair in query.grid:
            key = query.key(method, *pair)
            cells[key] = _cell(query, query.bank.samples, key, found[pair], query.reading)
    return cells


def _cell(query: Query, draws: Draws, key: CellKey, found: Estimate, reading: Reading) -> Cell:
    """A cell from its estimate; a majority of verdicts is their vote, and not told twice."""
    votes, greedy = draws.votes, key.method == "greedy"
    repeats = votes.single & (key.method == "majority")
    fresh = np.nan if greedy or key.k >= votes.n else votes.n / (votes.n - key.k)
    tokens, flops = _costs(query, draws, key.k, meta=key.method == "meta_voting")
    return Cell(
        accuracy=np.where(repeats, np.nan, found.credit),
        tied=found.tied,
        rerun=found.spread * fresh,
        error=found.error,
        invalid=_invalid(draws),
        tokens=tokens,
        flops=flops,
        auc=_auc(votes, "voting" if greedy else key.method, key.k, key.k_meta),
        won=found.won,
        read=reading.read[key.k],
        earned=reading.earned(found.credit, key.k),
    )


def _auc(votes: Votes, method: str, k: int, k_meta: int) -> ratings.Auc | None:
    items = np.flatnonzero(votes.rated)
    if not len(items) or method not in ratings.METHODS:
        return None
    return ratings.Auc(items, votes.take(items), method, k, k_meta / k)


def _costs(query: Query, draws: Draws, k: int, *, meta: bool) -> tuple[Floats, Floats]:
    """Generated tokens and FLOPs of k samples of each item, filtered away or not.

    2 FLOPs a parameter and token: every generated token, and the prompt once for each order of the
    responses, of which k samples show about min(k, n!). Principles written beforehand count once. A
    meta RM reads every sample whole.
    """
    completion: Floats = draws.completion_tokens.mean(axis=1)
    prompt: Floats = draws.prompt_tokens.mean(axis=1)
    tokens = k * completion + draws.principle_tokens
    orders = np.minimum(k, _orders(query.bench))
    flops = _times(query.bank.params, tokens + orders * prompt)
    if meta:
        flops = flops + _times(query.bank.metarm_params, k * (completion + prompt))
    return tokens, flops


def _invalid(draws: Draws) -> Floats:
    """Share of each item's samples that hold no scores."""
    return np.asarray((~draws.votes.valid).mean(axis=1), dtype=np.float64)


def _orders(bench: Bench) -> Floats:
    """In how many orders an item's responses can be shown."""
    return np.array([float(math.factorial(min(item.n, 8))) for item in bench.items])


def _times(params: int | None, tokens: Floats) -> Floats:
    return np.full(tokens.shape, np.nan) if params is None else 2.0 * params * tokens
