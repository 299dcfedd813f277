"""Native sampler against ``transformers`` generate: the same model, prompts and batch, one run.

    python benchmarks/sampling.py                       # CPU, about two minutes
    python benchmarks/sampling.py --device cuda --rounds 7

Cells: ``toy`` (the shipped toy_m on its own judge prompts, 16 samples of each item), ``plain``
(random prompts, one sample each) and ``judge`` (a 1,500-token prompt with 8 samples). Both sides
sample at temperature 1 from float32 weights; blocks are interleaved A-B-B-A. Printed: useful new
tokens a second, median and range over rounds, and the ratio of medians. Absolute numbers depend on
the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers

from spct import lm, seeds
from spct.data import toy
from spct.judge import prompts
from spct.sampling.base import Request
from spct.sampling.native import NativeSampler
from spct.schema import ModelConfig, SamplerConfig


class Endless(lm.LM):
    """A model whose end of sequence never comes: both sides then make the same number of tokens."""

    @property
    def eos(self) -> int:
        return -1

    @property
    def pad(self) -> int:
        return 0


@dataclass
class Cell:
    """One shape to measure."""

    name: str
    model: lm.LM
    requests: list[Request]
    new_tokens: int
    batch: int


def toy_cell(device: str) -> Cell:
    model = lm.load(ModelConfig("toy_m", "builtin:toy_m", None, "float32", False))
    model.model.to(device)
    template = prompts.load("toy.jinja")
    requests = []
    for number in range(64):
        item = toy.make_item(seeds.rng("benchmark", number), "pair", "benchmark", str(number))
        for sample in range(16):
            text = prompts.render(
                template, item, [sample % 2, 1 - sample % 2],
                principles="self", output="scores", score_min=1, score_max=10,
            )  # fmt: skip
            requests.append(Request(model.encode_prompt(text), seeds.derive(number, sample), 1.0))
    return Cell("toy", model, requests, 64, 512)


def random_cell(name: str, device: str, prompt: int, items: int, samples: int, new: int) -> Cell:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    model = Endless(transformers.Qwen2ForCausalLM(config).to(device).eval(), None, "")  # type: ignore[arg-type]
    requests = []
    for number in range(items):
        ids = tuple(int(i) for i in seeds.rng("prompt", number).integers(1, 8192, prompt))
        requests += [Request(ids, seeds.derive(number, s), 1.0) for s in range(samples)]
    return Cell(name, model, requests, new, items * samples)


def run_native(cell: Cell) -> int:
    config = SamplerConfig("native", cell.new_tokens, 4096, cell.batch, 8192, 1.0)
    done = NativeSampler(cell.model, config).sample(cell.requests)
    return sum(len(c.logprobs) for c in done)


@torch.inference_mode()
def run_generate(cell: Cell) -> int:
    """``generate`` as users call it: left-padded batches, longest prompts together."""
    ranked = sorted(cell.requests, key=lambda r: len(r.prompt))
    device = next(cell.model.model.parameters()).device
    eos, total = cell.model.eos, 0
    for start in range(0, len(ranked), cell.batch):
        batch = [list(r.prompt) for r in ranked[start : start + cell.batch]]
        width = max(map(len, batch))
        ids = torch.tensor([[cell.model.pad] * (width - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        output = cell.model.model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=True,
            temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=cell.new_tokens,
            pad_token_id=cell.model.pad, eos_token_id=None if eos < 0 else eos,
        )[:, width:]  # fmt: skip
        for row in output.tolist():
            total += row.index(eos) + 1 if eos in row else len(row)
    return total


def measure(cell: Cell, rounds: int) -> dict[str, list[float]]:
    sides: dict[str, Callable[[Cell], int]] = {"native": run_native, "generate": run_generate}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        for name in list(sides) if number % 2 else list(reversed(sides)):
            started = time.perf_counter()
            tokens = sides[name](cell)
            if cell.model.model.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 0:  # the first round warms up
                rates[name].append(tokens / (time.perf_counter() - started))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.device}")
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), {args.rounds} rounds")
    cells = [
        toy_cell(args.device),
        random_cell("plain", args.device, prompt=64, items=64, samples=1, new=64),
        random_cell("judge", args.device, prompt=1500, items=2, samples=8, new=64),
    ]
    print("| cell | native tok/s (min-max) | generate tok/s (min-max) | ratio |\n|---|---|---|---|")
    for cell in cells:
        rates = measure(cell, args.rounds)
        mid = {name: statistics.median(values) for name, values in rates.items()}
        shown = [f"{mid[n]:,.0f} ({min(v):,.0f}-{max(v):,.0f})" for n, v in rates.items()]
        print(f"| {cell.name} | {shown[0]} | {shown[1]} | {mid['native'] / mid['generate']:.2f} |")


if __name__ == "__main__":
    main()
