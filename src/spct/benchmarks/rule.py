"""What a benchmark's averaging rule is: cells of items, weighted into sections and an overall.

A *cell* is the smallest set of items the benchmark counts; a :class:`Term` is the plain mean over
the pooled items of one or more cells; a section is a weighted mean of terms, and so is the overall.
Rules work on arrays, so that one call serves the point estimate and every bootstrap draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spct.records import Item

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# How a judge tells which response is better: it writes a score of each, it writes the number of the
# better one, or it gives real numbers and writes nothing that is read.
Answer = Literal["scores", "index", "scalar"]
OVERALL = "overall"
_NAMED = 9  # gaps of a benchmark that are told one by one


class Unit(NamedTuple):
    """What the official count of a cell counts: ``size`` items of one ``id`` make it whole."""

    id: str
    size: int


@dataclass(frozen=True)
class Term:
    """The mean over the pooled items of ``cells``, and its weight among a section's terms."""

    weight: float
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Coverage:
    """Whole units of each cell, against the official number."""

    rule: str
    have: Mapping[str, int]
    official: Mapping[str, int]

    @property
    def missing(self) -> dict[str, tuple[int, int]]:
        """Cells with another count than the official one: ``{cell: (have, official)}``."""
        pairs = {cell: (self.have[cell], count) for cell, count in self.official.items()}
        return {cell: (have, count) for cell, (have, count) in pairs.items() if have != count}

    def complete(self, cells: Iterable[str] | None = None) -> bool:
        """Whether ``cells`` (default: all of them) hold exactly their official number of units."""
        missing = self.missing
        return not any(cell in missing for cell in (self.official if cells is None else cells))

    def __str__(self) -> str:
        if self.complete():
            return f"{self.rule}: complete"
        gaps = [f"{cell} {have} of {count}" for cell, (have, count) in self.missing.items()]
        named = gaps if len(gaps) <= _NAMED else [*gaps[: _NAMED - 1], self._rest(_NAMED - 1)]
        return f"{self.rule}: partial, {', '.join(named)}"

    def _rest(self, told: int) -> str:
        gaps = list(self.missing.values())[told:]
        have, count = (sum(column) for column in zip(*gaps, strict=True))
        return f"and {len(gaps)} further parts {have} of {count}"


class Rule(Protocol):
    """How one benchmark turns per-item credits into its official numbers."""

    @property
    def name(self) -> str: ...

    @property
    def sections(self) -> tuple[str, ...]: ...

    def coverage(self, items: Sequence[Item]) -> Coverage: ...

    def credit(self, win: Floats, tie: Floats, answer: Answer = "scores") -> Floats: ...

    def scores(self, items: Sequence[Item], values: Floats, weights: Floats) -> dict[str, Floats]:
        """See :meth:`Averages.scores`."""
        ...

    def judged(
        self,
        items: Sequence[Item],
        win: Floats,
        tie: Floats,
        weights: Floats,
        answer: Answer = "scores",
    ) -> dict[str, Floats]:
        """See :meth:`Averages.judged`."""
        ...

    def members(self, items: Sequence[Item]) -> dict[str, Bools]:
        """See :meth:`Averages.members`."""
        ...


def by_item(item: Item) -> Unit:
    """Every item counts by itself."""
    return Unit(item.id, 1)


def every(_: Item) -> bool:
    """Every item is scored."""
    return True


