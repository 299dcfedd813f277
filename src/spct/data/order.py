"""The order in which an item's responses are shown: a pure function of names, kept in the bank.

A judge is biased by position. Shuffling before each sample (paper §4) turns that bias into noise
that voting removes; a plan says how to shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from spct import seeds

PLANS = ("random", "balanced", "fixed")
T = TypeVar("T")


def display_order(plan: str, seed: int, item_id: str, sample: int, n: int) -> list[int]:
    """``order[p]`` is the original index of the response shown at position ``p``.

    * ``random``: a fresh permutation for each (item, sample), the paper's plan;
    * ``balanced``: the samples of an item walk through the ``n`` rotations of one permutation: any
      ``n`` consecutive ones show every response once at every position (n = 2: both orders);
    * ``fixed``: one permutation per item, seeded, never the file's order.

    ``seed`` names run and stage. Raises ``ValueError`` for an unknown plan, ``n < 1`` or a negative
    ``sample``.
    """
    if plan not in PLANS:
        raise ValueError(f"order plan {plan!r} is not one of {', '.join(PLANS)}")
    if n < 1 or sample < 0:
        raise ValueError(f"no order of {n} responses for sample {sample}")
    if plan == "random":
        return _permutation(seed, item_id, n, sample)
    base = _permutation(seed, item_id, n)
    turn = sample % n if plan == "balanced" else 0
    return base[turn:] + base[:turn]


def _permutation(seed: int, item_id: str, n: int, *parts: int) -> list[int]:
    return [int(i) for i in seeds.rng(seed, "order", item_id, *parts).permutation(n)]


def to_original(shown: Sequence[T], order: Sequence[int]) -> list[T]:
    """Values by position shown, put back into the original order of the responses.

    Raises ``ValueError`` unless ``order`` is a permutation with one entry per value.
    """
    if len(shown) != len(order) or sorted(order) != list(range(len(order))):
        raise ValueError(f"{list(order)} is no order of {len(shown)} responses")
    back = dict(zip(order, shown, strict=True))
    return [back[i] for i in range(len(order))]
