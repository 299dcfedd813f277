"""Bradley-Terry reward model: a scalar of its own for every response, read without the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from spct.baselines.encoding import Encoder
from spct.baselines.learning import Lesson, ordered
from spct.baselines.rows import TOO_LONG, Scored
from spct.metarm import model as scalar
from spct.records import Item
from spct.training.batching import Example
from spct.training.groups import Group
from spct.training.steps import Pass
from spct.training.supervised import Loss, Shares
from spct.training.world import ALONE, World


@dataclass(frozen=True)
class Contest:
    """The responses of an item, and the pairs of them of which the first is better."""

    responses: Group
    pairs: list[tuple[int, int]]


def lesson(encoder: Encoder, items: Sequence[Item]) -> Lesson:
    """Every item with several responses and a best one. An example is a whole item."""
    skipped: Counter[str] = Counter()
    contests = []
    for item, pairs in ordered(items, skipped):
        responses = encoder.responses(item)
        if encoder.fits(_longest(responses)):
            contests.append(Contest(responses, pairs))
        else:
            skipped["too_long"] += 1
    examples = [_example(contest.responses) for contest in contests]
    return Lesson(examples, loss(contests), len(contests), dict(sorted(skipped.items())))


def _example(responses: Group) -> Example:
    """Stands for an item where tokens are counted, its prompt once per response.

    A pass must hold all responses of an item, since the loss is about their differences.
    """
    first, *others = responses.completions
    return Example(responses.prompt, (*first, *chain(*((*responses.prompt, *o) for o in others))))


def loss(contests: Sequence[Contest]) -> Loss:
    """The mean over the step's pairs of −log σ(s_better − s_other) (Bradley and Terry 1952)."""

    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        mine = [contests[place] for place in one.places]
        logits = scalar.token_logits(model, [contest.responses for contest in mine])
        lengths = [length for contest in mine for length in contest.responses.lengths]
        scores = logits[torch.tensor(lengths, device=logits.device).cumsum(0) - 1]
        starts = accumulate((len(c.responses.completions) for c in mine), initial=0)
        pairs = [
            (at + a, at + b)
            for at, contest in zip(starts, mine, strict=False)
            for a, b in contest.pairs
        ]
        better, other = torch.tensor(pairs, device=logits.device).T
        gaps = scores[better] - scores[other]
        total = sum(len(contests[place].pairs) for place in chosen)
        return {
            "loss": -logsigmoid(gaps).sum() / total,
            "accuracy": (gaps > 0).float().sum() / total,
        }

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
    """The logit of every response, whatever their number. ``seed`` is not used."""
    groups = [encoder.responses(item) for item in items]
    fitting = [encoder.fits(_longest(group)) for group in groups]
    encoder.hold(name, fitting)
    examples = [
        Example(group.prompt, completion)
        for group, fits in zip(groups, fitting, strict=True)
        if fits
        for completion in group.completions
    ]
    logits = iter(scalar.score(name, model, examples, micro_tokens, world))
    return [
        Scored(item.id, [next(logits) for _ in group.completions], tokens=_read(group))
        if fits
        else Scored(item.id, None, TOO_LONG)
        for item, group, fits in zip(items, groups, fitting, strict=True)
    ]


def _longest(group: Group) -> int:
    return len(group.prompt) + max(group.lengths)


def _read(group: Group) -> int:
    """Tokens read, the shared prompt once."""
    return len(group.prompt) + sum(group.lengths)
