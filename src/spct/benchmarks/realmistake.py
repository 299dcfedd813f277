"""ReaLMistake (arXiv 2404.03602): single responses with or without an error, ranked by ROC-AUC.

arXiv 2504.02495 (§4, Table 13) rates each response 1–10 and prints one ROC-AUC; positive class: no
error. It does not say whether that is one AUC over all 900 responses or a mean over tasks. Both are
given: ``pooled`` is the AUC of all items at once; ``overall`` is the mean over the six sets (three
tasks × two response models) in which upstream, which reports no AUC itself, gives every number
(psunlpgroup/ReaLMistake, ``dataset_stats/stats_table.txt``). Ties count ½, as AUC has it.

An AUC is no mean of per-item values, so this rule takes a function in their place.

Reads ``item.subset``: ``"<task>/<response model>"``, as the file's path is upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spct.benchmarks.rule import (
    Averages,
    Bools,
    Coverage,
    Floats,
    Term,
    check_weights,
    single_cells,
)
from spct.records import Item

NAME = "realmistake"
POOLED = "pooled"
AUC = Callable[[NDArray[np.intp], Floats], Floats]

_TASKS = (
    "math_word_problem_generation",
    "finegrained_fact_verification",
    "answerability_classification",
)
_MODELS = {"gpt-4-0613": 140, "Llama-2-70b-chat-hf": 160}
COUNTS = {f"{task}/{model}": n for task in _TASKS for model, n in _MODELS.items()}
_SETS = Averages(
    name=NAME,
    official=COUNTS,
    parts={task: single_cells({f"{task}/{model}": 1 for model in _MODELS}) for task in _TASKS}
    | {POOLED: (Term(1, tuple(COUNTS)),)},
    overall=single_cells(dict.fromkeys(COUNTS, 1)),
    cell=lambda item: item.subset,
    tie=0.5,
)
SECTIONS = _SETS.sections


def coverage(items: Sequence[Item]) -> Coverage:
    """Items of each subset against the official number. Raises ``ValueError`` as ``scores``."""
    return _SETS.coverage(items)


def members(items: Sequence[Item]) -> dict[str, Bools]:
    """As :meth:`Averages.members`. Raises ``ValueError`` as ``scores``."""
    return _SETS.members(items)


def scores(items: Sequence[Item], auc: AUC, weights: Floats) -> dict[str, Floats]:
    """Tasks, ``pooled`` and ``overall``, each ``(B,)``, named as by :meth:`Averages.scores`.

    ``auc(members, weights)`` gives the ROC-AUC (B,) of the items at positions ``members`` (m,)
    under their weights (B, m), NaN where a row holds only one class; such a row keeps the AUC under
    uniform weights. Raises ``ValueError`` for a subset that holds one class only, for an unknown
    subset, and for weights of the wrong shape or range.
    """
    check_weights(weights, len(items))
    where = np.array(_SETS.cells(items), dtype=object)

    def value(term: Term) -> Floats | None:
        members = np.flatnonzero(np.isin(where, term.cells))
        if not len(members):
            return None
        drawn = auc(members, weights[:, members])
        if not np.isnan(drawn).any():
            return drawn
        plain = auc(members, np.full((1, len(members)), 1 / len(members)))
        if np.isnan(plain).any():
            raise ValueError(
                f"realmistake: {', '.join(term.cells)} holds responses of one class only; "
                "ROC-AUC needs both"
            )
        return np.where(np.isnan(drawn), plain, drawn)

    return _SETS.combine(coverage(items), value)
