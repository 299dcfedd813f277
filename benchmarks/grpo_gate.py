"""Does our GRPO update compute what TRL's ``GRPOTrainer`` computes? The gate before any timing.

    python benchmarks/grpo_gate.py                        # Qwen2 and Llama, half a minute
    python benchmarks/grpo_gate.py --hidden 256 --layers 8 --steps 3

Our side is ``spct.grpo.update.update`` as the stage calls it, on the shared-prefix path, in more
than one micro-batch. Both sides get the same random float32 weights, a reference of other weights,
and the same stored prompts, completions and rewards, replayed to TRL through its own
``rollout_func``. Prompts and completions are uneven, one completion is one token long, one group is
dead. Each row is one pair of settings; a row passes with

- loss: relative error of at most 1e-5, at the last optimiser step of every round,
- gradient: cosine above 0.99999 and norm within 1e-5, at every optimiser step,
- weights after all steps: difference of at most 1e-4 of the weights and 1e-3 of the way they went,
- every pass of ours, policy and reference, with shared prompts.

With KL 0 and one update the loss is zero whatever the policy is, and it is always a small rest of
terms of about 1 (the advantages), so a loss below 0.05 is compared as if it were that. Needs
``trl``, ``accelerate`` and ``datasets`` (extra ``gate``). TRL's defaults that have to be turned off
to get the textbook objective: ``use_bias_correction_kl``, ``bf16``, ``gradient_checkpointing``, the
linear decay of the rate, AdamW's fused kernel.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from gate_cases import CASES, GROUPS, LONGEST, MEMBERS, Case
from needs import need
from torch import Tensor, nn
from trl_side import Replay, Round, Shape, new_tokenizer, new_trainer, quiet

from spct import seeds
from spct.grpo.advantage import advantages
from spct.grpo.learn import optim_config
from spct.grpo.trace import Trace
from spct.grpo.update import update
from spct.training import choice
from spct.training.batching import Example
from spct.training.groups import Group
from spct.training.optim import Optimizer

VOCABULARY, PAD, EOS = 120, 0, 1
MICRO = 4  # sequences a micro-batch on TRL's side
LOSS, COSINE, NORM, WEIGHTS, WAY = 1e-5, 0.99999, 1e-5, 1e-4, 1e-3
FLOOR = 0.05  # see above; a rounding of terms of about 1 is 1e-7
CPU = torch.device("cpu")


@dataclass
class Run:
    """What one side did: loss and gradient (before clipping) of each optimiser step, weights."""

    losses: list[float] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    weights: Tensor = field(default_factory=lambda: torch.empty(0))
    clipped: float = 0.0  # ours only: largest share of clipped tokens
    shared: list[bool] = field(default_factory=list)  # ours only: which passes shared prompts


@dataclass(frozen=True)
class Row:
    """Largest differences of one case over its steps."""

    family: str
    case: Case
    loss: float
    cosine: float
    norm: float
    weights: float
    moved: float  # the difference of the weights relative to how far they moved
    clipped: float
    shared: bool  # all passes of ours
    passes: int  # of ours, policy and reference

    @property
    def passed(self) -> bool:
        same_gradient = self.cosine > COSINE and self.norm <= NORM
        same_weights = self.weights <= WEIGHTS and self.moved <= WAY
        same_loss = self.loss <= LOSS or not self.case.same_value
        return same_gradient and same_weights and same_loss and self.shared


def new_model(family: str, seed: int, hidden: int, layers: int) -> Any:
    """A random float32 model, its weights large enough that policies differ, at any width."""
    kinds = {
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    }
    config, kind = kinds[family]
    torch.manual_seed(seed)
    return kind(
        config(
            vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=2 * hidden,
            num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, initializer_range=0.64 / hidden**0.5,
            tie_word_embeddings=True, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
        )
    ).float()  # fmt: skip


def stored(number: int, policy: nn.Module, case: Case) -> Round:
    """Seeded rollouts: prompts of 70 to 99 tokens, completions of 1 to ``LONGEST``, some ended."""
    rng = seeds.rng("gate", number)
    examples: list[Example] = []
    rewards: list[float | None] = []
    for group in range(GROUPS):
        prompt = tuple(int(i) for i in rng.integers(3, VOCABULARY, rng.integers(70, 100)))
        for member in range(MEMBERS):
            length = 1 if group + member == 0 else int(rng.integers(2, LONGEST + 1))
            ids = [int(i) for i in rng.integers(3, VOCABULARY, length)]
            if member % 2:
                ids[-1] = EOS
            examples.append(Example(prompt, tuple(ids)))
            # one right in the first, one wrong in the second, a dead group, two of each
            right = (member == 0, member != 1, False, member % 2 == 0)[group]
            rewards.append(1.0 if right else -1.0)
    if case.missing:
        rewards[1] = None
    if not case.sampler:
        return Round(examples, rewards)
    off = torch.from_numpy(rng.normal(0, 0.3, sum(len(e.completion) for e in examples)))
    with torch.no_grad():
        groups = [Group(example.prompt, (example.completion,)) for example in examples]
        noisy = choice.completion_logprobs(policy, groups).logprobs + off.float()
    lengths = [len(example.completion) for example in examples]
    return Round(examples, rewards, [part.tolist() for part in noisy.split(lengths)])


def _flat(model: nn.Module, grad: bool) -> Tensor:
    values = sorted((n, p.grad if grad else p) for n, p in model.named_parameters())
    return torch.cat([value.detach().double().flatten() for _, value in values])


def gains(case: Case, turn: Round) -> Tensor:
    """Advantages, [sequences]."""
    rewards = torch.tensor([reward or 0.0 for reward in turn.rewards]).reshape(-1, MEMBERS)
    valid = torch.tensor([reward is not None for reward in turn.rewards]).reshape(-1, MEMBERS)
    return advantages(rewards, case.ours.std, case.ours.std_eps, valid).flatten()


def ours(case: Case, policy: Any, reference: Any, rounds: Sequence[Round]) -> Run:
    """Our side: advantages and ``update``, watched where it steps and where models are run."""
    run = Run()

    class Watched(Optimizer):
        def step(self, step: int) -> float:
            run.grads.append(_flat(policy, True))
            return super().step(step)

    optimizer = Watched(policy, optim_config(case.ours), len(rounds) * case.updates)
    for model in (policy, reference):
        assert choice.serves(model)
        model.get_decoder().register_forward_pre_hook(
            lambda _, __, arguments: run.shared.append("layout" in arguments), with_kwargs=True
        )
    for number, turn in enumerate(rounds):
        values = update(
            policy,
            reference if case.ours.kl_coef else None,
            turn.examples,
            gains(case, turn),
            optimizer,
            case.ours,
            first_step=number * case.updates,
            max_tokens=case.length,
            device=CPU,
            trace=Trace(turn.sampler or [()] * len(turn.examples)),
        )
        run.losses.append(values["loss"])
        run.clipped = max(run.clipped, values["clip_fraction"])
    run.weights = _flat(policy, False)
    return run


def theirs(case: Case, policy: Any, reference: Any, rounds: Sequence[Round], folder: Path) -> Run:
    """TRL's side; of several updates on a round, the last one's loss."""
    run = Run()

    def watch(loss: Tensor) -> None:
        run.losses.append(float(loss))
        run.grads.append(_flat(policy, True))

    trainer = new_trainer(
        policy, reference, Replay(rounds), Shape(GROUPS, MEMBERS, LONGEST, MICRO),
        new_tokenizer(VOCABULARY, PAD, EOS), folder, watch, updates=case.updates,
        learning_rate=case.ours.lr, max_grad_norm=case.ours.max_grad_norm, optim="adamw_torch",
        bf16=False, use_cpu=True, **case.trl,
    )  # fmt: skip
    if case.sampler:  # its correction runs behind the switch for vLLM; the engine itself stays out
        trainer.use_vllm, trainer.vllm_generation = True, _NoEngine()
        trainer._last_loaded_step = -1
    trainer.train()
    run.losses = run.losses[case.updates - 1 :: case.updates]
    run.weights = _flat(policy, False)
    return run


class _NoEngine:
    def sync_weights(self) -> None:
        """Nothing to send weights to: the rollouts are stored."""


def compare(family: str, case: Case, steps: int, hidden: int, layers: int) -> Row:
    """Both sides from the same start; see the module's text for what is measured."""
    # steps that change a policy of any width alike
    case = replace(case, ours=replace(case.ours, lr=case.ours.lr * 64 / hidden))

    def model(seed: int) -> Any:
        return new_model(family, seed, hidden, layers)

    start = model(1)
    rounds = [stored(i, start, case) for i in range(steps)]
    mine = ours(case, model(1).train(), model(2).eval().requires_grad_(False), rounds)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = theirs(case, model(1).train(), model(2).eval(), rounds, Path(name))
    assert len(mine.losses) == len(peer.losses) == steps
    assert len(mine.grads) == len(peer.grads) == steps * case.updates
    losses = [
        abs(a - b) / max(abs(b), FLOOR) for a, b in zip(mine.losses, peer.losses, strict=True)
    ]
    pairs = list(zip(mine.grads, peer.grads, strict=True))
    begin = _flat(start, False)
    gap = (mine.weights - peer.weights).norm()
    return Row(
        family,
        case,
        loss=max(losses),
        cosine=min(float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs),
        norm=max(float(abs(a.norm() - b.norm()) / b.norm()) for a, b in pairs),
        weights=float(gap / peer.weights.norm()),
        moved=float(gap / (peer.weights - begin).norm()),
        clipped=mine.clipped,
        shared=all(mine.shared),
        passes=len(mine.shared),
    )


