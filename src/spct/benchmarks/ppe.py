"""PPE, Preference Proxy Evaluations (arXiv 2410.14872): human preference, and correctness.

*Preference*: accuracy on 16,038 crowd battles. Battles that people called a tie have no right
answer: they count towards the set and are left out of the mean (their values may be NaN).
Reads ``item.meta["winner"]``, upstream's string; anything but ``model_a`` / ``model_b`` is a tie.

*Correctness*: unweighted mean of the pair accuracies on five sets, 2,555 rows in all. Upstream
keeps, in ``sampled_conflict_pairs`` of lmarena-ai/PPE-*-Best-of-K, the pairs of a right and a wrong
response it scores; how arXiv 2504.02495 drew its pairs is not said. The official count is one of
rows, each a question answered by one model, with all its pairs: MBPP-Plus asks the same question of
several models, so that 507 rows have fewer questions. Reads ``item.subset`` (mmlu_pro, math, gpqa,
mbpp_plus, ifeval), ``item.meta["question_id"]``, ``item.meta["model"]`` (upstream's ``model_name``;
a row without one is told by its question alone) and ``item.meta["pairs"]`` (how many pairs the row
has upstream).

Ties of the judge: upstream's code was not to be had; ½, as the paper's random tie-break gives.
"""

from __future__ import annotations

import json

from spct.benchmarks.rule import Averages, Unit, meta, single_cells
from spct.records import Item

PREFERENCE = "human_preference"
_ROWS = {"mmlu_pro": 512, "math": 512, "gpqa": 512, "mbpp_plus": 507, "ifeval": 512}


def _decided(item: Item) -> bool:
    return meta("ppe_preference", item, "winner") in ("model_a", "model_b")


def _row(item: Item) -> Unit:
    rule = "ppe_correctness"
    name = json.dumps([meta(rule, item, "question_id"), item.meta.get("model")])
    return Unit(name, int(meta(rule, item, "pairs")))


PPE_PREFERENCE = Averages(
    name="ppe_preference",
    official={PREFERENCE: 16038},
    parts={PREFERENCE: single_cells({PREFERENCE: 1})},
    overall=single_cells({PREFERENCE: 1}),
    cell=lambda item: item.subset,
    tie=0.5,
    scored=_decided,
)

PPE_CORRECTNESS = Averages(
    name="ppe_correctness",
    official=_ROWS,
    parts={subset: single_cells({subset: 1}) for subset in _ROWS},
    overall=single_cells(dict.fromkeys(_ROWS, 1)),
    cell=lambda item: item.subset,
    tie=0.5,
    unit=_row,
)
