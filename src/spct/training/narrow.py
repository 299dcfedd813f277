"""The last layer of a shared pass, without the prompt tokens whose states nobody reads.

Of a prompt the states beyond the last layer are read at its last token alone; attention leaves the
others out by itself (:mod:`spct.training.attention`), here the feed-forward block does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from spct.training.layout import Layout


@contextmanager
def last_layer(decoder: nn.Module, layout: Layout) -> Iterator[None]:
    """Inside, the last layer's ``mlp`` sees only the tokens that are read; others add zero.

    Does nothing for a decoder that calls it otherwise, and none under activation checkpointing:
    the second forward pass runs after the context and must do what the first did.
    """
    layer = list(getattr(decoder, "layers", [None]))[-1]
    block = getattr(layer, "mlp", None)
    twice = any(getattr(module, "gradient_checkpointing", False) for module in (decoder, layer))
    if block is None or twice:
        yield
        return
    rows = layout.read

    def narrowed(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = args
        return (hidden.index_select(1, rows),)

    def widened(module: nn.Module, args: Any, out: Any) -> Tensor:
        if not isinstance(out, Tensor):
            raise NotImplementedError(f"{type(module).__name__} gives a {type(out).__name__}")
        room = out.new_zeros(out.shape[0], layout.ids.shape[1], *out.shape[2:])
        return room.index_copy(1, rows, out)

    hooks = [block.register_forward_pre_hook(narrowed), block.register_forward_hook(widened)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