@dataclass(frozen=True)
class Averages:
    """A rule whose sections are weighted means of term means.

    ``tie`` is upstream's credit for a tie of two responses, ``ties`` that for judges of which it
    has another (the paper breaks ties at random, which is ½ everywhere). Items for which ``scored``
    is false are counted but not averaged.
    """

    name: str
    official: Mapping[str, int]
    parts: Mapping[str, tuple[Term, ...]]
    overall: tuple[Term, ...]
    cell: Callable[[Item], str]
    tie: float
    unit: Callable[[Item], Unit] = by_item
    scored: Callable[[Item], bool] = every
    ties: Mapping[Answer, float] = field(default_factory=dict)

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def credit(self, win: Floats, tie: Floats, answer: Answer = "scores") -> Floats:
        """Official credit of a judge's votes, from P(win) and P(tie), same shapes.

        ``win`` is strict: whatever is right stands above all that is wrong. ``tie`` is twice what
        ties broken at random add to it, which for two responses is P(tie). Raises ``ValueError`` if
        these are not probabilities.
        """
        check_outcomes(win, tie)
        return np.asarray(win + self.ties.get(answer, self.tie) * tie)

    def judged(
        self,
        items: Sequence[Item],
        win: Floats,
        tie: Floats,
        weights: Floats,
        answer: Answer = "scores",
    ) -> dict[str, Floats]:
        """:meth:`scores` of judgements, from P(win) and P(tie) of each item's vote, both (I,).

        Both as :meth:`credit` takes them; of an item that people called a tie ``win`` is 0 and
        ``tie`` P(tie). Raises ``ValueError`` as :meth:`credit` and :meth:`scores` do.
        """
        return self.scores(items, self.credit(win, tie, answer), weights)

    def members(self, items: Sequence[Item]) -> dict[str, Bools]:
        """Which items ``(I,)`` each section and the overall count: the scored ones of its cells."""
        scored = np.fromiter(map(self.scored, items), np.bool_, len(items))
        cells = np.array(self.cells(items), dtype=object)
        parts = {**self.parts, OVERALL: self.overall}
        return {
            section: scored & np.isin(cells, [cell for term in terms for cell in term.cells])
            for section, terms in parts.items()
        }

    def cells(self, items: Sequence[Item]) -> list[str]:
        """The cell of each item. Raises ``ValueError`` for an item of none."""
        found = [self.cell(item) for item in items]
        for item, cell in zip(items, found, strict=True):
            if cell not in self.official:
                raise ValueError(
                    f"{self.name}: item {item.id!r} is in {cell!r}, which is not one of "
                    f"{', '.join(self.official)}; mend its loader"
                )
        return found

    def coverage(self, items: Sequence[Item]) -> Coverage:
        """Units of each cell that are there whole; a unit with items to spare is not whole."""
        return self.count(items, self.cells(items))

    def count(self, items: Sequence[Item], cells: Sequence[str]) -> Coverage:
        """:meth:`coverage` of items whose cells are known."""
        there = Counter(zip(cells, map(self.unit, items), strict=True))
        whole = Counter(cell for (cell, unit), number in there.items() if number == unit.size)
        return Coverage(self.name, {cell: whole[cell] for cell in self.official}, self.official)

    def scores(self, items: Sequence[Item], values: Floats, weights: Floats) -> dict[str, Floats]:
        """Sections and overall, each ``(B,)``, for every row of ``weights``.

        ``values`` (I,) float64: expected credit of each item in [0, 1]. ``weights`` (B, I) float64:
        bootstrap weights of the items, not negative; a uniform row gives the point estimate, and
        rows need not sum to one. A term none of whose items a draw holds keeps its mean over all
        its items in that draw: the draw says nothing about it, and no number becomes NaN.

        A section with other counts than the official ones comes under ``"<section> (partial)"``,
        from those of its terms that have items, with their weights; one without items is left out.
        ``"overall"`` is there only if every cell is complete. Raises ``ValueError`` for an item of
        no cell, and for values or weights of the wrong shape or range.
        """
        values, cells = self.checked(items, values, weights), self.cells(items)
        return self.average(self.count(items, cells), cells, values, weights)

    def checked(self, items: Sequence[Item], values: Floats, weights: Floats) -> Floats:
        """``values``, NaN for items that are not scored. Raises ``ValueError`` as ``scores``."""
        check_weights(weights, len(items))
        scored = np.fromiter(map(self.scored, items), dtype=np.bool_, count=len(items))
        check_values(values, scored)
        return np.where(scored, values, np.nan)

    def average(
        self, coverage: Coverage, cells: Sequence[str], values: Floats, weights: Floats
    ) -> dict[str, Floats]:
        """:meth:`scores` of checked arrays (I,), (B, I), given the cell of each value."""
        column = {cell: index for index, cell in enumerate(self.official)}
        member = np.zeros((len(cells), len(column)))
        member[np.arange(len(cells)), [column[cell] for cell in cells]] = ~np.isnan(values)
        credit = member * np.nan_to_num(values)[:, None]
        count, total = member.sum(axis=0), credit.sum(axis=0)
        mass, gain = weights @ member, weights @ credit

        def mean(term: Term) -> Floats | None:
            pool = [column[cell] for cell in term.cells]
            if not count[pool].any():
                return None
            drawn, won = mass[:, pool].sum(axis=1), gain[:, pool].sum(axis=1)
            plain = np.full(len(weights), total[pool].sum() / count[pool].sum())
            return np.divide(won, drawn, out=plain, where=drawn > 0)

        return self.combine(coverage, mean)

    def combine(
        self, coverage: Coverage, mean: Callable[[Term], Floats | None]
    ) -> dict[str, Floats]:
        """Sections and overall from the value of each term (``None``: it has no items)."""
        scores: dict[str, Floats] = {}
        for section, terms in self.parts.items():
            value = _weigh(terms, mean)
            if value is not None:
                whole = coverage.complete(cell for term in terms for cell in term.cells)
                scores[section if whole else f"{section} (partial)"] = value
        if coverage.complete() and (overall := _weigh(self.overall, mean)) is not None:
            scores[OVERALL] = overall
        return scores


