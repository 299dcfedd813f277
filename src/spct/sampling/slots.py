"""Decoding slots: a fixed number of rows stepped together, each refilled as soon as it is free.

A row's keys lie at its own positions 0, 1, …, over ``width`` keys, and a row that has outgrown its
slot goes on in a wider one, so the width is a function of its position. The number of slots is
``batch_size`` or, on a CPU with less to do, a half, a quarter, … of it. A row's bits depend on its
request alone, as far as kernels treat each of at least :data:`FEWEST` rows alike: measured for
torch on CPUs (from 7 rows on a matrix product's rows do not depend on their number; a single row
does), and what the native sampler's tests watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from spct.lm import LM
from spct.sampling import masks
from spct.sampling.base import Completion, Request
from spct.sampling.choose import choose
from spct.sampling.forced import ForcedScores
from spct.sampling.graphs import Graphed
from spct.sampling.prefix import Block
from spct.sampling.stops import Stops
from spct.schema import SamplerConfig
from spct.training import head

GRAIN = 64  # the least step between widths
FEWEST = 32  # slots, where batch_size allows
# A view of fewer keys (the rest is masked) costs less, but matrix kernels cut sums of another
# length otherwise and so change bits. Off the CPU there are none to keep; one graph for each view.
VIEW = 256


def width(tokens: int) -> int:
    """Keys in the slot of a row with so many tokens: four widths to a doubling."""
    step = max(GRAIN, 1 << max(0, (tokens - 1).bit_length() - 3))
    return -(-tokens // step) * step


def slots_for(load: int, batch_size: int) -> int:
    """Slots for so many rows: halves of ``batch_size`` as far as they hold them, and enough."""
    count = batch_size
    while count % 2 == 0 and count // 2 >= max(load, FEWEST):
        count //= 2
    return count


@dataclass
class Row:
    """A request on its way: the keys and values of all its tokens but the last, and what it made.

    ``draws`` [max_new_tokens] are all its randomness.
    """

    number: int
    request: Request
    draws: np.ndarray
    blocks: list[Block]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.request.prompt) + len(self.tokens)

    @property
    def last(self) -> int:
        return self.tokens[-1] if self.tokens else self.request.prompt[-1]


class _Layer(CacheLayerMixin):
    """Keys and values [B, H, width, D] of one layer, allocated once and written in place.

    ``positions`` [B] is where each row writes next; ``view`` how many keys are looked at.
    """

    is_sliding = False

    def __init__(self, width: int, positions: Tensor) -> None:
        super().__init__()
        self.width = self.view = width
        self.positions, self.rows = positions, torch.arange(len(positions), device=positions.device)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Buffers for states [..., H, T, D]."""

        def buffer(states: Tensor) -> Tensor:
            return states.new_zeros(len(self.rows), states.shape[-3], self.width, states.shape[-1])

        self.keys, self.values = buffer(key_states), buffer(value_states)
        self.is_initialized = True

    def put(self, rows: Tensor, start: int, keys: Tensor, values: Tensor) -> None:
        """Write a block's keys and values [H, T, D] into each of some rows."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[rows, :, start : start + keys.shape[1]] = keys
        self.values[rows, :, start : start + keys.shape[1]] = values

    def take(self, other: _Layer, rows: Tensor) -> None:
        """Write what another layer of this width holds of some rows into the first rows."""
        if other.is_initialized:
            self.lazy_initialization(other.keys[:1], other.values[:1])
            self.keys[: len(rows)], self.values[: len(rows)] = other.keys[rows], other.values[rows]

    def get(self, row: int, end: int) -> tuple[Tensor, Tensor]:
        """A copy of a row's keys and values [H, end, D]."""
        return self.keys[row, :, :end].clone(), self.values[row, :, :end].clone()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys[self.rows, :, self.positions] = key_states[:, :, 0]
        self.values[self.rows, :, self.positions] = value_states[:, :, 0]
        return self.keys[:, :, : self.view], self.values[:, :, : self.view]

    def get_seq_length(self) -> int:
        return self.view - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.view, 0

    def get_max_length(self) -> int:
        return self.width


