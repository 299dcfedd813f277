"""The meta RM's logit as a probability: a slope and an intercept, fitted on held-out judgements.

Matching margins or classes in the fit moves the logit away from the log-odds of being right. Platt
scaling (Platt 1999, with his smoothed targets; Lin, Lin and Weng 2007) moves it back. The slope is
positive, so no ranking changes: votes keep using the raw logit, and banks keep theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FILE = "calibration.json"
LEAST_SCALE = 1e-3  # a logit that ranks the wrong way round gets as little weight as this
BINS = 10
_ROUNDS, _SMALL = 100, 1e-10


@dataclass(frozen=True)
class Calibration:
    """P(right) = sigmoid(``scale`` · logit + ``bias``), ``scale`` > 0."""

    scale: float = 1.0
    bias: float = 0.0

    @classmethod
    def of(cls, told: Mapping[str, float] | None) -> Calibration:
        """From a ``calibration.json`` or a bank's manifest; the raw sigmoid where neither tells."""
        return cls() if told is None else cls(float(told["scale"]), float(told["bias"]))

    def probability(self, logits: Floats) -> Floats:
        """P(right) of each logit, any shape."""
        return _sigmoid(self.scale * logits + self.bias)


def fit(logits: Sequence[float], right: Sequence[bool]) -> Calibration | None:
    """The slope and intercept of greatest likelihood; None without any judgement."""
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    if not len(x):
        return None
    positive, negative = int(y.sum()), int((~y).sum())
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    scale, bias = _newton(np.stack([x, np.ones_like(x)], axis=1), target)
    if scale < LEAST_SCALE:  # the likelihood is concave: the best of those allowed is at the edge
        scale = LEAST_SCALE
        (bias,) = _newton(np.ones((len(x), 1)), target, offset=scale * x)
    return Calibration(float(scale), float(bias))


def expected_error(probability: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten equal bins of [0, 1]; NaN without judgements."""
    if not len(probability):
        return float("nan")
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(place, weights=right - probability, minlength=BINS)
    return float(np.abs(gaps).sum() / len(probability))


def _newton(features: Floats, target: Floats, offset: Floats | float = 0.0) -> Floats:
    """Logistic regression by Newton steps, halved while they do not lower the loss."""
    weights = np.zeros(features.shape[1])
    loss = _loss(features @ weights + offset, target)
    for _ in range(_ROUNDS):
        chance = _sigmoid(features @ weights + offset)
        slope = features.T @ (chance - target)
        curve = features.T @ (features * (chance * (1 - chance))[:, None])
        step = np.linalg.solve(curve + _SMALL * np.eye(len(weights)), slope)
        while (below := _loss(features @ (weights - step) + offset, target)) > loss + _SMALL:
            step = step / 2
        if loss - below < _SMALL * len(target):
            return np.asarray(weights - step)
        weights, loss = weights - step, below
    return weights


def _loss(logits: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, logits) - target * logits).sum())


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)), dtype=np.float64)
