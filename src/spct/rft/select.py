"""Rejection for RFT: a query on the rollout bank that keeps what is worth imitating.

Nothing is sampled or changed here: kept rows are copied into a bank of their own, rejected ones
stay in the rollout bank, where the meta RM needs them as negatives. A hinted row needs no rewriting
either: its training prompt is rebuilt *without the hint* from item and order, like any other row's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact, records
from spct.errors import StageStopped
from spct.finish import Outcome, meaning
from spct.records import Sample
from spct.schema import SelectConfig

if TYPE_CHECKING:
    from spct.config import Slice

KEPT = "kept"
FACTS = (
    *("policy", "size", "params", "engine", "tier", "slice", "model", "tokenizer", "items_hash"),
    *("template", "template_text", "special_tokens"),
)


class NothingKept(StageStopped):
    """No trajectory survived the rejection; the message has the count of each reason."""


def run(
    cfg: Slice, seed: int, *, items: Path, banks: list[Path], out: Path, out_ledger: Path
) -> None:
    """Write the kept rows (bank schema, sorted by key) and a ledger of all rows by reason.

    Reads ``cfg.select``. Raises :class:`NothingKept` unless ``allow_empty``, ``ValueError`` for a
    row of an unknown item, of kind ``greedy`` or occurring twice, and ``BrokenArtifact``.
    """
    sizes = {item.id: item.n for item in records.read_items(items)}
    rows = list(records.read_bank(banks))
    verdicts = judge_rows(rows, sizes, cfg.select)
    counts = Counter(verdicts)
    kept = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == KEPT]
    if not kept and not cfg.select.allow_empty:
        raise NothingKept(_explain(len(rows), counts))
    records.write_bank(
        out,
        sorted(kept, key=lambda row: row.key),
        **_shared_facts(banks),
        stage="select",
        seed=seed,
    )
    artifact.write_ledger(
        out_ledger,
        total=len(rows),
        kept=counts.pop(KEPT, 0),
        rejected=dict(sorted(counts.items())),
        detail={"by_n": _by_size(rows, verdicts, sizes)},
    )


def judge_rows(rows: list[Sample], sizes: dict[str, int], select: SelectConfig) -> list[str]:
    """``"kept"`` or the reason of the rejection, one per row.

    Plain rows (kind ``sample``): the outcome if it is not ok, ``wrong``, ``cut_off`` if the text
    did not end by itself or at a stop string (banks of older code read such rows), or ``too_easy``
    if all plain rows of the item are correct. Hinted rows know no too-easy rule: ``hinted_wrong``,
    ``hinted_cut_off`` or ``hinted_<outcome>``. ``plain_unused`` or ``hinted_unused`` if ``select``
    leaves out that kind.
    """
    plain_correct: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        if row.item_id not in sizes:
            raise ValueError(f"bank row {row.key} is of no item given; check io.items")
        if row.kind == "greedy":
            raise ValueError(f"bank row {row.key} is not a rollout; check io.banks")
        if row.kind == "sample":
            plain_correct[row.item_id].append(_right(row))
    easy = {item_id for item_id, right in plain_correct.items() if all(right)}
    return [_verdict(row, row.item_id in easy, select) for row in rows]


def _verdict(row: Sample, easy: bool, select: SelectConfig) -> str:
    plain = row.kind == "sample"
    if not (select.use_plain if plain else select.use_hinted):
        return "plain_unused" if plain else "hinted_unused"
    if not _right(row):
        reason = "wrong" if row.outcome == Outcome.ok else row.outcome
        return reason if plain else f"hinted_{reason}"
    if not meaning(row.finish).read:
        return "cut_off" if plain else "hinted_cut_off"
    return "too_easy" if plain and easy and select.drop_too_easy else KEPT


def _right(row: Sample) -> bool:
    return row.outcome == Outcome.ok and row.correct is True


def _by_size(
    rows: list[Sample], verdicts: Iterable[str], sizes: dict[str, int]
) -> dict[str, dict[str, int]]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for row, verdict in zip(rows, verdicts, strict=True):
        counts[sizes[row.item_id]][verdict] += 1
    return {str(n): dict(sorted(counts[n].items())) for n in sorted(counts)}


def _shared_facts(banks: list[Path]) -> dict[str, Any]:
    """Of ``FACTS``, what the manifests of all banks agree on."""
    first, *others = [artifact.read_manifest(path) for path in banks] or [{}]
    return {
        name: first[name]
        for name in FACTS
        if name in first and all(other.get(name) == first[name] for other in others)
    }


def _explain(total: int, counts: Counter[str]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "no rows"
    return (
        f"select: none of {total} trajectories is kept ({reasons}); "
        "sample more (rollout.n_rft), loosen select.*, or set select.allow_empty=true"
    )
