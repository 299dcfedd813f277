"""Where an interval ends: the formulas, of a value, its variance and the prompts behind it.

Near 0 and 1 what was seen says too little about its own spread: thirty right items have none. So
every interval is smoothed by what was not seen.

*Shares* (accuracies, ROC-AUCs, rates) are Wilson score intervals, reached a little further towards
those of Agresti and Coull, which have the same middle. Wilson's own cover as little as 90 % beyond
0.97, Agresti and Coull's too much (Brown, Cai and DasGupta 2001, "Interval estimation for a
binomial proportion"). Items are no coin flips: credits are fractions and items share prompts. The
number of flips that would be as sure, n / φ, therefore stands for n, as for surveys (Korn and
Graubard 1998); φ, the variance over that of n flips, is estimated from both the data and
:data:`PRIOR`, for the data alone know nothing of φ where hardly an item fails.

*Differences* of pairs are Wald intervals after one more pair each way (Bonett and Price 2012,
"Adjusted Wald confidence interval for a difference of binomial proportions based on paired data").
For fractional credits the pairs added are as large as what was seen to differ.
``benchmarks/coverage.py`` has what all of this covers.
"""

from __future__ import annotations

import math

TOWARDS = 1 / 3  # of the way from Wilson's half-width to that of Agresti and Coull
PRIOR = 0.5  # failures' worth of belief that a share varies as coin flips do, one a prompt
ADDED = 2  # pairs added to a difference, one each way
WHOLE = 0.25  # of a squared difference of 1 in all: belief that pairs differ by that if at all


def share(value: float, variance: float, prompts: float, reach: float) -> tuple[float, float]:
    """Interval of a share in [0, 1], ``reach`` standard errors to both sides.

    ``variance`` is of the share, ``prompts`` how many stand behind it. It holds the share, and is
    not empty whatever the variance.
    """
    failed = prompts * value * (1 - value)
    phi = (variance * prompts**2 + PRIOR) / (failed + PRIOR)
    flips, squared = prompts / phi, reach**2
    total = flips + squared
    middle = (flips * value + squared / 2) / total
    wilson = reach / total * math.sqrt(flips * value * (1 - value) + squared / 4)
    wider = reach * math.sqrt(middle * (1 - middle) / total)
    half = wilson + TOWARDS * (wider - wilson)
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))


def gap(value: float, variance: float, prompts: float, step: float) -> tuple[float, float]:
    """Middle and standard error of a paired difference in [−1, 1]; never zero.

    ``step`` is the squared size of the pairs to be added, of :func:`step`; 1 for whole items.
    """
    total = prompts + ADDED
    middle = prompts * value / total
    square = (prompts * (prompts * variance + value**2) + ADDED * step) / total
    return middle, math.sqrt(max(square - middle**2, step / total) / total)


def step(square: float, fourth: float, prompts: float) -> float:
    """Squared size that a pair differs by, where it does: 1 where hardly a pair was seen to.

    From the mean second and fourth power of the differences.
    """
    return (prompts * fourth + WHOLE) / (prompts * square + WHOLE)