def line(row: Row) -> str:
    loss = f"{row.loss:.1e}" if row.case.same_value else "other"
    return (
        f"| {row.family} | {row.case.name} | {loss} | {1 - row.cosine:.1e} | {row.norm:.1e} | "
        f"{row.weights:.1e} | {row.moved:.1e} | {row.clipped:.0%} | "
        f"{row.passes if row.shared else 'NOT SHARED'} | {'pass' if row.passed else 'FAIL'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", nargs="+", default=["qwen2", "llama"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    need("gate", "trl", "accelerate", "datasets")
    import trl

    torch.set_num_threads(1)
    quiet()
    print(
        f"{platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__},"
        f" trl {trl.__version__}"
    )
    names = ("model", "TRL's settings", "loss", "1 - cosine", "grad norm", "weights")
    print(f"| {' | '.join(names)} | of the way | clipped | shared passes | |\n{'|---' * 10}|")
    started, failed = time.monotonic(), 0
    for family in arguments.families:
        for case in CASES:
            row = compare(family, case, arguments.steps, arguments.hidden, arguments.layers)
            failed += not row.passed
            print(line(row), flush=True)
    rows = len(CASES) * len(arguments.families)
    print(f"{failed} of {rows} fail; {time.monotonic() - started:.0f} s")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
