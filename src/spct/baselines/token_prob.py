r"""Stage ``token_prob``: how likely the choice of an LLM-as-a-Judge was after each critique.

Where a judgement opens its box, the model gives every number that it could write a probability. The
reward of a response is the probability of its number among those of all responses shown, at
temperature 1; the mean over sampled critiques decides (paper §2.1 and App. C.2, the TokenProb
variant). A sample whose choice cannot be read has none, as in the majority vote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from spct import artifact, lm
from spct.baselines import rows
from spct.baselines.encoding import together
from spct.baselines.rows import Scored
from spct.config import Slice
from spct.data.order import to_original
from spct.errors import BankError
from spct.judge.parse import Outcome
from spct.judge.task import Judge
from spct.progress import Progress
from spct.records import Item, Sample, read_bank, read_items
from spct.training import held
from spct.training.batching import Example
from spct.training.choice import completion_logprobs, serves
from spct.training.steps import dealt
from spct.training.world import ALONE

UNREAD = "no choice could be read"
_OPEN = re.compile(r"\\boxed\s*\{\s*")


def run(
    cfg: Slice,
    seed: int,
    *,
    items: Path,
    banks: Sequence[Path],
    policy: str,
    out: Path,
    init: str = "",
) -> None:
    """Write a row for every sampled judgement of the banks: a probability for each response.

    ``init`` is the model folder of ``policy``, which must have sampled the banks. Raises
    ``BankError`` if another model did.
    """
    model = lm.load(cfg.model, init)
    held.check(model.model, model.source)
    judge = Judge.build(cfg.judge, model.marks)
    by_id = {item.id: item for item in read_items(items)}
    samples = [row for row in read_bank(banks) if row.kind == "sample"]
    for path in banks:
        manifest = artifact.read_manifest(path)
        if (told := manifest.get("model")) != model.hash:
            raise BankError(f"{path} was sampled by the model {told}; {model.source} is another")
        if manifest.get("tokenizer") not in (None, model.tokenizer_hash):
            raise BankError(
                f"{path} was sampled with another tokenizer, chat template or model.date than "
                f"those of {model.source} now"
            )
    rows.write(
        out,
        probabilities(f"token_prob {policy}-{cfg.model.name}", model, judge, by_id, samples,
                      cfg.baseline.micro_tokens),
        method=rows.TOKEN_PROB,
        stage="token_prob",
        seed=seed,
        policy=policy,
        size=cfg.model.name,
        params=model.params,
        model=model.hash,
    )  # fmt: skip


def probabilities(
    name: str,
    model: lm.LM,
    judge: Judge,
    items: dict[str, Item],
    samples: Sequence[Sample],
    micro_tokens: int,
) -> list[Scored]:
    """The probability of each response's number, in the original order, for each sample."""
    read = [row for row in samples if row.outcome == Outcome.ok]
    examples = [choices(model, judge, items[row.item_id], row) for row in read]
    logprobs = iter(_logprobs(name, model.model, list(chain(*examples)), micro_tokens))
    found = {}
    for row, own in zip(read, examples, strict=True):
        shares = torch.tensor([next(logprobs) for _ in own]).softmax(0).tolist()
        found[row.key] = to_original(shares, row.order)
    return [
        Scored(
            row.item_id,
            found.get(row.key),
            "" if row.key in found else UNREAD,
            sample=row.sample,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
        )
        for row in samples
    ]


def choices(model: lm.LM, judge: Judge, item: Item, row: Sample) -> list[Example]:
    """For every number that could stand in the box: the text up to it, then its own tokens.

    The last box counts, as for :mod:`spct.judge.parse`; ``row`` must have a choice in it.
    """
    *_, opening = _OPEN.finditer(row.text)
    prompt = model.encode_prompt(judge.prompt(item, row.order, principles=row.principles))
    before = row.text[: opening.end()]
    texts = [
        tuple(model.tokenizer.encode(f"{before}{number}", add_special_tokens=False))
        for number in range(1, item.n + 1)
    ]
    group = together(texts)
    return [Example((*prompt, *group.prompt), completion) for completion in group.completions]


def _logprobs(
    name: str, model: nn.Module, examples: Sequence[Example], micro_tokens: int
) -> list[float]:
    """Log-probability (nats) of each example's completion."""
    found = [0.0] * len(examples)
    passes = dealt(examples, range(len(examples)), micro_tokens, ALONE, shared=serves(model))
    with Progress(name, len(examples), unit="choices") as bar, torch.no_grad():
        for one in passes:
            tokens: Tensor = completion_logprobs(model, one.groups).logprobs
            sums = [part.sum().item() for part in tokens.float().split(one.lengths)]
            for place, value in zip(one.places, sums, strict=True):
                found[place] = value
            bar.add(len(one.places))
    return found
