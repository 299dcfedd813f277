"""Stage ``curves``: banks of judgements to ``curves.csv`` and ``comparisons.csv``."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact
from spct.progress import Progress
from spct.scaling.banks import BankError, Bench, read_banks, read_bench
from spct.scaling.comparisons import COLUMNS as COMPARISON_COLUMNS
from spct.scaling.comparisons import POLICIES, compare, sizes_by_params
from spct.scaling.estimators import METHODS
from spct.scaling.measure import BASELINES, CellKey, Measured, content_blind, measure_bank
from spct.schema import ScalingConfig

if TYPE_CHECKING:
    from spct.config import Slice

COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "subset", "method", "k", "k_meta"),
    *("accuracy", "low", "high", "items", "tokens", "flops", "invalid_rate", "tie_rate"),
]
_METHOD_ORDER = ("greedy", *METHODS, *BASELINES)


def run(
    cfg: Slice,
    seed: int,
    *,
    items: list[Path],
    banks: list[Path],
    run: str,
    out: Path,
    out_comparisons: Path,
) -> None:
    """Measure all banks of a run against its held-out items (one items file a seed).

    For the guided policy pass the scored bank alone. ``seed`` seeds the bootstrap; subsets are
    seeded by the bank's own seed. Raises :class:`spct.scaling.banks.BankError` naming file and item
    when items and banks do not fit, :class:`spct.artifact.BrokenArtifact` for unreadable files.
    """
    started = time.monotonic()
    measured = measure(cfg.scaling, seed, items, banks)
    artifact.write_csv(out, COLUMNS, curve_rows(run, measured))
    artifact.write_csv(out_comparisons, COMPARISON_COLUMNS, compare(run, measured))
    artifact.write_timing(out, seconds=time.monotonic() - started)


def measure(
    cfg: ScalingConfig, seed: int, items: Sequence[Path], banks: Sequence[Path]
) -> Measured:
    """Per-item values of every curve and baseline."""
    benches: dict[int, Bench] = {}
    for path in items:
        bench = read_bench(path)
        if bench.seed in benches:
            raise BankError(f"{path} and {benches[bench.seed].path} both are of seed {bench.seed}")
        benches[bench.seed] = bench
    measured = Measured(cfg, seed, dict(sorted(benches.items())))
    for bench in measured.benches.values():
        measured.add(bench.seed, content_blind(bench))
    found = read_banks(banks, benches.values())
    with Progress("curves", len(found), unit="banks") as bar:
        for bank in found:
            measured.params.setdefault(bank.key.size, bank.params)
            measured.add(bank.key.seed, measure_bank(bank, benches[bank.key.seed], cfg))
            bar.add()
    return measured


def curve_rows(run: str, measured: Measured) -> list[dict[str, Any]]:
    """Rows of ``curves.csv``: benchmark, subset, policy, size, method, k, then seed by seed."""
    sizes = sizes_by_params(measured)

    def rank(key: CellKey) -> tuple[Any, ...]:
        policy = POLICIES.index(key.policy) if key.policy in POLICIES else len(POLICIES)
        size = sizes.index(key.size) if key.size in sizes else len(sizes)
        return (policy, key.policy, size, _METHOD_ORDER.index(key.method), key.k)

    rows = []
    for group in measured.groups:
        for key in sorted(measured.cells, key=rank):
            for label, seeds in measured.seeds(key):
                summary = measured.summary(key, group, seeds)
                if summary is None:
                    continue
                values = {
                    "run": run,
                    "seed": label,
                    **key._asdict(),
                    **group._asdict(),
                    **vars(summary),
                }
                values["flops"] = None if math.isnan(summary.flops) else summary.flops
                rows.append(values)
    return rows
