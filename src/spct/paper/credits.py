"""Per-item credits of single numbers, from finished banks: only what tables and claims ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from spct.data.recast import GROUP
from spct.errors import BankError
from spct.judge.vote import k_meta_for
from spct.paper.members import Member
from spct.scaling import scalars
from spct.scaling.banks import Bank, Bench, read_banks, read_benches
from spct.scaling.estimators import METHODS, WHOLE, Method, Subsets, Votes, estimate, surface
from spct.scaling.stats import Floats
from spct.schema import ScalingConfig

GREEDY = "greedy"


class Vote(NamedTuple):
    """A way to decide: ``k_meta`` 0 is the method's own."""

    method: str
    k: int
    k_meta: int


Wanted = Mapping[tuple[str, str], Collection[Vote]]  # by policy and model config


class Found(NamedTuple):
    """The credits (I,) of a vote on the items of a bench; NaN where it has none."""

    seed: int
    policy: str
    size: str
    vote: Vote
    bench: Bench
    credit: Floats
    params: int | None


def of_member(member: Member, wanted: Wanted, cfg: ScalingConfig) -> Iterator[Found]:
    """What a run has of the votes wanted; a vote of more samples than a bank holds is left out.

    Raises as :func:`spct.scaling.banks.read_banks` and :func:`spct.scaling.scalars.read_tables`.
    """
    benches = read_benches(member.items)
    for bank in read_banks(member.banks, benches.values()):
        seed, policy, size = bank.key
        votes = wanted.get((policy, size), ())
        for vote, credit in of_bank(bank, benches[seed], votes, cfg):
            yield Found(seed, policy, size, vote, benches[seed], credit, bank.params)
    yield from _of_scores(member, benches, wanted, cfg)


def of_bank(
    bank: Bank, bench: Bench, votes: Iterable[Vote], cfg: ScalingConfig
) -> Iterator[tuple[Vote, Floats]]:
    """Credits of votes of one bank, greedy ones first."""
    held = bank.samples.votes.n
    able = [v for v in dict.fromkeys(votes) if v.k <= held and (bank.guided or not _guides(v))]
    ids, seed = [item.id for item in bench.items], bank.key.seed
    if bank.greedy is not None and (asked := [v for v in able if v.method == GREEDY]):
        one = Subsets(ids, bank.greedy.votes.n, 1, seed)
        greedy = estimate(bank.greedy.votes, one, "voting", [1], 1.0, cfg.invalid)
        yield from ((vote, greedy[1].credit) for vote in asked)
    subsets = Subsets(ids, held, cfg.subsets, seed)
    for method in METHODS:
        mine = [vote for vote in able if vote.method == method]
        if mine:
            yield from _voted(bank.samples.votes, subsets, method, mine, cfg)


def _voted(
    votes: Votes, subsets: Subsets, method: Method, asked: list[Vote], cfg: ScalingConfig
) -> Iterator[tuple[Vote, Floats]]:
    """One method at every k and k_meta at once, which is much faster than one by one."""
    ks = sorted({vote.k for vote in asked})
    if method in WHOLE:
        by_k = estimate(votes, subsets, method, ks, 1.0, cfg.invalid)
        yield from ((vote, by_k[vote.k].credit) for vote in asked)
        return
    keeps = {vote: vote.k_meta or k_meta_for(vote.k, cfg.k_meta_share) for vote in asked}
    found = surface(votes, subsets, method, ks, sorted(set(keeps.values())), cfg.invalid)
    yield from ((vote, found[vote.k, keep].credit) for vote, keep in keeps.items())


def _guides(vote: Vote) -> bool:
    return vote.method == "meta_voting"


def _of_scores(
    member: Member, benches: Mapping[int, Bench], wanted: Wanted, cfg: ScalingConfig
) -> Iterator[Found]:
    """Votes by real numbers: scalars, and means over sampled critiques."""
    for table in scalars.read_tables(member.scores, benches):
        seed, policy, size = table.key
        votes = [v for v in wanted.get((policy, size), ()) if v.method == table.method]
        if not votes:
            continue
        ks = sorted({vote.k for vote in votes})
        cells = scalars.measure(table, benches[seed], replace(cfg, ks=ks))
        for vote in votes:
            if (cell := cells.get(table.cell_key(vote.k))) is not None:
                found = benches[seed], cell.accuracy, table.params
                yield Found(seed, policy, size, vote, *found)


def aligned(found: Found, reference: Bench) -> Floats:
    """The credits in the order of the reference's items; NaN for those that were not judged.

    A list judged as pairs (:mod:`spct.data.recast`) has the product of its pairs' credits, which
    are sampled independently: the probability that all are right. Raises :class:`BankError` if an
    item is another one than the reference's of that id, or none of an item's is.
    """
    credit = np.full(len(reference.items), np.nan)
    for item, value in zip(found.bench.items, found.credit, strict=True):
        name = item.meta.get(GROUP, item.id)
        if (place := reference.index.get(name)) is None:
            raise BankError(f"{found.bench.path}: item {item.id} is not in {reference.path}")
        own = reference.items[place]
        if item.messages != own.messages or not set(item.responses) <= set(own.responses):
            raise BankError(
                f"{found.bench.path}: item {item.id} is another one in {reference.path}"
            )
        before = credit[place]
        credit[place] = value if np.isnan(before) or GROUP not in item.meta else before * value
    return credit
