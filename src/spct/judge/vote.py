"""Many samples, one decision: sum voting (paper Eq. 14), meta-guided voting, majority of verdicts.

Scores are in the original order of the responses; ``None`` stands for an invalid sample. Votes work
on one set of samples; the expectation over all k-subsets of a bank is the business of the curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

INVALID = ("drop", "zero")
Scores = Sequence[int]


def vote(
    score_lists: Sequence[Scores | None], *, invalid: str = "drop", n: int | None = None
) -> list[int]:
    """Sum of the scores of each response over the samples.

    An invalid sample adds nothing under either policy, since a zero for everyone moves no total
    against another; ``invalid`` is checked here and matters in :func:`majority`. With no valid
    sample all ``n`` responses are tied at 0. Raises ``ValueError`` for lists of unequal length, or
    if the number of responses is known neither from a valid sample nor from ``n``.
    """
    _check(invalid)
    valid = [scores for scores in score_lists if scores is not None]
    sizes = {len(scores) for scores in valid} | ({n} if n is not None else set())
    if len(sizes) != 1:
        raise ValueError(f"one vote needs one number of responses, not {sorted(sizes)}")
    return [sum(scores[i] for scores in valid) for i in range(sizes.pop())]


def guided_vote(
    score_lists: Sequence[Scores | None],
    signal: Sequence[float | None],
    k_meta: int,
    *,
    n: int | None = None,
) -> list[int]:
    """Sum over the ``k_meta`` valid samples with the highest ``signal`` (e.g. the meta-RM logit).

    ``score_lists`` and ``signal`` run over all k samples in sample order: equal signals go to the
    lower index. Invalid samples leave before the ranking, so fewer than ``k_meta`` may remain.
    Raises ``ValueError`` as :func:`vote`, for ``k_meta < 1``, or if a valid sample has no signal.
    """
    return vote([score_lists[i] for i in ranked(score_lists, signal)[: _positive(k_meta)]], n=n)


def ranked(score_lists: Sequence[Scores | None], signal: Sequence[float | None]) -> list[int]:
    """Indices of the valid samples, highest signal first, ties by index."""
    strength: dict[int, float] = {}
    for i, (scores, value) in enumerate(zip(score_lists, signal, strict=True)):
        if scores is None:
            continue
        if value is None or math.isnan(value):
            raise ValueError(f"sample {i} is valid but its signal is {value}")
        strength[i] = value
    return sorted(strength, key=lambda i: (-strength[i], i))


def majority(verdicts: Sequence[int | None], *, invalid: str = "drop") -> float:
    """1.0 if most of the 0/1 verdicts on one response are 1, 0.0 if most are 0, 0.5 for a tie.

    An invalid verdict (``None``) is left out (``drop``) or counts as 0 (``zero``); with nothing
    left the vote is tied. :func:`spct.judge.predicate.credit` takes ``[majority(…)]``.
    """
    _check(invalid)
    votes = [verdict for verdict in verdicts if verdict is not None]
    if not set(votes) <= {0, 1}:
        raise ValueError(f"verdicts are 0 or 1, not {sorted(set(votes))}")
    count = len(votes) if invalid == "drop" else len(verdicts)
    twice = 2 * sum(votes)
    return 0.5 if twice == count else float(twice > count)


def k_meta_for(k: int, share: float = 0.5) -> int:
    """Samples that the meta RM keeps of ``k``: ``max(1, ceil(share · k))`` (paper: one half)."""
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not in (0, 1]")
    # 0.07 * 100 is 7.000000000000001: rounding first keeps the ceiling of the product meant.
    return max(1, math.ceil(round(share * _positive(k), 9)))


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"a vote needs at least one sample, not {k}")
    return k


def _check(invalid: str) -> None:
    if invalid not in INVALID:
        raise ValueError(f"invalid={invalid!r} is not one of {', '.join(INVALID)}")
