"""How well a signal ranks right judgements over wrong ones: ROC-AUC, over all and within items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def auc(signal: Sequence[float], right: Sequence[bool]) -> float:
    """P(a right one scores higher than a wrong one) + P(equal) / 2; NaN if a class is missing."""
    values, truth = np.asarray(signal, dtype=float), np.asarray(right, dtype=bool)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if positive == 0 or negative == 0:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0
    total = mean_rank[place][truth].sum()
    return float((total - positive * (positive + 1) / 2) / (positive * negative))


def within_items(signal: Sequence[float], right: Sequence[bool], items: Sequence[str]) -> float:
    """The mean over items of the AUC among one item's judgements: what guided voting can use."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item].append(index)
    values = [
        auc([signal[i] for i in group], [right[i] for i in group]) for group in groups.values()
    ]
    finite = [value for value in values if not np.isnan(value)]
    return float(np.mean(finite)) if finite else float("nan")
