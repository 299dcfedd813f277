"""Every estimate equals brute force over all subsets with the judge's own scalar rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.judge.predicate import correct, credit, sides
from spct.judge.vote import guided_vote, k_meta_for, majority, vote
from spct.records import Label
from spct.scaling import enumeration, exact
from spct.scaling.estimators import METHODS, WHOLE, Estimate, Method, Subsets, estimate, surface
from spct.scaling.votes import Votes, decide

Sample = list[int] | None
FILTERS: list[Method] = ["meta_voting", "margin_voting", "oracle_voting"]


class Judged(NamedTuple):
    """One item's samples (None is invalid), meta scores and display orders."""

    responses: int
    label: Label
    row: list[Sample]
    meta: list[float]
    stratum: list[int]


def votes_of(items: list[Judged]) -> Votes:
    """Arrays of a bank, written the slow way."""
    width = max(2, *(item.responses for item in items))
    shape = (len(items), len(items[0].row))
    scores = np.zeros((*shape, width), dtype=np.float32)
    right = np.zeros(shape, dtype=bool)
    answers, better, worse = np.zeros((3, len(items), width), dtype=bool)
    for i, item in enumerate(items):
        single = item.responses == 1
        truth = int(item.label.value[0]) if single else 0
        top, below = ([truth], [1 - truth]) if single else sides(item.label, item.responses)
        better[i, top] = worse[i, below] = True
        answers[i, : max(2, item.responses)] = True
        for j, sample in enumerate(item.row):
            if sample is not None:
                points = [1 - sample[0], sample[0]] if single else sample
                scores[i, j, : len(points)] = points
                right[i, j] = correct(sample, item.label)
    return Votes(
        scores=scores,
        valid=np.array([[sample is not None for sample in item.row] for item in items]),
        answers=answers,
        better=better,
        worse=worse,
        single=np.array([item.responses == 1 for item in items]),
        correct=right,
        meta=np.array([item.meta for item in items], dtype=float),
        stratum=np.array([item.stratum for item in items], dtype=np.int16),
    )


def outcome(item: Judged, row: list[Sample], invalid: str) -> tuple[float, bool]:
    """Credit and tie of one vote by the scalar functions of the judge."""
    if item.responses == 1:
        verdict = majority([s and s[0] for s in row], invalid=invalid)
        return credit([verdict], item.label), verdict == 0.5
    totals = vote(row, invalid=invalid, n=item.responses)
    return credit(totals, item.label), sorted(totals)[-1] == sorted(totals)[-2]


def signal(item: Judged, method: Method) -> list[float]:
    """What a filter ranks by, sample by sample."""
    if method == "meta_voting":
        return item.meta
    if method == "oracle_voting":
        return [float(s is not None and correct(s, item.label)) for s in item.row]
    margin = [s and (1 if item.responses == 1 else sorted(s)[-1] - sorted(s)[-2]) for s in item.row]
    return [float(gap or 0) for gap in margin]


def top_answer(sample: Sample) -> Sample:
    """A point for the strictly best answer, none for anybody in a tie."""
    if sample is None or len(sample) == 1:
        return sample
    return [int(x == max(sample) and sample.count(x) == 1) for x in sample]


def kept(
    item: Judged, members: tuple[int, ...], method: Method, keep: int, invalid: str
) -> Iterator[list[Sample]]:
    """The samples of a subset that vote; equally likely sets where the choice is random."""
    row = [item.row[j] for j in members]
    if method == "majority":
        yield [top_answer(sample) for sample in row]
    elif method == "random_voting":
        usable = [s for s in row if s is not None or invalid == "zero"]
        yield from map(list, itertools.combinations(usable, min(keep, len(usable))))
    elif method in FILTERS:
        chosen = [signal(item, method)[j] for j in members]
        strength = [-math.inf if math.isnan(x) else x for x in chosen]
        ranked = sorted(range(len(row)), key=lambda j: (-strength[j], j))
        first = [row[j] for j in ranked if row[j] is not None or invalid == "zero"][:keep]
        if invalid == "drop" and item.responses > 1:
            n = item.responses
            assert vote(first, n=n) == guided_vote(row, strength, keep, n=n)
        yield first
    else:
        yield row


def splits(item: Judged, k: int) -> list[dict[int, int]]:
    """Every most equal way to take k samples from the strata: only an empty one may lag behind."""
    sizes = {name: item.stratum.count(name) for name in set(item.stratum)}
    found = []
    for counts in itertools.product(*(range(size + 1) for size in sizes.values())):
        split = dict(zip(sizes, counts, strict=True))
        behind = [name for name in split if split[name] + 1 < max(counts)]
        if sum(counts) == k and all(split[name] == sizes[name] for name in behind):
            found.append(split)
    return found


