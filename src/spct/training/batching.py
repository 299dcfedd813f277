"""Examples, and batches of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spct import seeds


@dataclass(frozen=True)
class Example:
    """A prompt and the completion to score or learn, as token ids."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass
class Batch:
    """Right-padded sequences. Under a causal mask nothing attends to the padding.

    ``ids`` [B, T] int64; ``rows``, ``columns`` [N] index the N completion tokens of all sequences,
    in order of sequence and position.
    """

    ids: Tensor
    rows: Tensor
    columns: Tensor


def collate(examples: Sequence[Example], pad: int, device: torch.device | str = "cpu") -> Batch:
    """Pad examples on the right. Raises ``ValueError`` on an empty prompt."""
    if any(not example.prompt for example in examples):
        raise ValueError(
            "an example has an empty prompt; the first completion token has no context"
        )
    width = max(len(example) for example in examples)
    ids = torch.full((len(examples), width), pad, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example.prompt + example.completion)
        rows += [row] * len(example.completion)
        columns += range(len(example.prompt), len(example))
    index = torch.tensor([rows, columns], dtype=torch.long, device=device).reshape(2, -1)
    return Batch(ids.to(device), index[0], index[1])


def by_tokens(lengths: Sequence[int], budget: int, *names: object) -> list[list[int]]:
    """Indices in batches of similar length, in seeded order; ``budget`` bounds padded tokens.

    An example longer than ``budget`` makes a batch of its own.
    """
    rng = seeds.rng("batches", *names)
    noise = rng.random(len(lengths))
    ranked = sorted(range(len(lengths)), key=lambda i: (lengths[i], noise[i]))
    batches: list[list[int]] = []
    current: list[int] = []
    for index in ranked:
        if current and lengths[index] * (len(current) + 1) > budget:
            batches.append(current)
            current = []
        current.append(index)
    if current:
        batches.append(current)
    return [batches[i] for i in np.asarray(rng.permutation(len(batches)))]
