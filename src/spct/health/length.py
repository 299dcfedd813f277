"""Whether the longer response wins because it is longer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spct.health.measures import Measure, Parts, gap, share
from spct.health.panel import Panel
from spct.scaling.votes import Floats, Index

RIDGE = 1e-3  # times a parameter's square, per unit of weight: keeps a separable fit finite
STEPS = 25  # of Newton's method
DRAWS = 200  # bootstrap draws that are fitted


def length(panel: Panel) -> Iterator[Measure]:
    """Accuracy where the best response is the longest and where it is the shortest, and a slope.

    Lengths are in characters. ``slope`` is b of logit P(best beats an other) = a + b z at k = 1,
    with z the log ratio of their lengths in units of its root mean square: 0 for a judge that
    length does not move at equal quality.
    """
    if not panel.compared.any():
        return
    lengths = _lengths(panel)
    best = np.take_along_axis(lengths, np.maximum(panel.best, 0)[:, None], axis=1)
    others = panel.votes.worse & panel.compared[:, None]
    least = np.where(others, lengths, np.inf).min(axis=1)
    most = np.where(others, lengths, -np.inf).max(axis=1)
    longer = panel.compared & (best[:, 0] > most)
    shorter = panel.compared & (best[:, 0] < least)
    for k, credit in panel.voting(sorted({1, panel.votes.n})).items():
        right = [np.where(rows, credit, 0.0) for rows in (longer, shorter)]
        parts = (right[0], longer.astype(float), right[1], shorter.astype(float))
        yield share("length", "best longest", k, *parts[:2])
        yield share("length", "best shortest", k, *parts[2:])
        both = float(longer.any() and shorter.any())
        yield Measure("length", "gap", k, (longer | shorter) * both, parts, gap, scale="gap")
    decided = (panel.choice.sum(axis=(1, 2)) > 0) & panel.compared
    counts = others * decided[:, None] / np.maximum(others.sum(axis=1, keepdims=True), 1)
    pairs = (_beats(panel), np.log((best + 1) / (lengths + 1)), counts)
    yield Measure("length", "slope", 1, decided.astype(float), pairs, slope, DRAWS, "free")


def slope(weights: Floats, parts: Parts) -> Floats:
    """The second of the two numbers of :func:`fit`."""
    return fit(weights, parts)[:, 1]


def _lengths(panel: Panel) -> Floats:
    lengths = np.zeros(panel.votes.answers.shape)
    for i, item in enumerate(panel.items):
        lengths[i, : item.n] = [len(text) for text in item.responses]
    return lengths


def _beats(panel: Panel) -> Floats:
    """``(I, R)``: share of the valid samples in which the best outscores a response; ties half."""
    scores, valid = panel.votes.scores, panel.votes.valid
    at: Index = np.maximum(panel.best, 0)[:, None, None]
    over = np.take_along_axis(scores, at, axis=2) - scores
    won = ((over > 0) + 0.5 * (over == 0)) * valid[:, :, None]
    return np.asarray(won.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)[:, None])


def fit(weights: Floats, parts: Parts) -> Floats:
    """Logistic fits ``(B, 2)``, intercept and slope, of fractional wins to scaled length ratios.

    ``parts``, each (I, R): share of wins, log ratio of lengths, and how much a pair counts. Ratios
    are scaled by their root mean square over all items, so that a draw changes no unit. Newton's
    method on the log likelihood with a ridge; a step never moves a parameter by more than 2. NaN if
    no pair counts: a judge of which nothing can be read.
    """
    won, ratios, counts = parts
    used = counts > 0
    if not used.any():
        return np.full((len(weights), 2), np.nan)
    mass = weights[:, np.nonzero(used)[0]] * counts[used]
    mass = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300)
    y, z = won[used], ratios[used]
    scale = np.sqrt(np.average(z**2, weights=counts[used]))
    z = z / scale if scale > 0 else z
    beta = np.zeros((len(weights), 2))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(beta[:, :1] + beta[:, 1:] * z)))
        rest, curve = mass * (y - p), mass * p * (1 - p)
        rise = np.stack([rest.sum(axis=1), rest @ z], axis=1) - RIDGE * beta
        a, b, c = curve.sum(axis=1) + RIDGE, curve @ z, curve @ z**2 + RIDGE
        step = np.stack([c * rise[:, 0] - b * rise[:, 1], a * rise[:, 1] - b * rise[:, 0]])
        step = (step / (a * c - b**2)).T
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return beta
