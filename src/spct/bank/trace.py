"""``spct trace``: from a row of ``curves.csv`` to the samples, model, run and config behind it."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc
import yaml

from spct.artifact import MANIFEST
from spct.bank.lineage import Manifest, Source, Table, model_folder
from spct.errors import ConfigError
from spct.records import Item, bank_batches, read_items

Row = dict[str, str]
FEW = 5
USAGE = "usage: spct trace CURVES.csv [COLUMN=VALUE …]"


def trace_cli(args: Sequence[str]) -> int:
    """Print what is behind the rows chosen; 2 and how to narrow if they are more than five.

    Raises :class:`ConfigError` for a column that is not there or values that no row has.
    """
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    path = Path(args[0])
    rows = read(path)
    chosen = select(rows, args[1:], path)
    if len(chosen) > FEW:
        print(f"{len(chosen)} of {len(rows)} rows fit; choose among:")
        print("\n".join(choices(chosen)))
        return 2
    for number, row in enumerate(chosen):
        print("\n" * bool(number) + "\n".join(trace(path, row)))
    return 0


def read(path: Path) -> list[Row]:
    """The rows of the table as they stand, all text. Raises :class:`ConfigError` if it is none."""
    if not path.is_file():
        raise ConfigError(f"trace: {path} is no file; name a curves.csv")
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    needed = {"run", "seed", "policy", "size", "benchmark", "subset", "method", "k"}
    if not rows or not needed <= set(rows[0]):
        raise ConfigError(f"trace: {path} holds no rows of curves; name a curves.csv")
    return rows


def select(rows: list[Row], words: Sequence[str], path: Path) -> list[Row]:
    """The rows whose columns have these values; numbers may be written in another way."""
    chosen = rows
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in rows[0]:
            raise ConfigError(f"trace: no column {name!r} in {path}; it has {', '.join(rows[0])}")
        exact = [row for row in chosen if row[name] == value]  # subsets may be called 7 and 007
        fitting = exact or [row for row in chosen if _equal(row[name], value)]
        if not fitting:
            there = ", ".join(dict.fromkeys(row[name] for row in chosen))
            raise ConfigError(f"trace: no row of {path} has {word}; {name} is {there}")
        chosen = fitting
    return chosen


def _equal(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)
    except ValueError:
        return cell == value


def choices(rows: list[Row]) -> Iterator[str]:
    """Each column with the values that these rows have in it, where they are several."""
    for name in rows[0]:
        values = list(dict.fromkeys(row[name] for row in rows))
        if len(values) > 12:
            yield f"  {name}={values[0]} … {values[-1]} ({len(values)} values)"
        elif len(values) > 1:
            yield f"  {name}={'|'.join(values)}"


def trace(path: Path, row: Row) -> Iterator[str]:
    """The lines that tell what is behind a row."""
    table = Table.of(path, row["run"])
    yield "ROW       " + "  ".join(f"{name} {value}" for name, value in row.items() if value)
    yield f"TABLE     {path}  {table.state}"
    yield f"ESTIMATE  {estimate(row)}"
    yield from _run(table)
    seeds = table.seeds if row["seed"] == "all" else [int(row["seed"])]
    if not seeds:
        yield "SEED      not at hand: neither the table's manifest nor run.yaml names the seeds"
    for seed in seeds:
        yield f"SEED      {seed}"
        yield from _seed(table, seed, row)
    if row["policy"] != "none":
        for file in table.slices(row["policy"], row["size"]):
            yield f"CONFIG    {file}" + ("" if file.is_file() else "  not at hand")


def estimate(row: Row) -> str:
    """How the row's value came from the samples."""
    method, k, keep = row["method"], row["k"], row.get("k_meta", "")
    if row["policy"] == "none":
        return f"{method}: reads no sample, only the items' responses"
    if method == "greedy":
        return "greedy: one sample an item at temperature 0, nothing is drawn"
    if method == "scalar":
        return "scalar: one score for each response, nothing is sampled"
    kept = f", of which {keep} are kept" if keep not in ("", k) else ""
    value = "ROC-AUC" if row.get("metric") == "roc_auc" else "mean credit"
    what = f"{method}: {value} over all {k}-subsets of each item's samples{kept}"
    error = row.get("mc_se", "")
    if not error:
        return f"{what}; the table does not tell its Monte Carlo error"
    if float(error) == 0:
        return f"{what}; exact"
    return f"{what}; Monte Carlo over random subsets, standard error {error}"


