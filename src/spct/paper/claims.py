"""The claims table: for each claim of the paper what our numbers say, decided by one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spct.paper.data import EQUAL, ClaimSpec
from spct.paper.results import Results, Score
from spct.scaling.stats import holm

REPRODUCED = "reproduced in the toy setting"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable there"
COLUMNS = [
    *("claim", "verdict", "because", "difference", "low", "high", "p_holm", "items", "on"),
    *("number", "paper_difference", "paper_source"),
]


@dataclass(frozen=True)
class Finding:
    """One claim and the verdict; ``p_holm`` is adjusted over all claims that were tested."""

    spec: ClaimSpec
    score: Score | None
    verdict: str
    because: str
    p_holm: float | None = None

    @property
    def number(self) -> str:
        """The difference in words."""
        plus, minus = (" + ".join(map(str, refs)) for refs in (self.spec.plus, self.spec.minus))
        return f"({plus}) - ({minus})" if self.spec.plus else ""


def judge(specs: Sequence[ClaimSpec], results: Results) -> list[Finding]:
    """The findings, in the order of the claims."""
    found = [_find(spec, results) for spec in specs]
    adjusted = iter(holm([f.score.p for f in found if f.score is not None]))
    return [
        f if f.score is None else Finding(f.spec, f.score, f.verdict, f.because, next(adjusted))
        for f in found
    ]


def _find(spec: ClaimSpec, results: Results) -> Finding:
    if spec.untestable:
        return Finding(spec, None, NOT_TESTABLE, spec.untestable)
    single = results.members.single
    if spec.over and not single:
        return Finding(spec, None, NOT_TESTABLE, "the set has no benchmark of single responses")
    score = results.combination(spec.terms, [single] if spec.over else None)
    if score is None:
        lacking = [ref for _, ref in spec.terms if not results.has(ref)]
        named = ", ".join(map(str, lacking)) or "numbers on the same items"
        return Finding(spec, None, NOT_TESTABLE, f"the set lacks {named}")
    verdict, because = decide(spec, score)
    return Finding(spec, score, verdict, because)


def decide(spec: ClaimSpec, score: Score) -> tuple[str, str]:
    """Verdict and reason: the whole interval must lie where the claim says.

    Above zero; or, for an equality, within the claim's margin of zero. An interval that cannot be
    told (one prompt) reproduces nothing.
    """
    if spec.expect == EQUAL:
        margin = spec.margin / 100
        if -margin <= score.low and score.high <= margin:
            return REPRODUCED, f"the interval lies within {spec.margin:g} points of zero"
        return NOT_REPRODUCED, f"the interval reaches beyond {spec.margin:g} points from zero"
    if score.low > 0:
        return REPRODUCED, "the interval lies above zero"
    if score.high < 0:
        return NOT_REPRODUCED, "the interval lies below zero: the opposite"
    return NOT_REPRODUCED, "the interval holds zero"


def row(finding: Finding) -> dict[str, Any]:
    """A row of ``claims.csv``; differences of the paper are in points, ours fractions."""
    score = finding.score
    values = {} if score is None else {
        "difference": score.value,
        "low": score.low,
        "high": score.high,
        "p_holm": finding.p_holm,
        "items": score.items,
        "on": " ".join(score.on),
    }  # fmt: skip
    return {
        "claim": finding.spec.claim,
        "verdict": finding.verdict,
        "because": finding.because,
        **values,
        "number": finding.number,
        "paper_difference": finding.spec.paper,
        "paper_source": finding.spec.source,
    }
