"""How many of k samples are different ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spct.health.measures import Measure, mean, share
from spct.health.panel import Panel
from spct.scaling.repeats import collisions, distinct, generated, multiplicities


def repeats(panel: Panel) -> Iterator[Measure]:
    """Duplicate rate and effective number of distinct texts among k, and the test for repeats.

    ``collisions:…`` are shares of equal texts among the pairs of samples of one prompt: observed,
    expected of independent draws, and the excess that :func:`spct.scaling.repeats.check` judges.
    """
    assert panel.draws.text is not None
    counts = multiplicities(panel.draws.text, generated(panel.draws))
    for k in panel.ks:
        if k > 1:
            found = distinct(counts, k)
            yield mean("repeats", "duplicates", k, found.duplicates)
            yield mean("repeats", "effective:simpson", k, found.simpson, "free")
            yield mean("repeats", "effective:entropy", k, found.entropy, "free")
    pairs = collisions(panel.draws)
    known = ~np.isnan(pairs.expected)
    held, chance = pairs.pairs * known, np.where(known, pairs.expected, 0.0)
    yield share("repeats", "collisions:observed", None, pairs.equal, pairs.pairs)
    yield share("repeats", "collisions:expected", None, chance, held)
    yield share("repeats", "collisions:excess", None, pairs.equal * known - chance, held, "gap")
