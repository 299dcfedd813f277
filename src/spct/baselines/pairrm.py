"""Pairwise reward model: two responses in one prompt, a scalar S whose sign picks the better one.

S > 0 speaks for the response shown first. It is trained and asked in both orders; what is asked in
both counts as half the difference of the two, so that the answer cannot depend on the order. S = 0
falls to response 1 (paper §2.1), which here is the first of a shuffle seeded by the item: in the
order of a file response 1 is often the right one. Several responses play everybody against
everybody, and their scores are the games they win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from spct import seeds
from spct.baselines.encoding import Encoder
from spct.baselines.learning import Lesson, ordered
from spct.baselines.rows import ONE_RESPONSE, TOO_LONG, Scored
from spct.data.order import display_order
from spct.metarm import model as scalar
from spct.records import Item
from spct.training.batching import Example
from spct.training.steps import Pass
from spct.training.supervised import Loss, Shares
from spct.training.world import ALONE, World


def lesson(encoder: Encoder, items: Sequence[Item]) -> Lesson:
    """Every (better, other) pair of an item in both orders."""
    skipped: Counter[str] = Counter()
    examples: list[Example] = []
    first_wins: list[bool] = []
    taken = 0
    for item, pairs in ordered(items, skipped):
        games = [(*pair, True) for pair in pairs] + [(b, a, False) for a, b in pairs]
        shown = [encoder.pair(item, first, second) for first, second, _ in games]
        if not all(encoder.fits(len(example)) for example in shown):
            skipped["too_long"] += 1
            continue
        taken += 1
        examples += shown
        first_wins += [won for _, _, won in games]
    return Lesson(examples, loss(first_wins), taken, dict(sorted(skipped.items())))


def loss(first_wins: Sequence[bool]) -> Loss:
    """The mean over the step's games of −log σ(±S), + where the response shown first is better."""

    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        logits = scalar.token_logits(model, one.groups)[scalar.last(one)]
        won = torch.tensor([float(first_wins[place]) for place in one.places], device=logits.device)
        right = ((logits > 0) == (won > 0.5)).float().sum()
        total = bce(logits, won, reduction="sum")
        return {"loss": total / len(chosen), "accuracy": right / len(chosen)}

    return loss_of


def score(
    name: str,
    model: nn.Module,
    encoder: Encoder,
    items: Sequence[Item],
    micro_tokens: int,
    world: World = ALONE,
    *,
    seed: int = 0,
) -> list[Scored]:
    """Games won by each response; single responses are refused."""
    shuffle = seeds.derive(seed, "pairrm")
    orders = {i.id: display_order("fixed", shuffle, i.id, 0, i.n) for i in items}
    examples: list[Example] = []
    refused: dict[str, str] = {}
    tokens: Counter[str] = Counter()
    for item in items:
        games = [
            game
            for a, b in combinations(orders[item.id], 2)
            for game in (encoder.pair(item, a, b), encoder.pair(item, b, a))
        ]
        if not games:
            refused[item.id] = ONE_RESPONSE
        elif not all(encoder.fits(len(game)) for game in games):
            refused[item.id] = TOO_LONG
        else:
            examples += games
            tokens[item.id] = sum(map(len, games))
    encoder.hold(name, [why != TOO_LONG for why in refused.values()] + [True] * len(tokens))
    logits = iter(scalar.score(name, model, examples, micro_tokens, world))
    return [
        Scored(item.id, None, refused[item.id])
        if item.id in refused
        else Scored(item.id, wins(orders[item.id], logits), tokens=tokens[item.id])
        for item in items
    ]


def wins(order: Sequence[int], logits: Iterator[float]) -> list[float]:
    """Games won by each of n responses, in their original order.

    ``logits`` gives S in both orders for every pair of the shuffled ``order``, the pairs as
    :func:`itertools.combinations` has them. Takes n (n − 1) of them.
    """
    won = [0.0] * len(order)
    for a, b in combinations(order, 2):
        s = (next(logits) - next(logits)) / 2
        won[a if s >= 0 else b] += 1.0
    return won
