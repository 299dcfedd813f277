"""Group-relative advantages. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from spct.kinds import STDS


def advantages(
    rewards: Tensor, std: str = "population", eps: float = 1e-6, valid: Tensor | None = None
) -> Tensor:
    """``A = (r - mean) / (std + eps)`` within each group (paper Eq. 15; DeepSeekMath Eq. 4).

    ``rewards`` [P, G], one row per prompt; the result has the same shape. ``valid`` [P, G] bool is
    False for members without a reward: they leave their group and get zero. ``std``:

    - ``population``: of the group, divided by its size G (the paper says "std" and no more);
    - ``sample``: by G - 1 (TRL 1.16.0 with eps 1e-4, verl with 1e-6);
    - ``batch``: by all rewards given, less one, for every group alike (TRL's
      ``scale_rewards="batch"``; the rewards of all processes must be here);
    - ``none``: no division (Dr. GRPO).

    A *dead* group, all of whose rewards are equal, gets exact zeros and teaches nothing. Worked
    example with rewards of +1 and -1, G = 4: one right gives +1.732 to it and -0.577 to the others.
    Raises ``ValueError`` on another ``std``.
    """
    if std not in STDS:
        raise ValueError(f"grpo.std is {std!r}; known: {', '.join(STDS)}")
    if valid is None or bool(valid.all()):
        mean, deviation = rewards.mean(dim=1, keepdim=True), _deviation(rewards, std)
    else:
        mean, deviation = _of_valid(rewards, std, valid)
    centred = rewards - mean
    scaled = centred if std == "none" else centred / (deviation + eps)
    silent = dead(rewards, valid)[:, None]
    if valid is not None:
        silent = silent | ~valid
    return scaled.masked_fill(silent, 0.0)


def dead(rewards: Tensor, valid: Tensor | None = None) -> Tensor:
    """Groups [P] whose (valid) rewards are all equal; those of fewer than two are."""
    if valid is None:
        return (rewards == rewards[:, :1]).all(dim=1)
    low = rewards.masked_fill(~valid, torch.inf).amin(dim=1)
    high = rewards.masked_fill(~valid, -torch.inf).amax(dim=1)
    return high <= low


def _deviation(rewards: Tensor, std: str) -> Tensor:
    if std == "batch":
        return rewards.std()
    return rewards.std(dim=1, keepdim=True, unbiased=std == "sample")


def _of_valid(rewards: Tensor, std: str, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [P, 1] and deviation, [P, 1] or a scalar, of the valid rewards."""
    known = rewards.masked_fill(~valid, 0.0)
    size = valid.sum(dim=1, keepdim=True)
    mean = known.sum(dim=1, keepdim=True) / size.clamp(min=1)
    if std == "batch":
        return mean, rewards[valid].std()
    squares = (rewards - mean).square().masked_fill(~valid, 0.0).sum(dim=1, keepdim=True)
    freedom = size if std == "population" else size - 1
    return mean, (squares / freedom.clamp(min=1)).sqrt()