def _run(table: Table) -> Iterator[str]:
    file = table.run_file
    if file is None:
        yield "RUN       not at hand: no run.yaml beside the table or in results"
        return
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    overrides = " ".join(raw.get("overrides", ())) or "none"
    yield f"RUN       {file}  experiment {raw.get('experiment')}  overrides {overrides}"


def _seed(table: Table, seed: int, row: Row) -> Iterator[str]:
    """Items, shards, model and an example of one seed."""
    source = table.items(seed)
    items = _group(source, row)
    if source is None:
        yield "  items   not at hand"
    else:
        where = f"{row['benchmark']}/{row['subset']}"
        yield f"  items   {source}  {len(items)} items of {where}"
    if row["policy"] == "none":
        return
    if row["method"] == "scalar":
        scores = table.scores(seed, row["policy"], row["size"])
        yield from (f"  scores  {source}" for source in scores)
        return
    banks = table.banks(seed, row["policy"], row["size"])
    if not banks:
        yield "  bank    not at hand: no shard is recorded or lies in the run's folders"
        return
    for bank in banks:
        rows = (bank.manifest or {}).get("rows")
        yield f"  bank    {bank}" + (f"  {rows} rows" if rows is not None else "")
    yield from _enter(banks, items, row)
    here = [bank for bank in banks if bank.manifest]
    if not here:
        yield "  model   not at hand: it is named in the bank"
        return
    yield from _models(here[0], row)
    if items:
        kind = "greedy" if row["method"] == "greedy" else "sample"
        files = [str(bank.path) for bank in here]
        words = ["spct", "bank", "show", *files, f"item={items[0].id}", f"kind={kind}", "sample=0"]
        yield f"  show    {shlex.join(words)}"


def _group(source: Source | None, row: Row) -> list[Item]:
    """The items that the row is a mean of, in file order; none if the file is not at hand."""
    if source is None or source.manifest is None:
        return []
    return [
        item
        for item in read_items(source.path)
        if item.dataset == row["benchmark"] and row["subset"] in ("all", item.subset)
    ]


def _enter(banks: Sequence[Source], items: Sequence[Item], row: Row) -> Iterator[str]:
    """How many rows of the bank the value is computed from."""
    kind = "greedy" if row["method"] == "greedy" else "sample"
    names = {item.id for item in items}
    count = 0
    for bank in banks:
        if bank.manifest is None:
            continue
        for rows in bank_batches(bank.path, ("item_id", "kind")):
            mine = rows.filter(pc.equal(rows["kind"], kind))["item_id"].value_counts()
            count += sum(n["counts"] for n in mine.to_pylist() if n["values"] in names)
    if names and count:
        each = f"{len(names)} items × {count / len(names):g} samples"
        yield f"  rows    {count} of kind {kind}: {each}"


def _models(bank: Source, row: Row) -> Iterator[str]:
    """The model that judged, and the meta RM where the row leans on it."""
    manifest = bank.manifest or {}
    yield f"  model   {_model(bank.path, manifest, str(manifest.get('model')), row['policy'])}"
    if row["method"].startswith("meta"):
        metarm = manifest.get("metarm")
        found = _model(bank.path, {}, str(metarm), "metarm") if metarm else "not named by the bank"
        yield f"  meta RM {found}"


def _model(bank: Path, manifest: Manifest, digest: str, stage: str) -> str:
    folder = model_folder(bank, manifest, digest, stage)
    if folder is None:
        return f"{digest}  its folder is not at hand"
    log = folder / "metrics.jsonl"
    training = f"  training log {log}" if log.is_file() else ""
    return f"{digest}  {folder}  sealed by {folder / MANIFEST}{training}"
