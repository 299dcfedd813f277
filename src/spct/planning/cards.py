"""GPUs to plan for, and what a piece of work needs of them: hours, memory, disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spct.planning.shapes import Shape
from spct.planning.work import Work
from spct.runs import Run

GIB = 2**30
BYTES = {"bfloat16": 2, "float32": 4}
# Of a bank's row: beside the text, and of the text a token (zstd); measured on tiny's banks.
ROW_BYTES, TOKEN_BYTES = 8.0, 1.0
# Of a row of scores alone; measured likewise.
SCORES, SCORE_BYTES = ("token_prob", "baseline_score"), 10.0
# Of a shard's schema, manifest and sidecar; measured likewise.
SHARD_BYTES = 21_000.0
# Of a step's line in the log of a training that tells many things; measured on tiny's GRPO.
LOG_BYTES = {"grpo": 2200.0}
STATES = 2  # resume states kept of a running stage (spct.training.checkpoint)


@dataclass(frozen=True)
class Card:
    """A GPU: dense peak FLOPs a second in the dtype that computes, memory in GiB, data sheet."""

    name: str
    peak: float
    memory: float
    source: str
    own: float = 0.0  # GiB of a process beside models and caches, where that memory counts


CARDS = {
    "a100": Card(
        "A100 80 GB", 312e12, 80, "NVIDIA's data sheet, as others cite it; bfloat16, dense"
    ),
    "h100": Card(
        "H100 SXM", 989e12, 80, "NVIDIA's data sheet, not looked up here; bfloat16, dense"
    ),
    "h200": Card(
        "H200 SXM", 989e12, 141, "NVIDIA's data sheet, not looked up here; bfloat16, dense"
    ),
    "cpu": Card(
        "one CPU core",
        93e9,
        8,
        "matrix products and a process's memory from runs of tiny, float32",
        0.62,
    ),
}


@dataclass(frozen=True)
class Cluster:
    """Where it runs: ``nodes`` of ``gpus`` cards, and the shares of the peak that are reached."""

    card: Card
    nodes: int
    gpus: int
    training: float  # utilisation
    sampling: float

    @property
    def shares(self) -> tuple[float, float]:
        """Utilisation in sampling and in training."""
        return self.sampling, self.training

    @property
    def size(self) -> int:
        """All cards."""
        return self.nodes * self.gpus


@dataclass(frozen=True)
class Cost:
    """What a piece of work costs. Hours, GiB."""

    gpu_hours: float
    wall_hours: float
    job_gpus: int
    memory: float  # peak of a GPU
    disk: float  # kept
    passing: float  # on disk while it runs, beside that
    notes: list[str]


def cost(work: Work, run: Run, cluster: Cluster, rate: float | None = None) -> Cost:
    """Hours, memory and disk of one piece of work.

    ``rate``: measured FLOPs a second of a card; None for the cluster's share of its peak.
    """
    if work.shape is None:
        return Cost(0.0, 0.0, 0, 0.0, 0.0, 0.0, [])
    sampling, training = (rate or share * cluster.card.peak for share in cluster.shares)
    hours = (work.sampling_flops / sampling + work.training_flops / training) / 3600
    if work.steps:
        return _training(work, work.shape, run, cluster, hours)
    return _sampling(work, work.shape, run, cluster, hours)


def _sampling(work: Work, shape: Shape, run: Run, cluster: Cluster, hours: float) -> Cost:
    """A job holds the weights and the cache of its sequences, on as few cards as do.

    vLLM makes do with the cache of one sequence; the other engines hold ``batch_size``.
    """
    spec = run.at(work.node.size)
    width, vllm = BYTES[spec.model.dtype], spec.sampler.engine == "vllm"
    longest = spec.sampler.max_prompt_tokens + spec.sampler.max_new_tokens
    rows = 1 if vllm else spec.sampler.batch_size
    need = cluster.card.own + width * (shape.params + shape.kv_values * longest * rows) / GIB
    usable = (spec.sampler.vllm.gpu_memory if vllm else 1.0) * cluster.card.memory
    gpus = _cards(need, usable) if vllm else 1  # it alone spreads a model
    at_once = max(1, min(work.jobs, cluster.size // gpus))
    rounds = math.ceil(work.jobs / at_once)
    wall = rounds * hours / work.jobs / gpus
    if work.node.stage in SCORES:
        disk = work.samples * SCORE_BYTES / GIB
    else:
        disk = (work.samples * ROW_BYTES + work.completion_tokens * TOKEN_BYTES) / GIB
    disk += work.jobs * SHARD_BYTES / GIB
    held = "one longest sequence" if rows == 1 else f"{rows} longest sequences"
    note = f"memory: {width} bytes a weight and value cached, {held}; GPUs of a job: {gpus}"
    if vllm:
        note += "; vLLM then fills sampler.vllm.gpu_memory with cache"
    notes = [note]
    if need / gpus > usable:
        notes.append(f"does not fit {cluster.card.name}: sampler.batch_size, or sampler=vllm")
    return Cost(hours, wall, gpus, need / gpus, disk, 0.0, notes)


def _cards(need: float, usable: float) -> int:
    """Cards of a job: the smallest power of two that holds it."""
    return 2 ** max(0, math.ceil(math.log2(need / usable)))


def _training(work: Work, shape: Shape, run: Run, cluster: Cluster, hours: float) -> Cost:
    cfg = run.at(work.node.size)
    spec = getattr(cfg, work.node.stage)
    width, cards = BYTES[cfg.model.dtype], cluster.size
    mixed = cfg.model.dtype == "bfloat16"
    step = work.trained_tokens / work.steps
    passes = math.ceil(step / cards / spec.micro_tokens)
    own = min(spec.micro_tokens, step / cards)
    parts = {
        "process": cluster.card.own * GIB,
        "weights, gradients, AdamW": 16.0 * shape.params / cards,
        "two layers, embeddings, head": width * _gathered(shape) if cards > 1 or mixed else 0.0,
        "gradients between passes": 4.0 * shape.params if passes > 1 and cards > 1 else 0.0,
        "activations": _activations(shape, own, width, spec.recompute),
    }
    if work.node.stage == "grpo":
        parts["reference"] = 4.0 * shape.params / cards if spec.kl_coef else 0.0
        parts["logits"] = 3 * 4.0 * spec.logprob_chunk * shape.vocab
    memory = sum(parts.values()) / GIB
    named = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
    notes = [f"memory, GiB: {named} (passes of a step on a GPU: {passes})"]
    if memory > cluster.card.memory:
        notes.append(f"does not fit {cluster.card.name}: more nodes, or fewer tokens a step")
    log = LOG_BYTES.get(work.node.stage, 0.0) * work.steps
    disk, passing = (width * shape.params + log) / GIB, (STATES + 1) * 12.0 * shape.params / GIB
    return Cost(hours, hours / cards, cards, memory, disk, passing, notes)


def _gathered(shape: Shape) -> float:
    """Weights of two layers, the embeddings and the head: whole on every process."""
    embeddings = shape.vocab * shape.hidden
    return 2 * (shape.params - embeddings) / shape.layers + embeddings


def _activations(shape: Shape, tokens: float, width: int, recompute: bool) -> float:
    """Bytes kept for the backward pass: about 17 values a token, layer and hidden unit.

    Attention without a stored matrix; with recomputing one value a layer and all of one layer.
    """
    values = 17.0 * shape.hidden * tokens
    kept = shape.layers * shape.hidden * tokens + values if recompute else shape.layers * values
    return width * kept
