"""One side of ``grpo_vs_trl.py`` over a few steps: seconds of each, peak memory, what it computed.

A block is a sequence of steps on one cell: first ``update`` steps on stored rollouts, then ``end``
steps that sample their own. It runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import gc
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import our_settings
import psutil
import torch
import transformers
from grpo_cells import Cell, fill_adapter, lora_config, new_model, without_adapter
from shared_prefix import Place, resident_peak
from torch import Tensor
from trl_side import Replay, Round, new_tokenizer, new_trainer

from spct import lm, seeds
from spct.grpo.advantage import advantages
from spct.grpo.learn import optim_config
from spct.grpo.update import update
from spct.sampling.base import Request, Sampler
from spct.sampling.native import NativeSampler
from spct.training.batching import Example
from spct.training.optim import Optimizer

LR, KL, MAX_NORM, PAD = 1e-5, 0.04, 1.0, 0
OUR_TOKENS = 24_576  # of a pass: every cell's group in one


@dataclass(frozen=True)
class Plan:
    """Steps of a block: untimed and timed ones on stored rollouts, then on its own."""

    warm: int = 1
    update: int = 5
    end_warm: int = 1
    end: int = 3

    def steps(self) -> list[tuple[str, bool]]:
        """Phase of each step, and whether it counts."""
        counts = [("update", False, self.warm if self.update else 0), ("update", True, self.update)]
        counts += [("end", False, self.end_warm if self.end else 0), ("end", True, self.end)]
        return [(phase, timed) for phase, timed, count in counts for _ in range(count)]


@dataclass
class Meter:
    """Seconds of the steps and the memory they add to what is loaded, by phase."""

    place: Place
    plan: Plan
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"update": [], "end": []})
    mib: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)  # of the update steps
    grad_norm: float | None = None  # before clipping, of the first one
    sampled: list[int] = field(default_factory=list)  # completion tokens of the end steps

    def begin(self) -> None:
        """The models are loaded; the first step starts."""
        gc.collect()
        self.left = self.plan.steps()
        self.loaded = self._now()
        self._reset()
        self.started = self.place.clock()

    @property
    def phase(self) -> str:
        """Of the step under way; empty after the last."""
        return self.left[0][0] if self.left else ""

    def lap(self) -> None:
        """A step is done."""
        phase, timed = self.left.pop(0)
        if timed:
            self.seconds[phase].append(self.place.clock() - self.started)
        self.mib[phase] = max(self.mib.get(phase, 0.0), (self._peak() - self.loaded) / 2**20)
        self._reset()
        self.started = self.place.clock()

    def _now(self) -> int:
        if self.place.device == "cuda":
            return int(torch.cuda.memory_allocated())
        return int(psutil.Process().memory_info().rss)

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.place.device == "cuda" else resident_peak()

    def _reset(self) -> None:
        if self.place.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:  # the resident high-water mark starts anew (proc(5))
            Path("/proc/self/clear_refs").write_text("5")

    def result(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds, "mib": self.mib, "losses": self.losses,
            "grad_norm": self.grad_norm, "sampled": self.sampled, "loaded_mib": self.loaded / 2**20,
        }  # fmt: skip


def ours(cell: Cell, place: Place, plan: Plan) -> dict[str, Any]:
    """Our update on the shared path and our sampler."""
    policy = new_model(cell, 1, place)
    if cell.lora:
        import peft

        reference = without_adapter(policy)
        policy = peft.get_peft_model(policy, lora_config(), autocast_adapter_dtype=False)
        fill_adapter(policy)
    else:
        reference = new_model(cell, 2, place).requires_grad_(False)
    config = our_settings.grpo(
        lr=LR, kl_coef=KL, max_grad_norm=MAX_NORM, micro_tokens=OUR_TOKENS,
        logprob_chunk=place.chunk, prompts_per_step=cell.groups, group_size=cell.members,
    )  # fmt: skip
    meter = Meter(place, plan)
    rounds = cell.rounds(len(plan.steps()))
    optimizer = Optimizer(policy, optim_config(config), len(rounds))
    tokenizer = new_tokenizer(cell.vocabulary, PAD, cell.vocabulary)
    sampling = our_settings.sampler(max_new_tokens=cell.completion, batch_size=cell.sequences)
    # not by `build`, which refuses a model whose texts never end by themselves: here none may
    sampler = NativeSampler(lm.LM(policy, tokenizer, ""), sampling)
    meter.begin()
    for step, turn in enumerate(rounds):
        examples = turn.examples
        if meter.phase == "end":
            policy.eval()
            examples = _sample(sampler, turn, step)
            meter.sampled.append(sum(len(e.completion) for e in examples))
        rewards = torch.tensor(turn.rewards).reshape(cell.groups, cell.members)
        gains = advantages(rewards, config.std, config.std_eps).flatten()
        device = torch.device(place.device)
        values = update(
            policy.train(), reference, examples, gains, optimizer, config,
            first_step=step, max_tokens=cell.completion, device=device,
        )  # fmt: skip
        if meter.phase == "update":
            meter.losses.append(values["loss"])
            meter.grad_norm = meter.grad_norm or values["grad_norm"]
        meter.lap()
    return meter.result()


def _sample(sampler: Sampler, turn: Round, step: int) -> list[Example]:
    requests = [
        Request(example.prompt, seeds.derive("benchmark", step, number), 1.0)
        for number, example in enumerate(turn.examples)
    ]
    done = sampler.sample(requests)
    pairs = zip(requests, done, strict=True)
    return [Example(request.prompt, completion.ids) for request, completion in pairs]


class _Laps(transformers.TrainerCallback):
    """Reads the meter in TRL's loop, and lets TRL sample for itself in the ``end`` phase."""

    def __init__(self, meter: Meter, trainer: Any) -> None:
        self.meter, self.trainer, self.begun = meter, trainer, False

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if not self.begun:
            self.meter.begin()
            self.begun = True
            self._switch()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.meter.lap()
        self._switch()

    def _switch(self) -> None:
        if self.meter.phase == "end":
            self.trainer.rollout_func = None


