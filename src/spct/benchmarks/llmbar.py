"""LLMBar (arXiv 2310.07641): a natural and four adversarial subsets of pairs.

*adversarial* is the unweighted mean of its four subsets, the overall that of all five, however many
pairs they have: the averages of the paper's tables. princeton-nlp/LLMBar gives the subsets alone
(``Dataset/LLMBar/**/statistics.json``).

Upstream asks in both orders and averages the two accuracies (``LLMEvaluator/evaluate.py``); seeded
random orders have that expectation. Ties: evaluators that name the better output must name one, and
an answer that names none is wrong, so a tie earns 0. Those that rate each output ("Rating") go once
for one and once for the other of two equal or unreadable ratings, so a tie earns ½; so it does for
a reward model, which upstream has none of.

Reads ``item.subset``.
"""

from __future__ import annotations

from spct.benchmarks.rule import Averages, single_cells

_ADVERSARIAL = {
    "adversarial_neighbor": 134,
    "adversarial_gptinst": 92,
    "adversarial_gptout": 47,
    "adversarial_manual": 46,
}
_COUNTS = {"natural": 100} | _ADVERSARIAL

LLMBAR = Averages(
    name="llmbar",
    official=_COUNTS,
    parts={subset: single_cells({subset: 1}) for subset in _COUNTS}
    | {"adversarial": single_cells(dict.fromkeys(_ADVERSARIAL, 1))},
    overall=single_cells(dict.fromkeys(_COUNTS, 1)),
    cell=lambda item: item.subset,
    tie=0.5,
    ties={"index": 0.0},
)