class Slots:
    """``count`` slots of ``width`` keys each."""

    def __init__(self, lm: LM, config: SamplerConfig, width: int, count: int) -> None:
        self.lm, self.config, self.width = lm, config, width
        self.stops = Stops(lm, config)
        self.device = next(lm.model.parameters()).device
        limit = config.max_new_tokens
        self.ids = torch.full((count, 1), lm.pad, device=self.device)
        self.positions = torch.zeros(count, dtype=torch.long, device=self.device)
        layers = range(lm.config.get_text_config().num_hidden_layers)
        self.layers = [_Layer(width, self.positions) for _ in layers]
        self.cache = Cache(layers=self.layers)
        self.forward = Graphed(self._forward) if self.device.type == "cuda" else self._forward
        # What the host knows of each slot; a free one feeds a padding token at position 0.
        self.rows: list[Row | None] = [None] * count
        self.busy = np.zeros(count, bool)
        self.wanted: dict[int, tuple[int, int, int]] = {}
        self.forced: ForcedScores | None = None
        self.position = np.zeros(count, np.int64)
        self.made = np.zeros(count, np.int64)
        self.last = np.full(count, lm.pad)
        self.temperature = np.ones(count, np.float32)
        self.draws = np.zeros((count, limit))
        self.tokens = np.zeros((count, limit), np.int64)
        self.logprobs = np.zeros((count, limit), np.float32)

    @property
    def free(self) -> int:
        return len(self.rows) - int(self.busy.sum())

    def resized(self, count: int) -> Slots:
        """The same rows in another number of slots, at least as many as there are rows."""
        other = Slots(self.lm, self.config, self.width, count)
        here = np.flatnonzero(self.busy)
        for to, slot in enumerate(here.tolist()):
            other.rows[to] = self.rows[slot]
            if slot in self.wanted:
                other.wanted[to] = self.wanted[slot]
        for name in ("busy", "position", "made", "last", "temperature", "draws", "tokens"):
            getattr(other, name)[: len(here)] = getattr(self, name)[here]
        other.logprobs[: len(here)] = self.logprobs[here]
        rows = torch.from_numpy(here).to(self.device)
        for layer, old in zip(other.layers, self.layers, strict=True):
            layer.take(old, rows)
        return other

    def seat(self, rows: Sequence[Row]) -> None:
        """Go on with rows, at most as many as there are free slots."""
        slots = np.flatnonzero(~self.busy)[: len(rows)]
        under: dict[int, tuple[Block, list[int]]] = {}
        for slot, row in zip(slots.tolist(), rows, strict=True):
            self._enter(slot, row)
            for block in row.blocks:
                under.setdefault(id(block), (block, []))[1].append(slot)
        for block, users in under.values():
            index = torch.tensor(users, device=self.device)
            for layer, (keys, values) in zip(self.layers, block.layers, strict=True):
                layer.put(index, block.start, keys, values)

    def _enter(self, slot: int, row: Row) -> None:
        made = len(row.tokens)
        self.rows[slot], self.busy[slot] = row, True
        self.position[slot], self.made[slot], self.last[slot] = row.length - 1, made, row.last
        self.temperature[slot] = row.request.temperature
        if row.request.scores is not None:
            self.wanted[slot] = row.request.scores
        self.draws[slot] = row.draws
        self.tokens[slot, :made], self.logprobs[slot, :made] = row.tokens, row.logprobs

    def step(self) -> tuple[dict[int, Completion], list[Row]]:
        """One more token for every row. Those that are done, by request, and those that outgrew."""
        every = np.arange(len(self.rows))
        chosen, logprobs = choose(
            self._forced(self.logits()),
            torch.from_numpy(self.temperature),
            torch.from_numpy(self.draws[every, self.made]).to(self.device),
            self.config.top_p,
        )
        self.last = chosen.cpu().numpy()
        self.tokens[every, self.made] = self.last
        self.logprobs[every, self.made] = logprobs.cpu().numpy()
        self.made += self.busy
        self.position += self.busy
        done = self._ended() | (self.made == self.config.max_new_tokens)
        outgrown = np.flatnonzero(self.busy & ~done & (self.position == self.width))
        return (
            dict(self._finish(int(slot)) for slot in np.flatnonzero(self.busy & done)),
            [self._outgrow(int(slot)) for slot in outgrown],
        )

    def logits(self) -> Tensor:
        """Logits [B, V] of what follows each row's last token, whose keys and values it writes."""
        self.ids.copy_(torch.from_numpy(self.last)[:, None])
        self.positions.copy_(torch.from_numpy(self.position))
        return self.forward(self._view())

    def _ended(self) -> np.ndarray:
        """For each slot whether its last token ends the text."""
        ended = np.isin(self.last, list(self.stops.tokens))
        for slot in np.flatnonzero(self.busy) if self.stops.strings else ():
            ended[slot] |= self.stops.written(self.tokens[slot, : self.made[slot]].tolist())
        return ended

    def _forced(self, logits: Tensor) -> Tensor:
        """Logits with the rows masked that must write nothing but their scores now."""
        for slot, wanted in self.wanted.items():
            made = self.tokens[slot, : self.made[slot]].tolist()
            self.forced = self.forced or ForcedScores(self.lm)
            if allowed := self.forced.allowed(made, wanted):
                self.forced.mask(logits, slot, allowed)
        return logits

    def _view(self) -> int:
        if self.device.type == "cpu":
            return self.width
        return min(self.width, -(-int(self.position.max() + 1) // VIEW) * VIEW)

    def _forward(self, view: int) -> Tensor:
        """Next-token logits [B, V] of every row over the first ``view`` keys."""
        for layer in self.layers:
            layer.view = view
        model, positions = self.lm.model, self.positions[:, None]
        states = model.get_decoder()(
            input_ids=self.ids,
            position_ids=positions,
            attention_mask=masks.additive(model, positions, view),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return head.logits(model, states[:, -1])

    def _finish(self, slot: int) -> tuple[int, Completion]:
        row = self._leave(slot)
        return row.number, self.stops.completion(row.tokens, row.logprobs)

    def _outgrow(self, slot: int) -> Row:
        row = self._leave(slot)
        row.blocks = [Block(0, [layer.get(slot, self.width) for layer in self.layers])]
        return row

    def _leave(self, slot: int) -> Row:
        row, made = self.rows[slot], self.made[slot]
        assert row is not None
        row.tokens = self.tokens[slot, :made].tolist()
        row.logprobs = self.logprobs[slot, :made].tolist()
        self.rows[slot], self.busy[slot] = None, False
        self.wanted.pop(slot, None)
        self.position[slot] = self.made[slot] = 0
        return row
