"""A few steps of training as one process or as several: the same function, run by the tests and,
as a script, by each process that they start.

``python parallel_world.py FOLDER`` does all of :func:`everything`; ``… FOLDER raise`` and
``… FOLDER wait`` fail on purpose.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from meeting import leave_after
from patience import PATIENCE
from torch import Tensor, nn

from spct.training.world import World, joined

FLOAT = {"weights": torch.float32, "compute": torch.float32, "saved": torch.float32}
SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 50,  # uneven shards
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Case:
    """One way to train: ``groups`` are the completion lengths of each group."""

    family: str
    aggregation: str
    path: str  # shared | plain
    groups: tuple[tuple[int, ...], ...]
    recompute: bool = False
    optim: str = "adamw"
    micro_tokens: int = 60


UNEVEN = ((9, 2, 14), (1, 7), (3,), (20, 18, 5, 2), (6, 6), (4, 11, 8))
CASES = {
    "sequence": Case("llama", "sequence", "shared", UNEVEN),
    "token": Case("gemma2", "token", "plain", UNEVEN, recompute=True),
    "constant": Case("qwen3", "constant", "shared", UNEVEN, recompute=True),
    "idle_rank": Case("llama", "sequence", "plain", ((5, 3),)),
    "muon": Case("qwen3", "token", "plain", UNEVEN, optim="muon"),
}
STEPS = 3


def new_model(family: str, seed: int) -> Any:
    """Random weights; Llama with tied embeddings, Qwen3 without, Gemma 2 with caps and windows."""
    import transformers

    torch.manual_seed(seed)
    if family == "llama":
        config = transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True)
    elif family == "qwen3":
        config = transformers.Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=False)
    else:
        config = transformers.Gemma2Config(
            **SHAPE,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        )
    return transformers.AutoModelForCausalLM.from_config(config).train()


def batch(case: Case, step: int) -> tuple[list[Any], list[Tensor]]:
    """The groups of a step and the advantages of their completions."""
    from spct.training.groups import Group

    draw = torch.Generator().manual_seed(step)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, SHAPE["vocab_size"], (count,), generator=draw).tolist())

    groups = [
        Group(tokens(4 + 3 * number), tuple(map(tokens, lengths)))
        for number, lengths in enumerate(case.groups)
    ]
    return groups, [torch.randn(len(group.completions), generator=draw) for group in groups]


class Run:
    """Policy, reference and optimiser, sharded over the world."""

    def __init__(self, case: Case, world: World, seed: int = 1) -> None:
        from spct.schema import OptimConfig
        from spct.training import parallel
        from spct.training.optim import Optimizer
        from spct.training.precision import Precision

        self.case, self.world, self.precision = case, world, Precision(**FLOAT)
        self.poisoned = False  # gives the last process a NaN to work on
        self.policy, self.reference = new_model(case.family, seed), new_model(case.family, 2)
        self.reference.requires_grad_(False)
        parallel.shard(self.policy, world, self.precision, recompute=case.recompute)
        parallel.shard(self.reference, world, self.precision)
        config = OptimConfig(case.optim, 1e-3, 1e-2, 0.1, 1, 0.5, max_grad_norm=0.3)
        self.optimizer = Optimizer(self.policy, config, STEPS)

    # ---- one step, as the trainer does it ------------------------------------------------------

    def step(self, step: int) -> dict[str, Any]:
        from spct.grpo.loss import Totals, means
        from spct.training import parallel
        from spct.training.deal import passes
        from spct.training.whole import gathered

        groups, advantages = batch(self.case, step)
        totals = Totals(
            sequences=sum(len(group.completions) for group in groups),
            tokens=sum(sum(group.lengths) for group in groups),
        )
        if self.poisoned and self.world.rank + 1 == self.world.size:
            advantages = [gains * float("nan") for gains in advantages]
        own = passes(groups, self.case.micro_tokens, self.world, shared=self.case.path == "shared")
        parts = []
        for number, chosen in enumerate(own):
            picked = [groups[i] for i in chosen], [advantages[i] for i in chosen]
            terms = self._terms(*picked, totals)
            last = number + 1 == len(own)
            parallel.backward(self.policy, terms.loss, self.world, last=last)
            parts.append(terms)
        metrics = self.world.totals(means(parts, totals))
        gradients = {name: p.grad for name, p in self.policy.named_parameters()}
        whole = gathered(gradients, self.world)
        gradients = {name: g.clone() for name, g in whole.items() if g is not None}
        metrics["grad_norm"] = self.optimizer.step(step)
        return {
            "metrics": metrics,
            "passes": self.world.gather([len(one) for one in own]),
            "gradients": gradients,
            "weights": self.weights(),
        }

    def _terms(self, groups: list[Any], gains: list[Tensor], totals: Any) -> Any:
        from spct.grpo.loss import Settings, objective
        from spct.training import parallel
        from spct.training.deal import IDLE, silent

        working = bool(groups)
        groups, gains = (groups, gains) if working else ([IDLE], [torch.zeros(1)])
        settings = Settings(0.1, aggregation=self.case.aggregation, length=24)
        logprobs = parallel.through(self.policy, partial(self._logprobs, groups))
        with torch.no_grad():
            reference = parallel.through(self.reference, partial(self._logprobs, groups))
        lengths = torch.tensor([length for group in groups for length in group.lengths])
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        old = logprobs.detach() - 0.1 * torch.sin(torch.arange(len(logprobs)))
        terms = objective(logprobs, old, reference, torch.cat(gains), owner, settings, totals)
        return terms if working else silent(terms)

    def _logprobs(self, groups: list[Any], model: nn.Module) -> Tensor:
        from spct.training import plain, shared
        from spct.training.logprobs import token_logprobs

        path = shared if self.case.path == "shared" else plain
        states = path.completion_states(model, groups)
        return token_logprobs(model, states, plain.targets(groups), chunk=16).logprobs

    # ---- the rest of a run ---------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        from spct.training.whole import weights

        whole = weights(self.policy, self.world)
        return {name: tensor.clone() for name, tensor in whole.items() if tensor is not None}

    def state(self) -> dict[str, Any]:
        from spct.training.whole import gathered, weights

        return {
            "model": weights(self.policy, self.world),
            "optimizer": gathered(self.optimizer.state_dict(), self.world),
        }

    def load(self, path: Path) -> None:
        from spct.training.whole import load_model, load_optimizers

        state = torch.load(path, weights_only=True) if self.world.main else None
        load_model(self.policy, state and state["model"], self.world)
        load_optimizers(self.optimizer.inner, state and state["optimizer"], self.world)

    def sample(self) -> list[Any]:
        from spct.sampling.base import Request
        from spct.sampling.dealt import DealtSampler
        from spct.sampling.native import NativeSampler
        from spct.schema import SamplerConfig
        from spct.training import parallel

        config = SamplerConfig("native", 12, 64, 4, 100, 1.0)
        requests = [
            Request(tuple(range(2, 5 + number % 4)), seed=number, temperature=1.0)
            for number in range(11)
        ]
        lm: Any = SimpleNamespace(
            **{"model": self.policy, "config": self.policy.config, "context": None, "source": ""},
            **{"pad": 0, "eos": frozenset([1]), "tokenizer": SimpleNamespace(decode=str)},
        )
        self.policy.eval()
        with parallel.unsharded(self.policy):
            sampler = DealtSampler(NativeSampler(lm, config), config, self.world)
            completions = sampler.sample(requests)
        self.policy.train()
        return [asdict(completion) for completion in completions]


def everything(world: World, folder: Path) -> dict[str, Any]:
    """All cases; states, model folders and samples of the first. What the main process saw."""
    result: dict[str, Any] = {"size": world.size}
    for name, case in CASES.items():
        run = Run(case, world)
        steps = []
        for step in range(STEPS):
            if name == "sequence" and step != 1:
                result[f"samples_{step}"] = run.sample()  # must leave no stale weights behind
            if name == "sequence" and step == 2:
                state = run.state()
                if world.main:
                    torch.save(state, folder / f"state-of-{world.size}.pt")
            steps.append(run.step(step))
        result[name] = steps
    result["continued"] = {
        path.stem: continued(world, path) for path in sorted(folder.glob("state-of-*.pt"))
    }
    save(world, folder / f"model-of-{world.size}")
    result["talk"] = talk(world)
    return result


def continued(world: World, path: Path) -> dict[str, Any]:
    """The third step of case ``sequence`` from a state, by a run that began elsewhere."""
    run = Run(CASES["sequence"], world, seed=7)
    run.load(path)
    return run.step(2)


def save(world: World, folder: Path) -> None:
    """The first weights of case ``sequence`` as a model folder."""
    from spct.training.whole import save_pretrained, weights

    run = Run(CASES["sequence"], world)
    state = weights(run.policy, world)
    if world.main:
        save_pretrained(run.policy, folder, state, run.precision)


def talk(world: World) -> dict[str, Any]:
    """What the processes tell each other, and the errors that all of them must see."""
    from spct.training.whole import load_model

    values = {"loss": 0.1 * (world.rank + 1), "ratio_max": float(world.rank)}
    errors = []
    for call in (
        lambda: world.totals(values | {f"only_{world.rank}": 1.0}),
        lambda: load_model(Run(CASES["muon"], world).policy, {}, world),
    ):
        try:
            call()
        except ValueError as error:
            errors.append(str(error))
    run = Run(CASES["sequence"], world)
    run.poisoned = True
    try:
        run.step(0)
    except FloatingPointError as error:
        errors.append(str(error))
    return {
        "totals": world.gather(world.totals(values)),
        "from_main": world.gather(world.from_main(f"rank {world.rank}")),
        "ranks": world.gather(world.rank),
        "errors": world.gather(errors),
    }


def fail(world: World, how: str) -> None:
    """Rank 1 raises, or lets the others wait beyond the deadline."""
    if world.rank == 1 and how == "raise":
        raise ValueError("no reward for item 17")
    if how == "wait":
        world.gather(world.rank)
        leave_after(timedelta(seconds=1))
        if world.rank == 1:
            time.sleep(PATIENCE)
    world.gather(world.rank)


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    folder, how = Path(arguments[0]), (arguments[1:] or [""])[0]
    with joined(timedelta(seconds=PATIENCE)) as world:
        if how:
            fail(world, how)
        result = everything(world, folder)
        if world.main:
            torch.save(result, folder / "result.pt")


if __name__ == "__main__":
    main(sys.argv[1:])
