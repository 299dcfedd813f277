"""Our GRPO update and whole step against TRL's ``GRPOTrainer``: seconds, memory, tokens a second.

    python benchmarks/grpo_vs_trl.py --out found           # CPU, one thread, about an hour
    python benchmarks/grpo_vs_trl.py --device cuda --out found
    python benchmarks/grpo_vs_trl.py --quick               # a minute: does it run

Cells are (prompt, completion, G), random weights, equal lengths (so TRL pads nothing). *Update
only*: both sides get the same stored rollouts, TRL through its own ``rollout_func``, and take
advantages, reference pass, loss, gradients, clipping and an AdamW step. *End to end*: each samples
its own first, TRL with ``transformers`` generate as by default, ours with the native sampler; no
end-of-sequence token can come, so both write the same number of tokens. Steps run in blocks
A-B-B-A, each block in a process of its own: one untimed step, then timed ones. Both compute the
reference (beta > 0), in the same dtype, with sdpa attention, AdamW, no gradient checkpointing.

TRL at its best: as many sequences a pass as make the fastest step, found by trying; tiled log-probs
(always on in 1.16.0); fused AdamW; no ``old`` pass. As shipped it runs the output embedding over
the prompts too on CPU, though not on CUDA; it is kept from that unless ``--trl shipped``. Seconds
are those of the process on CPU (one thread), of the wall on CUDA. Peak memory is what a step adds
to the loaded models. ``bound`` is the share of the measured matmul rate that the necessary work of
an update would need: each prompt once, no padding. A cell is not compared where losses or the first
gradient's norm differ by more than 1e-3 (float32; of a loss, or of 0.05 where that is larger).

Needs the repository, torch, transformers, trl, accelerate, datasets; peft for the LoRA models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from grpo_blocks import Plan, run
from grpo_cells import CELLS, LORA, Cell
from grpo_tables import tables
from needs import need
from shared_prefix import Place, matmul_rate
from trl_side import quiet

MODELS = {"cpu": ["10m", "152k"], "cuda": ["0.6b", "1.7b"]}
BLOCK = ("trl", "ours", "ours", "trl")
LONG, LONGER = 9_000, 20_000  # padded tokens from which fewer steps do, on CPU


@dataclass
class Found:
    """All blocks of a cell by side; ``error`` of a side that could not run."""

    cell: Cell
    blocks: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"trl": [], "ours": []})
    errors: dict[str, str] = field(default_factory=dict)
    pilot: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.0  # flops a second of matrix products, the best of all blocks

    def take(self, side: str, block: dict[str, Any]) -> None:
        self.rate = max(self.rate, block.pop("rate", 0.0))
        if "error" in block:
            self.errors["trl" if side == "pilot" else side] = block["error"]
        elif side == "pilot":
            self.pilot = block
        else:
            self.blocks[side].append(block)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"flops": self.cell.flops()}


def child(request: str) -> None:
    """One block on each cell of a request; a line of JSON for each, as it is done."""
    quiet()
    work, cells, place, plan, options = json.loads(request)
    here = Place(**place)
    for cell, option in zip(cells, options, strict=True):
        rate = matmul_rate(here)
        found = run(work, Cell(**cell), here, Plan(**plan), **option)
        print("FOUND " + json.dumps(found | {"rate": rate}), flush=True)


def block(
    work: str, cells: list[Cell], place: Place, plan: Plan, options: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run a block in a fresh process; what it died of is the result of the cells it left."""
    parts = [work, [asdict(cell) for cell in cells], asdict(place), asdict(plan), options]
    command = [sys.executable, os.path.abspath(__file__), "--child", json.dumps(parts)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    note = ""
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        note = "out of memory (killed)" if done.returncode == -9 else f"failed: {last[:200]}"
        print(done.stderr[-4000:], file=sys.stderr)
    names = ", ".join(map(str, cells))
    print(
        f"{work}: {names}: {time.monotonic() - started:.0f} s {note}", file=sys.stderr, flush=True
    )
    return found + [{"error": note or "no result"}] * (len(cells) - len(found))


def measure(
    cells: list[Cell], place: Place, plan: Plan, rounds: int, micro: int, shipped: bool
) -> list[Found]:
    """TRL's best micro-batch where ``micro`` is 0, then blocks A-B-B-A, over these cells."""
    found = [Found(cell) for cell in cells]

    def add(side: str, part: list[Found], options: list[dict[str, Any]]) -> None:
        if part:
            results = block(side, [one.cell for one in part], place, plan, options)
            for one, result in zip(part, results, strict=True):
                one.take(side, result)

    if micro:
        for one in found:
            one.pilot = {"micro": micro}
    else:
        add("pilot", found, [{"shipped": shipped}] * len(found))
    for side in BLOCK[: 4 if rounds else 2] * max(rounds, 1):
        part = [one for one in found if side not in one.errors]
        options: list[dict[str, Any]] = [{}] * len(part)
        if side == "trl":
            options = [{"micro": one.pilot["micro"], "shipped": shipped} for one in part]
        add(side, part, options)
    return found


def plan_of(cell: Cell, place: Place, plan: Plan) -> Plan:
    """On CPU no untimed whole step (the updates have warmed up), and fewer steps of large cells."""
    if place.device != "cpu":
        return plan
    tokens = cell.sequences * (cell.prompt + cell.completion)
    update = min(plan.update, 3) if tokens > LONGER else plan.update
    end = min(plan.end, 1) if tokens > LONG else plan.end
    return replace(plan, update=update, end_warm=0, end=end)


def chosen(arguments: argparse.Namespace) -> list[Cell]:
    if arguments.quick:
        return [Cell("small", 48, 6, 4), Cell("small", 100, 8, 8, 2)]
    names = arguments.models or list(MODELS[arguments.device])
    if not arguments.models and arguments.device == "cuda" and find_spec("peft"):
        names += [name + LORA for name in names]
    shapes = CELLS
    if arguments.cells:
        shapes = [(int(p), int(r), int(g)) for p, r, g in (c.split(",") for c in arguments.cells)]
    groups = arguments.groups or (4 if arguments.device == "cuda" else 1)
    return [Cell(name, *shape, groups) for name in names for shape in shapes]


def settings(parser: argparse.ArgumentParser) -> argparse.Namespace:
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="", help="float32 on CPU, bfloat16 on CUDA")
    parser.add_argument("--models", nargs="+", default=[], help="10m 152k 0.6b 1.7b [...-lora]")
    parser.add_argument("--cells", nargs="+", default=[], help="as 2000,500,4")
    parser.add_argument("--groups", type=int, default=0, help="a step; 1 on CPU, 4 on CUDA")
    parser.add_argument("--rounds", type=int, default=1, help="of A-B-B-A; 0 for A-B")
    parser.add_argument("--steps", type=int, default=5, help="timed updates a block")
    parser.add_argument("--warm", type=int, default=1, help="untimed ones before them")
    parser.add_argument("--end-steps", type=int, default=2, help="timed whole steps a block")
    parser.add_argument("--only", default="", choices=("", "update", "end"))
    parser.add_argument("--chunk", type=int, default=256, help="our tokens of logits at a time")
    parser.add_argument("--trl", default="best", choices=("best", "shipped"))
    parser.add_argument("--micro", type=int, default=0, help="TRL's sequences a pass; 0: fastest")
    parser.add_argument("--out", type=Path, help="folder for results.json and table.md")
    parser.add_argument("--quick", action="store_true", help="tiny models and cells, A-B")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = settings(argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]))
    need("gate", "trl", "accelerate", "datasets")
    if any(name.endswith("-lora") for name in arguments.models):
        need("dev", "peft")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if arguments.child:
        return child(arguments.child)
    dtype = arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32")
    place = Place(arguments.device, dtype, arguments.chunk)
    if arguments.quick:
        arguments.rounds, arguments.steps, arguments.end_steps = 0, 1, 1
    plan = Plan(arguments.warm, arguments.steps, arguments.warm, arguments.end_steps)
    if arguments.only:
        plan = replace(plan, **{{"update": "end", "end": "update"}[arguments.only]: 0})
    cells = chosen(arguments)
    # on CUDA starting a process costs more than a cell, and its peaks can be told apart
    jobs = [[c for c in cells if c.model == m] for m in dict.fromkeys(c.model for c in cells)]
    if arguments.device == "cpu":
        jobs = [[cell] for cell in cells]
    packages = ("torch", "transformers", "trl", "accelerate")
    head = f"{', '.join(f'{name} {version(name)}' for name in packages)}, {device_name(place)}, "
    head += f"{dtype}, chunk {place.chunk}, TRL {arguments.trl}, {plan}"
    found: list[Found] = []
    for job in jobs:
        part = plan_of(job[0], place, plan)
        found += measure(
            job, place, part, arguments.rounds, arguments.micro, arguments.trl == "shipped"
        )
        write(arguments.out, head, found, dtype)
    print(head + "\n\n" + tables([one.as_json() for one in found], dtype))
    broken = [error for one in found for error in one.errors.values() if "memory" not in error]
    raise SystemExit(bool(broken))


def device_name(place: Place) -> str:
    if place.device == "cuda":
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or "cuda"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def write(folder: Path | None, head: str, found: list[Found], dtype: str) -> None:
    """What there is so far: a later cell may take long, or the machine away."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [one.as_json() for one in found]
    (folder / "results.json").write_text(json.dumps({"head": head, "cells": rows}, indent=1))
    (folder / "table.md").write_text(head + "\n\n" + tables(rows, dtype))


if __name__ == "__main__":
    main()