def brute(item: Judged, method: Method, k: int, keep: int, invalid: str) -> Estimate:
    """Moments of the credit over all subsets."""
    parts = []
    ways = splits(item, k)
    for members in itertools.combinations(range(len(item.row)), k):
        split = {name: sum(item.stratum[j] == name for j in members) for name in set(item.stratum)}
        if split in ways:
            alike = math.prod(math.comb(item.stratum.count(s), c) for s, c in split.items())
            voters = list(kept(item, members, method, keep, invalid))
            for row in voters:
                share = 1 / len(ways) / alike / len(voters)
                parts.append((share, *outcome(item, row, invalid)))
    share, earned, tied = np.array(parts, dtype=float).T
    mean = share @ earned
    values = (mean, share @ tied, share @ (earned - mean) ** 2, 0.0, share @ (earned == 1))
    return Estimate(*(np.array([value]) for value in values))


def equal(
    got: Estimate, items: list[Judged], method: Method, k: int, keep: int, invalid: str
) -> None:
    for i, item in enumerate(items):
        wanted = brute(item, method, k, keep, invalid)
        for name, value in vars(wanted).items():
            assert vars(got)[name][i] == pytest.approx(value[0], abs=1e-12), (name, item)


KINDS = {
    1: [Label("correct", [True]), Label("correct", [False])],
    2: [Label("best", 0), Label("best", 1)],
    3: [
        Label("best", 2),
        Label("graded", [1, 5, 2]),
        Label("groups", {"better": [0, 2], "worse": [1]}),
        Label("groups", {"better": [1], "worse": [0]}),
        Label("votes", [2, 2, 0]),
    ],
    4: [Label("best", 0), Label("groups", {"better": [0, 3], "worse": [1, 2]})],
}
META = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


@st.composite
def judged(draw: st.DrawFn, n: int, strata: int = 1) -> Judged:
    """An item of n samples, one to four responses; few values, so that ties are common."""
    responses = draw(st.integers(1, 4))
    scores = st.integers(0, 1) if responses == 1 else st.integers(1, 4)
    sample = st.one_of(st.none(), st.lists(scores, min_size=responses, max_size=responses))
    row = draw(st.lists(sample, min_size=n, max_size=n))
    meta = [draw(META if s is not None else st.one_of(META, st.just(math.nan))) for s in row]
    stratum = draw(st.lists(st.integers(0, strata - 1), min_size=n, max_size=n))
    return Judged(responses, draw(st.sampled_from(KINDS[responses])), row, meta, stratum)


@st.composite
def banks(draw: st.DrawFn, n: int, strata: int = 1) -> list[Judged]:
    return draw(st.lists(judged(n, strata), min_size=1, max_size=4))


@given(data=st.data(), responses=st.integers(2, 4))
def test_totals_of_any_sign_are_decided_as_by_the_scalar_rule(
    data: st.DataObject, responses: int
) -> None:
    label = data.draw(st.sampled_from(KINDS[responses]))
    totals = data.draw(st.lists(st.integers(-2, 2), min_size=responses, max_size=responses))
    item = Judged(responses, label, [None], [0.0], [0])
    padded = votes_of([item, Judged(4, KINDS[4][0], [None], [0.0], [0])]).take(np.array([0]))
    shown = np.array([[totals + [0] * (4 - responses)]], dtype=np.float32)
    earned, tied = decide(shown, padded)
    assert earned[0, 0] == credit(totals, label)
    assert tied[0, 0] == (sorted(totals)[-1] == sorted(totals)[-2])


def subsets_of(items: list[Judged], draws: int = 1) -> Subsets:
    return Subsets([str(i) for i in range(len(items))], len(items[0].row), draws, 0)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(1, 6), invalid=st.sampled_from(["drop", "zero"]))
def test_equals_brute_force_over_all_subsets(data: st.DataObject, n: int, invalid: str) -> None:
    items, share = data.draw(banks(n)), data.draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    votes, subsets = votes_of(items), subsets_of(items)
    ks = data.draw(st.lists(st.integers(1, n), min_size=1, unique=True))
    for method in METHODS:
        found = estimate(votes, subsets, method, ks, share, invalid)
        assert list(found) == ks
        for k in ks:
            equal(found[k], items, method, k, k_meta_for(k, share), invalid)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 5), invalid=st.sampled_from(["drop", "zero"]))
def test_surface_equals_brute_force(data: st.DataObject, n: int, invalid: str) -> None:
    items, every = data.draw(banks(n)), range(1, n + 1)
    method = data.draw(st.sampled_from([*FILTERS, "random_voting"]))
    found = surface(votes_of(items), subsets_of(items), method, every, every, invalid)
    assert set(found) == {(k, keep) for k in every for keep in every if keep <= k}
    for (k, keep), got in found.items():
        equal(got, items, method, k, keep, invalid)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(1, 6), invalid=st.sampled_from(["drop", "zero"]))
