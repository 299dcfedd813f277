"""Training's log-probs held to the model's own: equal on a few tokens, or the model is refused.

Training runs the decoder and makes logits from its states itself (:mod:`spct.training.head`). What
a family does beyond that would change every number in silence, so each model is compared with its
own forward pass once, when it is loaded. :mod:`spct.sampling.held` does so for the sampler.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spct.errors import ConfigError
from spct.training import head, plain
from spct.training.groups import Group

# Difference that rounding alone explains, relative to how far logits lie from their mean; to it
# comes a unit in the last place of the logits, which may all lie far from zero.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
ROUGH_TOLERANCE = 0.1  # bfloat16, float16: of passes in batches of other shapes
ROUGH_HEAD = 0.02  # the same of the head alone, on the same states
# In half precision rounding can send a token to another expert: so few rows may lie further off.
STRAYS, FAR = 0.25, 0.5

_verdicts: weakref.WeakKeyDictionary[nn.Module, str | None] = weakref.WeakKeyDictionary()


def check(model: nn.Module, name: str, longest: int = 0) -> None:
    """Raise ``ConfigError`` unless training sees the logits of the model's own forward pass.

    ``name`` is the model's for the message, ``longest`` the tokens of the longest text to train on.
    Looks at each model once; before it is sharded.
    """
    limit = stretches(model)
    if limit is not None and longest > limit:
        raise ConfigError(
            f"model.source: the positions of {name} (longrope) change for a whole batch once one "
            f"text has over {limit} tokens, and one has {longest}; lower sampler.max_prompt_tokens "
            "or sampler.max_new_tokens"
        )
    if (reason := once(_verdicts, model, lambda: verify(model))) is not None:
        raise ConfigError(
            f"model.source: {name} cannot be trained: the log-probs that training computes for a "
            f"{type(model).__name__} are not its own ({reason}); name a model of another family"
        )


def stretches(model: nn.Module) -> int | None:
    """Tokens of the longest text beyond which Phi's ``longrope`` turns to other positions."""
    shape = model.config.get_text_config()  # type: ignore[operator, union-attr]
    rope = getattr(shape, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    known = rope.get("original_max_position_embeddings")
    limit = known or getattr(shape, "original_max_position_embeddings", None)
    return None if limit is None else int(limit)


def once(
    verdicts: weakref.WeakKeyDictionary[nn.Module, str | None],
    model: nn.Module,
    look: Callable[[], str | None],
) -> str | None:
    """The verdict on a model: what ``look`` finds against it, asked at the first call alone."""
    if model not in verdicts:
        verdicts[model] = look()
    return verdicts[model]


def verify(model: nn.Module) -> str | None:
    """How the plain pass differs from ``model(…).logits`` of each text alone, or None.

    Eval mode, no gradients; leaves the random state alone.
    """
    with looking(model):
        try:
            return verify_head(model) or differs(*_measure(model))
        except Exception as error:  # an unknown family may fail in any way
            return f"{type(error).__name__}: {error}"


def verify_head(model: nn.Module) -> str | None:
    """How logits from the decoder's states of one text differ from the model's own, or None."""
    text = tokens(model, 24)
    ids = torch.tensor([text], device=_place(model))
    decoder = model.get_decoder()  # type: ignore[operator]
    states: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state[0]
    return differs(logits(model, text), head.logits(model, states), ROUGH_HEAD)


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _measure(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Logits [N, V] at the completion tokens of two uneven groups: the model's own, and ours."""
    text = tokens(model, 24)
    groups = [
        Group(text[:6], (text[6:11], text[11:12])),
        Group(text[12:15], (text[15:18], text[18:24])),
    ]
    own = [
        logits(model, group.prompt + completion)[len(group.prompt) - 1 : -1]
        for group in groups
        for completion in group.completions
    ]
    return torch.cat(own), head.logits(model, plain.completion_states(model, groups))


def tokens(model: nn.Module, count: int) -> tuple[int, ...]:
    """Tokens spread over the vocabulary, without those that the configuration names as special."""
    config = model.config
    text = config.get_text_config()  # type: ignore[operator, union-attr]
    named = {
        value
        for values in (vars(config), vars(text))
        for key, value in values.items()
        if key.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    size = int(text.vocab_size)
    usual = [token for token in range(size) if token not in named] or list(range(size))
    return tuple(usual[(7 + 13 * i) % len(usual)] for i in range(count))


def logits(model: nn.Module, ids: tuple[int, ...]) -> Tensor:
    """The model's own logits [T, V] of one text alone."""
    given = torch.tensor([ids], device=_place(model))
    found: Tensor = model(input_ids=given, use_cache=False).logits[0]
    return found


def _place(model: nn.Module) -> torch.device:
    place: torch.device = model.get_input_embeddings().weight.device  # type: ignore[operator]
    return place


def differs(own: Tensor, ours: Tensor, rough: float = ROUGH_TOLERANCE) -> str | None:
    """How logits [N, V] differ beyond rounding, a constant a row aside; None if they do not.

    ``rough`` is the tolerance for dtypes of half precision.
    """
    limit = TOLERANCE.get(own.dtype, rough)
    place = torch.finfo(own.dtype).eps * own.double().norm(dim=-1)
    one, other = (part.double() - part.double().mean(-1, keepdim=True) for part in (own, ours))
    gap = (one - other).norm(dim=-1)
    close, near = (gap <= share * one.norm(dim=-1) + place for share in (limit, FAR))
    strays = 0.0 if own.dtype in TOLERANCE else STRAYS
    if bool(near.all()) and float(close.double().mean()) >= 1 - strays:
        return None
    worst = float((one.log_softmax(-1) - other.log_softmax(-1)).abs().max())
    return f"they differ by up to {worst:.2g} nats"
