"""Group-relative advantages. Pure functions."""

from __future__ import annotations

from torch import Tensor


def advantages(rewards: Tensor, std: str = "population", eps: float = 1e-6) -> Tensor:
    """``A = (r - mean) / (std + eps)`` within each group (paper Eq. 15; DeepSeekMath Eq. 4).

    ``rewards`` [P, G], one row per prompt; the result has the same shape. ``std`` is ``population``
    (divide by G), ``sample`` (by G - 1) or ``none`` (no division). A group of equal rewards gets
    zeros: it is *dead* and teaches nothing. Worked example with rewards of +1 and -1, G = 4: one
    right gives +1.732 to it and -0.577 to the others.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if std == "none":
        return centred
    if std not in ("population", "sample"):
        raise ValueError(f"grpo.std is {std!r}; known: population, sample, none")
    deviation = rewards.std(dim=1, keepdim=True, unbiased=std == "sample")
    return centred / (deviation + eps)


def dead(rewards: Tensor) -> Tensor:
    """Groups [P] whose rewards are all equal."""
    return (rewards == rewards[:, :1]).all(dim=1)
