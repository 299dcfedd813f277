"""The overall of arXiv 2504.02495 (Table 2): the unweighted mean of four benchmarks.

ReaLMistake is not in it, and neither are RM-Bench and JudgeBench, which the paper does not use.
"""

from __future__ import annotations

import numpy as np

from spct.benchmarks.rule import Floats

NAME = "paper"
FOUR = ("rewardbench", "ppe_preference", "ppe_correctness", "rmb")


def overall(
    *, rewardbench: Floats, ppe_preference: Floats, ppe_correctness: Floats, rmb: Floats
) -> Floats:
    """Mean of the four benchmarks' official overalls, all ``(B,)``, draw by draw."""
    four = (rewardbench, ppe_preference, ppe_correctness, rmb)
    return np.asarray(np.mean(np.stack([np.asarray(score, dtype=np.float64) for score in four]), 0))
