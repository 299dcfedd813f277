"""A scalar head on a causal model, in the stock ``…ForSequenceClassification`` form.

The logit is read at the last token of prompt + judgement. Training may also ask for it at every
token of the judgement (``dense``), which gives many more gradients per label; the folder stays an
ordinary one-label classifier that ``transformers`` and vLLM load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spct import lm
from spct.progress import Progress
from spct.schema import ModelConfig
from spct.training import parallel
from spct.training.batching import Example
from spct.training.choice import choose, serves
from spct.training.groups import Group
from spct.training.precision import DTYPES
from spct.training.steps import Pass, dealt
from spct.training.world import ALONE, World

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class MetaRM:
    """Classifier and, for tokenizer and encoding, the language model it came from."""

    model: PreTrainedModel
    text: lm.LM

    @property
    def params(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def token_logits(model: nn.Module, groups: Sequence[Group]) -> Tensor:
    """The logit at every completion token, [N] float32, by group, completion and position.

    Judgements of one prompt share its pass where :func:`spct.training.choice.choose` says so.
    """
    states = choose(model, groups)(model, groups, read="at")
    logits: Tensor = model.score(states)  # type: ignore[operator]
    return logits.squeeze(-1).float()


def last(one: Pass) -> Tensor:
    """Places in 0..N-1 of the last token of each of S completions, [S]; none may be empty."""
    return torch.tensor(one.lengths).cumsum(0) - 1


def score(
    name: str,
    model: nn.Module,
    examples: Sequence[Example],
    micro_tokens: int,
    world: World = ALONE,
) -> list[float]:
    """The logit at the end of each example, in order; every process gets all of them.

    ``micro_tokens`` bounds the padded tokens of a forward pass; ``name`` is that of the progress.
    """
    shared = world.from_main(serves(model))
    own = dealt(examples, range(len(examples)), micro_tokens, world, shared=shared)
    found: dict[int, float] = {}
    total = sum(len(one.places) for one in own if not one.idle)
    with Progress(name, total, unit="judgements", quiet=not world.main) as bar:
        for one in own:
            with torch.no_grad():
                logits = parallel.through(model, partial(token_logits, groups=one.groups))
            if not one.idle:
                found |= zip(one.places, logits[last(one)].tolist(), strict=True)
                bar.add(len(one.places))
    every = {place: value for part in world.gather(found) for place, value in part.items()}
    return [every[place] for place in range(len(examples))]


def load(
    config: ModelConfig,
    init: str | Path = "",
    *,
    dtype: torch.dtype | None = None,
    place: torch.device | None = None,
) -> MetaRM:
    """The model at ``init``, or the base of ``config``; a new head of zeros unless it has one.

    ``dtype`` and ``place`` of the weights in memory, as in :func:`spct.lm.load`.
    """
    import transformers

    lm.quiet()
    source = lm.source_of(config, init)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=1,
        dtype=dtype or DTYPES[config.dtype],
        use_safetensors=True,
        output_loading_info=True,
        **lm.attention(source, config),
    )
    if "score.weight" in report["missing_keys"]:
        torch.nn.init.zeros_(model.score.weight)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **lm.options(config))
    text = lm.LM(model, tokenizer, lm.model_hash(source, config.revision), str(source), config)
    # its own forward pass reads at the last token that is no padding, and every text ends in eos
    pad = None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = pad
    return MetaRM(model.to(place or lm.device()).eval(), text)
