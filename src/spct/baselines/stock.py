"""A reward model that somebody else has trained: any one-label ``…ForSequenceClassification``.

What TRL's RewardTrainer writes, a folder or a hub id. It is read as its own ``forward`` pools it,
decoder or encoder, on the conversation through its own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from spct import lm
from spct.baselines.encoding import Encoder
from spct.baselines.rows import TOO_LONG, Scored
from spct.errors import ConfigError
from spct.metarm.model import MetaRM
from spct.progress import Progress
from spct.records import Item
from spct.schema import ModelConfig
from spct.training.batching import by_tokens
from spct.training.precision import DTYPES
from spct.training.world import ALONE, World


def load(config: ModelConfig) -> MetaRM:
    """The classifier that ``config.source`` names, with its tokenizer.

    Raises ``ConfigError`` if it has not one label, has no trained head, or a tokenizer without a
    chat template, and as :func:`spct.lm.source_of` does.
    """
    import transformers

    lm.quiet()
    source = lm.source_of(config, "")
    labels = transformers.AutoConfig.from_pretrained(source, **lm.options(config)).num_labels
    if labels != 1:
        raise ConfigError(
            f"model.source: {source} is a classifier of {labels} labels; a reward model has one"
        )
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        source,
        dtype=DTYPES[config.dtype],
        use_safetensors=True,
        output_loading_info=True,
        **lm.options(config),
    )
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"model.source: {source} is no trained reward model: it lacks {missing[0]}"
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **lm.options(config))
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model.source: the tokenizer of {source} has no chat template, so nobody knows how it "
            "reads a conversation; add the one it was trained with to its folder"
        )
    text = lm.LM(model, tokenizer, lm.model_hash(source, config.revision), str(source), config)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = text.pad
    return MetaRM(model.to(lm.device()).eval(), text)


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
    """The logit of every response, whatever their number. ``seed`` and ``world`` are not used."""
    groups = [encoder.responses(item) for item in items]
    texts = [[(*g.prompt, *completion) for completion in g.completions] for g in groups]
    fitting = [all(encoder.fits(len(text)) for text in own) for own in texts]
    encoder.hold(name, fitting)
    flat = [text for own, fits in zip(texts, fitting, strict=True) if fits for text in own]
    logits = iter(_logits(name, model, encoder.text.pad, flat, micro_tokens))
    return [
        Scored(item.id, [next(logits) for _ in own], tokens=sum(map(len, own)))
        if fits
        else Scored(item.id, None, TOO_LONG)
        for item, own, fits in zip(items, texts, fitting, strict=True)
    ]


def _logits(
    name: str, model: Any, pad: int, texts: Sequence[tuple[int, ...]], micro_tokens: int
) -> list[float]:
    """The model's own logit of each text, right-padded batches with their attention mask."""
    found = [0.0] * len(texts)
    with Progress(name, len(texts), unit="responses") as bar:
        for batch in by_tokens([len(text) for text in texts], micro_tokens, "stock"):
            width = max(len(texts[i]) for i in batch)
            rows = [[*texts[i], *[pad] * (width - len(texts[i]))] for i in batch]
            mask = [[1] * len(texts[i]) + [0] * (width - len(texts[i])) for i in batch]
            given = {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
            with torch.no_grad():
                logits = model(**{key: value.to(model.device) for key, value in given.items()})
            for i, value in zip(batch, logits.logits[:, 0].float().tolist(), strict=True):
                found[i] = value
            bar.add(len(batch))
    return found
