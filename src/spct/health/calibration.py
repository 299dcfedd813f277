"""Whether a vote that most samples agree with is right more often.

The confidence of a vote is the share of its samples that prefer its winner. That is *consistency*:
it says how sure another vote is to end alike, not that either is right. The expected calibration
error (ECE) is how far the two lie apart, so a judge that always errs the same way is consistent,
sure and badly calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spct.health.measures import Measure, Parts, mean, share
from spct.health.panel import Panel
from spct.scaling.votes import Bools, Floats, Index, ballots, decide

QUANTILES = 4


def calibration(panel: Panel) -> Iterator[Measure]:
    """Reliability of the vote over all n samples of each item that has one best answer.

    * ``bin:b``: accuracy of the votes whose confidence lies in the b-th of equal bins of [0, 1],
      ``bin:b:confidence`` their mean confidence;
    * ``ece``: Σ over bins of share × |accuracy − confidence|; it is above 0 by chance alone, by
      about ``ece:chance`` for a perfectly calibrated judge of as many items;
    * ``overconfidence``: mean confidence − accuracy, signed, which chance does not push up;
    * ``brier``: mean square of confidence − (right or wrong);
    * ``margin:q``: accuracy by quarter of the vote's margin, first minus second total as a share of
      the most that n samples can give; ``margin:q:mean`` its mean.
    """
    judged = panel.best >= 0
    if not judged.any():
        return
    k = panel.votes.n
    credit, sure, margin = _votes(panel)
    binned = np.minimum((sure * panel.bins).astype(np.int64), panel.bins - 1)
    member = (binned[:, None] == np.arange(panel.bins)) & judged[:, None]
    for b in range(panel.bins):
        here = member[:, b]
        yield share("calibration", f"bin:{b + 1}", k, here * credit, here)
        yield share("calibration", f"bin:{b + 1}:confidence", k, here * sure, here)
    counted = judged.astype(float)
    gaps = member * (credit - sure)[:, None]
    noise = member * (sure * (1 - sure))[:, None]
    yield Measure("calibration", "ece", k, counted, (gaps, counted), _ece, scale="free")
    yield Measure("calibration", "ece:chance", k, counted, (noise, counted), _chance, scale="free")
    yield mean("calibration", "overconfidence", k, np.where(judged, sure - credit, np.nan), "gap")
    square = credit * (1 - sure) ** 2 + (1 - credit) * sure**2
    yield mean("calibration", "brier", k, np.where(judged, square, np.nan))
    quarter = quantile(margin, judged)
    for q in range(QUANTILES):
        here = quarter == q
        yield share("calibration", f"margin:{q + 1}", k, here * credit, here)
        yield share("calibration", f"margin:{q + 1}:mean", k, here * margin, here)


def _votes(panel: Panel) -> tuple[Floats, Floats, Floats]:
    """Credit, confidence and margin ``(I,)`` of the vote of all samples; a tie is broken at random.

    Without any valid sample all answers are tied, each preferred by 1 / R.
    """
    votes = panel.votes
    totals = ballots(votes, "voting", panel.cfg.invalid).points.sum(axis=1)
    credit = decide(totals[:, None, :], votes)[0][:, 0]
    answers = votes.answers.sum(axis=1)
    shown = np.where(votes.answers, totals, -np.inf)
    top = shown == shown.max(axis=1, keepdims=True)
    voices = panel.choice.sum(axis=(1, 2))
    prefer = panel.choice.sum(axis=1) / np.maximum(voices, 1)[:, None]
    prefer[voices == 0] = 1 / np.maximum(answers[voices == 0], 1)[:, None]
    sure = (prefer * top).sum(axis=1) / top.sum(axis=1)
    ordered = np.sort(shown, axis=1)
    span = np.where(votes.single, 1, panel.high - panel.low) * max(votes.n, 1)
    judged = answers > 1
    margin = np.zeros(len(judged))
    margin[judged] = (ordered[judged, -1] - ordered[judged, -2]) / span[judged]
    return credit, sure, margin


def quantile(values: Floats, judged: Bools) -> Index:
    """Quarter 0..3 of each value by its mid-rank among the ``judged``, −1 for the others.

    Equal values share a quarter, so quarters may differ in size or be empty.
    """
    quarter = np.full(len(values), -1)
    found, place, counts = np.unique(values[judged], return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    quarter[judged] = np.minimum((middle * QUANTILES).astype(np.int64), QUANTILES - 1)[place]
    return quarter


def _ece(weights: Floats, parts: Parts) -> Floats:
    gaps, counted = parts
    return np.abs(weights @ gaps).sum(axis=1) / _positive(weights @ counted)


def _chance(weights: Floats, parts: Parts) -> Floats:
    """Σ over bins of E|normal| with the variance that a calibrated judge's accuracy has there."""
    noise, counted = parts
    variance = (weights @ noise) / _positive(weights @ counted)[:, None] / counted.sum()
    return np.sqrt(2 / np.pi * variance).sum(axis=1)


def _positive(mass: Floats) -> Floats:
    return np.where(mass > 0, mass, np.nan)
