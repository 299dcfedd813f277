"""A reward model that somebody else has trained: any one-label ``…ForSequenceClassification``.

What TRL's RewardTrainer writes, a folder or a hub id. It is read as its own ``forward`` pools it,
decoder or encoder, on the conversation through its own chat template.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from spct.training import held
from spct.training.batching import by_tokens
from spct.training.precision import DTYPES
from spct.training.world import ALONE, World

_verdicts: weakref.WeakKeyDictionary[nn.Module, str | None] = weakref.WeakKeyDictionary()


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
        **lm.attention(source, config),
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
    text.conversation([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
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
    """The logit of each text as the model's own ``forward`` gives it for that text alone.

    In right-padded batches where padding is known to change nothing. ``pad`` fills them up if the
    model names no token for that and no text holds it.
    """
    found = [0.0] * len(texts)
    reason = held.once(_verdicts, model, lambda: verify(model, pad))
    if reason is not None:
        print(f"{name}: one response at a time: {reason}", file=sys.stderr)
    with Progress(name, len(texts), unit="responses") as bar:
        for batch in by_tokens([len(text) for text in texts], micro_tokens, "stock"):
            values = _values(model, pad, [texts[i] for i in batch], padded=reason is None)
            for i, value in zip(batch, values, strict=True):
                found[i] = value
            bar.add(len(batch))
    return found


def verify(model: Any, pad: int) -> str | None:
    """How padding changes what the model reads, or None: a few texts in a batch and each alone."""
    tokens = held.tokens(model, 16)
    texts = [tokens[:5], tokens[5:8], tokens[8:]]
    for end in (pad, model.config.get_text_config().eos_token_id):
        texts += [(*tokens[3:7], end)] if isinstance(end, int) else []
    try:
        batch, alone = (
            torch.tensor(_values(model, pad, texts, padded=padded)) for padded in (True, False)
        )
    except Exception as error:  # some families refuse batches of unequal texts
        return f"{type(error).__name__}: {error}"
    limit = held.TOLERANCE.get(model.dtype, held.ROUGH_TOLERANCE)
    gap = float((batch - alone).abs().max() / alone.abs().max().clamp(min=1e-12))
    return None if gap <= limit else f"in a batch its values differ by up to {gap:.1e} of them"


def _values(model: Any, pad: int, texts: Sequence[tuple[int, ...]], *, padded: bool) -> list[float]:
    """The logits of texts, in one batch if ``padded`` and there is a token to fill it up with."""
    filler = _filler(model, pad, texts) if padded and len(texts) > 1 else None
    if filler is None:
        return [value for text in texts for value in _forward(model, [text], [[1] * len(text)])]
    width = max(map(len, texts))
    rows = [[*text, *[filler] * (width - len(text))] for text in texts]
    mask = [[1] * len(text) + [0] * (width - len(text)) for text in texts]
    with _padding_with(model, filler):
        return _forward(model, rows, mask)


def _filler(model: Any, pad: int, texts: Sequence[tuple[int, ...]]) -> int | None:
    """A token to fill a batch up with that leaves the place where each text is read; None if none.

    A decoder is read at the last token that is not its configuration's padding, and at the very
    last if that names none. So it is the configuration's own, or else one that no text holds.
    """
    config = model.config.get_text_config()
    own, size = config.pad_token_id, model.get_input_embeddings().weight.shape[0]
    if own is not None and 0 <= own < size:
        return int(own)
    used = {token for text in texts for token in text}
    return next((token for token in (pad, *range(size)) if token not in used), None)


@contextmanager
def _padding_with(model: Any, filler: int) -> Iterator[None]:
    """Inside, the configuration names ``filler`` as the padding; outside what it did before."""
    configs = [model.config, model.config.get_text_config()]
    before = [config.pad_token_id for config in configs]
    for config in configs:
        config.pad_token_id = filler
    try:
        yield
    finally:
        for config, token in zip(configs, before, strict=True):
            config.pad_token_id = token


def _forward(model: Any, rows: Sequence[Sequence[int]], mask: list[list[int]]) -> list[float]:
    given = {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
    with torch.no_grad():
        logits = model(**{key: value.to(model.device) for key, value in given.items()}).logits
    values: list[float] = logits[:, 0].float().tolist()
    return values
