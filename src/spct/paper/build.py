"""Stage ``paper``: a set of finished runs as the paper's tables, figures and claims.

Every number is a query on finished banks; nothing is sampled or trained here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact
from spct.paper import claims, data, errors, figures, members, tables
from spct.paper.page import render
from spct.paper.results import Results
from spct.report.page import inline_svg
from spct.scaling.curves import sources
from spct.scaling.table import Row, read_rows, select, written

if TYPE_CHECKING:
    from spct.config import Slice

PAGE, ERRORS = "index.html", "errors.html"
SIZES = "sizes"  # the role whose run has every size
TABLES, CLAIMS = "tables.csv", "claims.csv"


def run(cfg: Slice, seed: int, *, members: Path, out: Path) -> None:
    """Write ``index.html``, ``errors.html``, ``tables.csv``, ``claims.csv`` and the figures.

    ``members`` is the set.yaml of the workflow, which names the banks; ``seed`` seeds the bootstrap
    and the draw of errors. Raises :class:`spct.artifact.BrokenArtifact` for a file that cannot be
    read and :class:`spct.errors.BankError` for runs that did not judge the same items.
    """
    _run(cfg, seed, members, out)


def _run(cfg: Slice, seed: int, path: Path, out: Path) -> None:
    found = members.read(path)
    results = Results(found, cfg.scaling, seed)
    asked = [ref for spec in data.tables() for ref in spec.refs]
    asked += [ref for spec in data.claims() for _, ref in spec.terms]
    results.load([*asked, *figures.refs()])
    made = [tables.build(spec, results) for spec in data.tables()]
    judged = claims.judge(data.claims(), results)
    main = found.main
    origin = sources(main.items, [], [])
    rows = [written(row) for table in made for row in tables.rows(table)]
    artifact.write_csv(out / TABLES, tables.COLUMNS, rows, set=found.name, sources=origin)
    listed = [written(claims.row(finding)) for finding in judged]
    artifact.write_csv(out / CLAIMS, claims.COLUMNS, listed, set=found.name, sources=origin)
    drawn = figures.draw(results, read_rows(main.curves), out)
    artifact.write_text(out / ERRORS, _errors(found, seed))
    values = {
        "members": found,
        "level": cfg.scaling.level,
        "items": {name: _items(results, name) for name in found.benchmarks},
        "tables": made,
        "claims": judged,
        "counts": {
            verdict: sum(finding.verdict == verdict for finding in judged)
            for verdict in (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.NOT_TESTABLE)
        },
        "figures": {name: inline_svg(path.read_text("utf-8")) for name, path in drawn.items()},
        "notes": _notes(found),
        "crossovers": _crossovers(found),
        "errors_page": ERRORS,
    }
    artifact.write_text(out / PAGE, render("index.html.jinja", **values))
    print(f"tables and claims: {out / PAGE}")


def _items(results: Results, benchmark: str) -> int:
    """Held-out items of a benchmark, all seeds together."""
    return sum(
        item.dataset == benchmark for bench in results.benches.values() for item in bench.items
    )


def _crossovers(found: members.Members) -> list[Row]:
    """From the run of several sizes: how many samples of a small one make up for a bigger one."""
    member = found.by_role.get(SIZES)
    path = member.curves.with_name("crossover.csv") if member else None
    return read_rows(path) if path is not None and path.is_file() else []


def _notes(found: members.Members) -> dict[str, list[str]]:
    """Items without a number, as their runs' tables say it, by "policy: how many: reason"."""
    told: dict[str, list[str]] = {}
    for member in found.by_role.values():
        for row in select(read_rows(member.curves), subset="all"):
            if row.get("note"):
                about = told.setdefault(f"{member.run}, {row['policy']}: {row['note']}", [])
                about += [row["benchmark"]] if row["benchmark"] not in about else []
    return told


def _errors(found: members.Members, seed: int) -> str:
    """The page of wrong judgements of the reference's last policy, of its first seed."""
    first = found.seeds[0]
    items = next(
        path for path in found.main.items if artifact.read_manifest(path).get("seed") == first
    )
    policy, shards = _last_policy(found, first)
    drawn = errors.draw(items, shards, found.benchmarks, seed)
    shown: dict[str, Any] = {"members": found, "drawn": drawn, "policy": policy, "seed": first}
    return render("errors.html.jinja", **shown, each=errors.EACH)


def _last_policy(found: members.Members, seed: int) -> tuple[str, list[Path]]:
    """The most trained policy at the main size, and its shards of this seed."""
    by_policy: dict[str, list[Path]] = {}
    for path in found.main.banks:
        told = artifact.read_manifest(path)
        if (told["seed"], told["size"]) == (seed, found.sizes["main"]):
            by_policy.setdefault(told["policy"], []).append(path)
    policy = next(name for name in ("grpo", "rft", "base") if name in by_policy)
    return policy, by_policy[policy]