def test_two_strata_of_pairs_equal_brute_force(data: st.DataObject, n: int, invalid: str) -> None:
    items = [item for item in data.draw(banks(n, strata=2)) if item.responses < 3]
    if items:
        votes, subsets = votes_of(items), subsets_of(items)
        for method in ("voting", "majority"):
            found = estimate(votes, subsets, method, range(1, n + 1), 1.0, invalid)
            for k, got in found.items():
                equal(got, items, method, k, k, invalid)


def random_bank(responses: int, n: int, strata: int = 1, items: int = 30) -> list[Judged]:
    draw = np.random.default_rng(responses * 100 + n)
    label = Label("correct", [True]) if responses == 1 else Label("best", 0)
    low, high = (0, 2) if responses == 1 else (1, 5)
    return [
        Judged(
            responses,
            label,
            [
                None if draw.random() < 0.15 else draw.integers(low, high, responses).tolist()
                for _ in range(n)
            ],
            draw.normal(size=n).tolist(),
            draw.permutation(np.arange(n) % strata).tolist(),
        )
        for _ in range(items)
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("invalid", ["drop", "zero"])
@pytest.mark.parametrize("size", [2, 3])
def test_random_subsets_agree_with_brute_force_within_their_error(
    method: Method, invalid: str, size: int
) -> None:
    """Strata of lists, and filters in strata, are drawn; the error reported is the error made."""
    items = random_bank(size, 6, strata=size)
    found = estimate(votes_of(items), subsets_of(items, 2000), method, [4], 0.5, invalid)[4]
    wanted = [brute(item, method, 4, 2, invalid) for item in items]
    exact_credit = np.array([value.credit[0] for value in wanted])
    spread = np.array([value.spread[0] for value in wanted])
    varies = spread > 1e-12
    if size == 2 and method in WHOLE:
        assert not found.error.any()
        np.testing.assert_allclose(found.credit, exact_credit, atol=1e-12)
        return
    assert (found.error[varies] > 0).all()
    score = (found.credit - exact_credit)[varies] / found.error[varies]
    assert 0.4 < (score**2).mean() < 2.2
    np.testing.assert_allclose(found.credit[~varies], exact_credit[~varies])
    np.testing.assert_allclose(found.spread, spread, atol=0.03)
    np.testing.assert_allclose(found.tied, [value.tied[0] for value in wanted], atol=0.06)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("responses", [1, 2, 3])
def test_counting_listing_and_drawing_agree(
    method: Method, responses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = random_bank(responses, 9)
    votes, subsets = votes_of(items), subsets_of(items, 1500)
    counted = estimate(votes, subsets, method, [5], 0.5)[5]
    monkeypatch.setattr(exact, "MOST_SAMPLES", 8)
    listed = estimate(votes, subsets, method, [5], 0.5)[5]
    monkeypatch.setattr(enumeration, "MOST_SETS", 0)
    drawn = estimate(votes, subsets, method, [5], 0.5)[5]
    assert not counted.error.any() and not listed.error.any()
    for name in ("credit", "tied", "spread"):
        np.testing.assert_allclose(vars(listed)[name], vars(counted)[name], atol=1e-12)
        np.testing.assert_allclose(vars(drawn)[name], vars(counted)[name], atol=0.07)
    assert abs(drawn.credit - counted.credit).max() > 0
    assert drawn.error.max() == pytest.approx(np.sqrt(drawn.spread.max() / 1499))


def test_many_lists_are_drawn_with_an_error_and_few_are_not() -> None:
    items = random_bank(3, 40, items=3)
    found = estimate(votes_of(items), subsets_of(items, 50), "voting", [1, 2, 20, 39, 40], 1.0)
    assert {k: bool(value.error.any()) for k, value in found.items()} == {
        1: False, 2: False, 20: True, 39: False, 40: False,
    }  # fmt: skip
    lone = estimate(votes_of(items), subsets_of(items, 1), "voting", [20], 1.0)[20]
    np.testing.assert_array_equal(lone.error, 0.5)


def test_scores_that_are_no_integers_are_listed_or_drawn() -> None:
    items = random_bank(2, 6)
    votes, subsets = votes_of(items), subsets_of(items, 10)
    whole = estimate(votes, subsets, "voting", [3], 1.0)[3]
    half = estimate(replace(votes, scores=votes.scores / 8), subsets, "voting", [3], 1.0)[3]
    np.testing.assert_allclose(half.credit, whole.credit, atol=1e-12)
    huge = replace(votes, scores=votes.scores * 2**20)
    np.testing.assert_allclose(
        estimate(huge, subsets, "voting", [3], 1.0)[3].credit, whole.credit, atol=1e-12
    )


def test_subsets_of_an_item_do_not_depend_on_its_company() -> None:
    alone, together = Subsets(["b"], 16, 10, 3), Subsets(["a", "b"], 16, 10, 3)
    np.testing.assert_array_equal(alone.ranks(np.array([0]))[0], together.ranks(np.array([1]))[0])
    other = Subsets(["b"], 16, 10, 4)
    assert (other.ranks(np.array([0])) != alone.ranks(np.array([0]))).any()
    np.testing.assert_array_equal(np.sort(alone.ranks(np.array([0]))[0], axis=1)[3], range(16))


def test_every_prefix_of_a_stratified_order_is_balanced() -> None:
    stratum = np.array([[0, 0, 1, 1, 1, 2, 2, 2, 2]], dtype=np.int16)
    subsets = Subsets(["a"], 9, 3000, 0)
    ranks = subsets.stratified(np.array([0]), stratum)[0]
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile(np.arange(9), (3000, 1)))
    item = Judged(2, Label("best", 0), [None] * 9, [0.0] * 9, stratum[0].tolist())
    for k in range(1, 10):
        counts = np.stack([((ranks < k) & (stratum == s)).sum(axis=1) for s in range(3)], axis=1)
        seen, times = np.unique(counts, axis=0, return_counts=True)
        assert sorted(map(tuple, seen.tolist())) == sorted(
            tuple(split[s] for s in range(3)) for split in splits(item, k)
        )
        np.testing.assert_allclose(times / 3000, 1 / len(seen), atol=0.05)
    # within a stratum every sample is as likely
    np.testing.assert_allclose(
        (ranks < 3).mean(axis=0), 1 / np.array([2] * 2 + [3] * 3 + [4] * 4), atol=0.05
    )


def test_ratings_have_no_accuracy() -> None:
    votes = votes_of(random_bank(2, 4, items=3))
    rating = np.array([False, True, False])
    mixed = replace(votes, rating=rating, answers=votes.answers & ~rating[:, None])
    for method in METHODS:
        plain = estimate(votes, Subsets(list("abc"), 4, 5, 0), method, [1, 3], 0.5)
        found = estimate(mixed, Subsets(list("abc"), 4, 5, 0), method, [1, 3], 0.5)
        for k, got in found.items():
            for name, values in vars(got).items():
                assert np.isnan(values[1])
                np.testing.assert_array_equal(values[~rating], vars(plain[k])[name][~rating])


def test_all_invalid_is_a_tie_of_all() -> None:
    items = [item._replace(row=[None] * 8) for item in random_bank(3, 8)]
    for method in METHODS:
        got = estimate(votes_of(items), subsets_of(items), method, [4], 0.5)[4]
        np.testing.assert_allclose(got.credit, 1 / 3)
        assert (got.tied == 1).all() and (got.spread < 1e-15).all()


def test_worked_example_of_the_paper() -> None:
    """Figure 3: sums 17 against 25; the meta RM keeps samples 1 and 3: 5 against 13."""
    row: list[Sample] = [[1, 5], [5, 6], [4, 8], [7, 6]]
    item = Judged(2, Label("best", 1), row, [2.0, -1.0, 1.0, -3.0], [0] * 4)
    votes, subsets = votes_of([item]), subsets_of([item])
    assert estimate(votes, subsets, "voting", [4], 0.5)[4].credit[0] == 1
    assert vote([[1, 5], [4, 8]]) == guided_vote(row, item.meta, 2) == [5, 13]
    assert estimate(votes, subsets, "meta_voting", [4], 0.5)[4].credit[0] == 1
    lone: Any = surface(votes, subsets, "oracle_voting", [4], [1])
    assert lone[4, 1].credit[0] == 1


def test_what_cannot_be_estimated_is_said() -> None:
    items = random_bank(3, 8)
    votes, subsets = votes_of(items), subsets_of(items)
    with pytest.raises(ValueError, match="k = 9 needs at least 9 samples"):
        estimate(votes, subsets, "voting", [2, 9], 0.5)
    with pytest.raises(ValueError, match="invalid = 'skip'"):
        estimate(votes, subsets, "voting", [2], 0.5, "skip")
    with pytest.raises(ValueError, match="meta scores"):
        estimate(replace(votes, meta=None), subsets, "meta_voting", [2], 0.5)
    with pytest.raises(ValueError, match="k_meta must be at least 1"):
        surface(votes, subsets, "oracle_voting", [2], [0])
    with pytest.raises(ValueError, match="majority has no k_meta"):
        surface(votes, subsets, "majority", [2], [1])
    with pytest.raises(ValueError, match="subsets must be at least 1"):
        Subsets(["a"], 4, 0)
