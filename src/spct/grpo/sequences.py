"""What a step learns from: token sequences with their advantages and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spct.grpo.advantage import advantages
from spct.grpo.loss import Totals
from spct.grpo.rollout import Rollouts
from spct.schema import GrpoConfig
from spct.training.batching import Example


@dataclass(frozen=True)
class Sequences:
    """S sequences: ``examples``, ``advantages`` [S] float32, and by sequence the sampler's own
    log-probs (one per completion token, nats), the domain and the id of the item.

    ``totals`` is what the loss divides by: dead groups left out count where none took their place,
    so that leaving them out does not raise the step size. None without any sequence."""

    examples: list[Example]
    advantages: Tensor
    sampler: list[tuple[float, ...]]
    domains: list[str]
    items: list[str]
    totals: Totals | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @classmethod
    def of(cls, rollouts: Rollouts, config: GrpoConfig) -> Sequences:
        """The members that have a completion and a reward, with the advantages of their groups.

        With ``skip_dead`` none of a dead group.
        """
        gains = advantages(rollouts.rewards, config.std, config.std_eps, rollouts.valid).flatten()
        silent = rollouts.dead() if config.skip_dead else [False] * len(rollouts.rewards)
        chosen, examples, sampler, left_out = [], [], [], []
        for place, example in enumerate(rollouts.examples()):
            completion = rollouts.members[place].completion
            if example is None or completion is None:
                continue
            if silent[place // rollouts.size]:
                left_out.append(example)
                continue
            chosen.append(place)
            examples.append(example)
            sampler.append(completion.logprobs)
        items = [rollouts.members[place].task.item for place in chosen]
        counted = examples if config.refill else examples + left_out
        tokens = sum(len(example.completion) for example in counted)
        return cls(
            examples,
            gains[torch.tensor(chosen, dtype=torch.long)],
            sampler,
            [item.domain for item in items],
            [item.id for item in items],
            Totals(len(counted), tokens) if tokens else None,
        )
