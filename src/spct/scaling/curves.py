"""Stage ``curves``: banks of judgements to ``curves.csv`` and the tables beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact
from spct.progress import Progress
from spct.scaling import compute, crossover, repeats, scalars, signals
from spct.scaling.banks import bank_keys, read_banks, read_benches
from spct.scaling.cells import CellKey, Query, measure_bank, measure_surface
from spct.scaling.comparisons import COLUMNS as COMPARISON_COLUMNS
from spct.scaling.comparisons import POLICIES, compare, sizes_by_params
from spct.scaling.content_blind import content_blind
from spct.scaling.estimators import METHODS
from spct.scaling.measure import Measured
from spct.scaling.official import COLUMNS as OFFICIAL_COLUMNS
from spct.scaling.official import Games, official_rows, play
from spct.scaling.surfaces import COLUMNS as SURFACE_COLUMNS
from spct.scaling.surfaces import surface_rows
from spct.scaling.table import written
from spct.scaling.training_cost import Training, bases_of
from spct.schema import ScalingConfig

if TYPE_CHECKING:
    from spct.config import Slice

COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "subset", "method", "k", "k_meta"),
    *("metric", "accuracy", "low", "high", "low_seeds", "high_seeds", "items", "tokens", "flops"),
    *("invalid_rate", "tie_rate", "rerun_sd", "mc_se", "readable", "accuracy_readable", "note"),
]
# Then adaptive votes, in their own order.
_METHOD_ORDER = ("greedy", *scalars.METHODS, *METHODS, "mean_voting")


def run(
    cfg: Slice,
    seed: int,
    *,
    items: list[Path],
    banks: list[Path],
    run: str,
    out: Path,
    out_comparisons: Path,
    out_surface: Path,
    out_official: Path,
    scores: Sequence[Path] = (),
    models: Sequence[Path] = (),
    rollouts: Sequence[Path] = (),
    bases: Sequence[Path] = (),
    out_compute: Path | None = None,
    out_crossover: Path | None = None,
    out_signals: Path | None = None,
    out_meta_auc: Path | None = None,
) -> None:
    """Measure all banks of a run against its held-out items (one items file a seed).

    For the guided policy pass the scored bank alone; ``scores`` are tables of the baselines.
    Training compute follows from the folders of trained ``models``, the ``rollouts`` on training
    items and the folders of ``bases``; what is not given is unknown. ``seed`` seeds the bootstrap;
    subsets are seeded by the bank's own seed. The manifest of each table names the files behind it
    (:func:`sources`). Raises :class:`spct.errors.BankError` naming the file when items and banks do
    not fit or a bank's samples repeat, :class:`spct.artifact.BrokenArtifact` for unreadable files.
    """
    started = time.monotonic()
    found = measure(cfg.scaling, seed, items, banks, scores)
    measured, keys = (
        found.measured,
        _ranked(found.measured, {**found.measured.cells, **found.games}),
    )
    curves = curve_rows(run, measured)
    spent = Training.read(models, rollouts, bases_of(banks, bases))
    tables: list[tuple[Path | None, list[str], Iterable[dict[str, Any]]]] = [
        (out, COLUMNS, curves),
        (out_comparisons, COMPARISON_COLUMNS, compare(run, measured)),
        (out_surface, SURFACE_COLUMNS, surface_rows(run, found.surfaces)),
        (out_official, OFFICIAL_COLUMNS, official_rows(run, measured, found.games, keys)),
        (out_compute, compute.COLUMNS, compute.compute_rows(curves, measured, spent)),
        (out_crossover, crossover.COLUMNS, crossover.crossovers(run, measured)),
        (out_signals, signals.COLUMNS, signals.signal_rows(run, measured, found.surfaces)),
        (out_meta_auc, signals.AUC_COLUMNS, found.ranked.rows(run)),
    ]
    origin = sources(items, banks, scores)
    for path, columns, rows in tables:
        if path is not None:
            artifact.write_csv(path, columns, list(rows), sources=origin)
    if out_compute is not None:
        artifact.write_timing(out_compute, **compute.seconds_a_sample(banks))
    artifact.write_timing(out, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class Found:
    """Per-item values of every curve and baseline, of the surfaces of guided banks, of votes on
    pairs that are judged in both orders, and how signals rank the judgements of guided banks."""

    measured: Measured
    surfaces: Measured
    games: Games
    ranked: signals.Ranked


def measure(
    cfg: ScalingConfig,
    seed: int,
    items: Sequence[Path],
    banks: Sequence[Path],
    scores: Sequence[Path] = (),
) -> Found:
    """All that the tables are made of, from one pass over the banks."""
    benches = read_benches(items)
    measured = Measured(cfg, seed, benches)
    for bench in measured.benches.values():
        measured.add(bench.seed, content_blind(bench))
    found = Found(measured, measured.beside(), {}, signals.Ranked(measured))
    shards = read_banks(banks, benches.values(), texts=True)
    with Progress("curves", len(bank_keys(banks)), unit="banks") as bar:
        for bank in shards:
            repeats.check(bank, cfg.max_repeats)
            measured.params.setdefault(bank.key.size, bank.params)
            measured.answers[bank.key.policy, bank.key.size] = bank.answer
            query = Query.of(bank, benches[bank.key.seed], cfg)
            measured.add(bank.key.seed, measure_bank(query))
            play(query, found.games)
            if bank.guided:
                found.surfaces.add(bank.key.seed, measure_surface(query))
                found.ranked.add(query)
            bar.add()
    for table in scalars.read_tables(scores, benches):
        measured.params.setdefault(table.key.size, table.params)
        measured.add(table.key.seed, scalars.measure(table, benches[table.key.seed], cfg))
    return found


def sources(
    items: Sequence[Path], banks: Sequence[Path], scores: Sequence[Path] = ()
) -> dict[str, list[dict[str, Any]]]:
    """The files behind a table, to trace a row by its seed, policy and size; paths as given."""
    found = {
        "banks": [_source(path, "seed", "policy", "size", "rows") for path in banks],
        "items": [_source(path, "seed") for path in items],
        "scores": [_source(path, "seed", "policy", "size", "rows") for path in scores],
    }
    return {name: sorted(entries, key=_place) for name, entries in found.items()}


def _source(path: Path, *names: str) -> dict[str, Any]:
    manifest = artifact.read_manifest(path)
    told = {name: manifest.get(name, 0 if name == "seed" else None) for name in names}
    return {**told, "path": str(path), "content_hash": manifest["content_hash"]}


def _place(source: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(source.get(name, "") for name in ("seed", "policy", "size", "path"))


def curve_rows(run: str, measured: Measured) -> list[dict[str, Any]]:
    """Rows of ``curves.csv``: benchmark, subset, policy, size, method, k, then seed by seed."""
    rows = []
    for group in measured.groups:
        for key in _ranked(measured, measured.cells):
            for label, seeds in measured.seeds(key):
                summary = measured.summary(key, group, seeds)
                reasons, refused = measured.left_out(key, group, seeds)
                note = scalars.note(reasons, len(reasons))
                if summary is not None or refused:
                    where = {"run": run, "seed": label, **key._asdict(), **group._asdict()}
                    values = {"items": 0} if summary is None else vars(summary)
                    rows.append(written({**where, **values, "note": note}))
    return rows


def _ranked(measured: Measured, keys: Iterable[CellKey]) -> list[CellKey]:
    """Policy, size, method, k: the order of the rows of every table."""
    sizes = sizes_by_params(measured)

    def rank(key: CellKey) -> tuple[Any, ...]:
        policy = POLICIES.index(key.policy) if key.policy in POLICIES else len(POLICIES)
        size = sizes.index(key.size) if key.size in sizes else len(sizes)
        known = key.method in _METHOD_ORDER
        method = _METHOD_ORDER.index(key.method) if known else len(_METHOD_ORDER)
        return (policy, key.policy, size, method, key.k)

    return sorted(keys, key=rank)