def single_cells(weights: Mapping[str, float]) -> tuple[Term, ...]:
    """One term for each cell."""
    return tuple(Term(weight, (cell,)) for cell, weight in weights.items())


def mean_of(sections: Iterable[tuple[Term, ...]]) -> tuple[Term, ...]:
    """The unweighted mean of sections, as terms."""
    totals = [(terms, sum(term.weight for term in terms)) for terms in sections]
    return tuple(
        Term(term.weight / total / len(totals), term.cells)
        for terms, total in totals
        for term in terms
    )


def check_outcomes(win: Floats, tie: Floats) -> None:
    """Raise ``ValueError`` unless ``win``, ``tie`` and the rest to one are probabilities."""
    slack = 1e-9
    if not np.all((win >= -slack) & (tie >= -slack) & (win + tie <= 1 + slack)):
        raise ValueError("win and tie must be probabilities that add up to at most one")


def check_values(values: Floats, scored: NDArray[np.bool_]) -> None:
    """Raise ``ValueError`` unless every scored item has a credit in [0, 1]."""
    if values.shape != scored.shape:
        raise ValueError(
            f"values have shape {values.shape}; {len(scored)} items need {len(scored)}"
        )
    bad = int(np.count_nonzero(~((values >= -1e-9) & (values <= 1 + 1e-9)) & scored))
    if bad:
        raise ValueError(f"{bad} of {len(values)} values are not credits in [0, 1]")


def check_weights(weights: Floats, items: int) -> None:
    """Raise ``ValueError`` unless ``weights`` are rows of ``items`` weights, none of them empty."""
    if weights.ndim != 2 or weights.shape[1] != items:
        raise ValueError(f"weights have shape {weights.shape}; {items} items need (draws, {items})")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=1).all()):
        raise ValueError("weights must be finite and not negative, with an item drawn in every row")


def meta(rule: str, item: Item, key: str, allowed: Sequence[object] | None = None) -> Any:
    """``item.meta[key]``. Raises ``ValueError`` if it is absent or not one of ``allowed``."""
    value = item.meta.get(key)
    if value is None or (allowed is not None and value not in allowed):
        wanted = f" one of {', '.join(map(str, allowed))}" if allowed is not None else ""
        raise ValueError(f"{rule}: item {item.id!r} needs meta {key!r}{wanted}, not {value!r}")
    return value


def _weigh(terms: Sequence[Term], mean: Callable[[Term], Floats | None]) -> Floats | None:
    """Weighted mean of the terms that have items, ``None`` if none has."""
    there = [(term.weight, value) for term in terms if (value := mean(term)) is not None]
    if not there:
        return None
    total = sum(weight for weight, _ in there)
    return np.asarray(sum(weight / total * value for weight, value in there))