def trl(cell: Cell, place: Place, plan: Plan, micro: int, shipped: bool) -> dict[str, Any]:
    """TRL's trainer with ``micro`` sequences a pass, on stored rollouts and with ``generate``."""
    policy = new_model(cell, 1, place)
    reference = None if cell.lora else new_model(cell, 2, place)
    meter = Meter(place, plan)
    replay = Replay(cell.rounds(len(plan.steps())))
    losses: list[Tensor] = []

    def watch(loss: Tensor) -> None:
        if meter.phase == "update" and not losses:  # a step that is not timed, with the default
            grads = [p.grad for p in policy.parameters() if p.grad is not None]
            meter.grad_norm = float(torch.nn.utils.get_total_norm(grads))
        losses.append(loss)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = new_trainer(
            policy, reference, replay, cell.shape(micro),
            new_tokenizer(cell.vocabulary, PAD, cell.vocabulary), Path(folder), watch,
            compact=not shipped, peft_config=lora_config() if cell.lora else None,
            loss_type="grpo", beta=KL, learning_rate=LR, max_grad_norm=MAX_NORM,
            bf16=place.dtype == "bfloat16", use_cpu=place.device == "cpu",
        )  # fmt: skip
        if cell.lora:
            fill_adapter(trainer.model)
        trainer.add_callback(_Laps(meter, trainer))
        trainer.train()
    phases = [phase for phase, _ in plan.steps()]
    updates = phases.count("update")
    meter.losses = [float(loss) for loss in losses[:updates]]
    meter.sampled = replay.sampled[updates:]
    return meter.result()


def fastest_micro(cell: Cell, place: Place, shipped: bool) -> dict[str, Any]:
    """Seconds a sequence of TRL's update by sequences a pass, and the best number of them.

    Measured on as many sequences as the pass takes; one that does not fit in memory is left out.
    """
    tried: dict[int, float] = {}
    plan = Plan(int(place.device == "cuda"), 1, 0, 0)
    trl(Cell(cell.model, 16, 8, 2), place, plan, 2, shipped)  # what is slow only once
    for micro in sorted({1, 2, cell.members, 2 * cell.members, cell.sequences}):
        if micro > cell.sequences or cell.sequences % micro:
            continue
        members = min(cell.members, max(2, micro))
        part = Cell(cell.model, cell.prompt, cell.completion, members, max(1, micro // members))
        try:
            _free(place)
            found = trl(part, place, plan, micro, shipped)
        except torch.OutOfMemoryError:
            continue
        tried[micro] = found["seconds"]["update"][0] / part.sequences
    if not tried:
        raise torch.OutOfMemoryError("not even one sequence a pass")
    return {"micro": min(tried, key=lambda micro: tried[micro]), "tried": tried}


def run(work: str, cell: Cell, place: Place, plan: Plan, **options: Any) -> dict[str, Any]:
    """A block or a pilot; ``error`` instead of results where memory does not do."""
    _free(place)
    try:
        if work == "ours":
            return ours(cell, place, plan)
        if work == "pilot":
            return fastest_micro(cell, place, options["shipped"])
        return trl(cell, place, plan, options["micro"], options["shipped"])
    except RuntimeError as error:  # out of memory is one, on CPU without a class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    return {"error": "out of memory"}


def _free(place: Place) -> None:
    """Trainers of earlier cells go: they hold on to themselves in cycles."""
    gc.collect()
    if place.device == "cuda":
        torch.cuda.empty_cache()
