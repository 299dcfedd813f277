"""JudgeBench (arXiv 2410.12784): pairs judged in both orders, four categories, all pairs pooled.

Upstream: ScalerLab/JudgeBench, ``utils/metrics.py`` (``compute_final_metrics``). Each of the two
verdicts counts +1 if right, −1 if wrong, 0 if a tie or missing; a pair is right if the sum is
positive. As credits:

    ============  ===========  ===========  ============
    first order   second: won  second: tie  second: lost
    ============  ===========  ===========  ============
    won           1            1            0
    tie           1            0            0
    lost          0            0            0
    ============  ===========  ===========  ============

Reward models play a single game (``run_judge.py --single_game``), since an order means nothing to
them: with A and B the responses in the file's order, the verdict is A > B if A's score is higher
and B > A otherwise (``utils/judges.py``), so that a tie is right exactly where B is.

Two separate sets, one for each model that wrote the responses; the overall of a set is the mean
over all its pairs, not over categories (``run_judge.py``).

Reads ``item.subset``: the :func:`category` of upstream's ``source``; ``item.meta``:
``response_model``; ``item.label`` of kind ``best``, responses in the file's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spct.benchmarks.rule import (
    Answer,
    Averages,
    Floats,
    Term,
    check_outcomes,
    meta,
    single_cells,
)
from spct.records import Item

_PREFIXES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


def category(source: str) -> str:
    """Category of upstream's ``source``. Raises ``ValueError`` for an unknown one."""
    for prefix, name in _PREFIXES.items():
        if source.startswith(prefix):
            return name
    raise ValueError(f"judgebench: source {source!r} starts with none of {', '.join(_PREFIXES)}")


def both_orders(
    first_win: Floats, first_tie: Floats, second_win: Floats, second_tie: Floats
) -> Floats:
    """Expected official credit ``(I,)`` from P(win), P(tie) of the vote in each order, all (I,).

    "Win" is for the right response, in the order shown and in the reverse; a vote without verdict
    is a tie. Votes of the two orders are taken as independent. Raises ``ValueError`` if these are
    not probabilities.
    """
    check_outcomes(first_win, first_tie)
    check_outcomes(second_win, second_tie)
    return np.asarray(
        first_win * second_win + first_win * second_tie + first_tie * second_win,
    )


@dataclass(frozen=True)
class Games(Averages):
    """Averages over pairs, of which a reward model plays a single game each."""

    def judged(
        self,
        items: Sequence[Item],
        win: Floats,
        tie: Floats,
        weights: Floats,
        answer: Answer = "scores",
    ) -> dict[str, Floats]:
        """As :meth:`Averages.judged`, of one game a pair; two go through :func:`both_orders`."""
        if answer != "scalar":
            return super().judged(items, win, tie, weights, answer)
        check_outcomes(win, tie)
        second = np.fromiter((item.label.value == 1 for item in items), np.bool_, len(items))
        return self.scores(items, win + np.where(second, tie, 0), weights)


def _rule(name: str, response_model: str, pairs: Mapping[str, int]) -> Averages:
    def cell(item: Item) -> str:
        meta(name, item, "response_model", (response_model,))
        return item.subset

    return Games(
        name=name,
        official=pairs,
        parts={category: single_cells({category: 1}) for category in pairs},
        overall=(Term(1, tuple(pairs)),),
        cell=cell,
        tie=0.0,  # of a single game; two orders go through `both_orders`
    )


JUDGEBENCH_GPT = _rule(
    "judgebench_gpt",
    "gpt-4o-2024-05-13",
    {"knowledge": 154, "reasoning": 98, "math": 56, "coding": 42},
)
JUDGEBENCH_CLAUDE = _rule(
    "judgebench_claude",
    "claude-3-5-sonnet-20240620",
    {"knowledge": 154, "reasoning": 51, "math": 34, "coding": 31},
)
