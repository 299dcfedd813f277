"""Keys and values of prompts, in blocks: a head that prompts have in common is computed once.

A prompt is cut at every ``BLOCK`` tokens and its rest padded to a multiple of ``TAIL``; a block is
computed over the keys of the blocks before it, always the same number of tokens at a time. So the
split and all shapes are functions of the prompt and of the configuration, never of the other
prompts, and what is shared has the bits it would have alone.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from spct.lm import LM
from spct.sampling import masks

BLOCK = 128  # tokens in a block that prompts can share
TAIL = 32  # the last, shorter block is padded to a multiple of it

Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Keys and values of tokens from position ``start`` on: for each layer a pair [H, T, D]."""

    start: int
    layers: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Cut:
    """A block of a prompt yet to compute. ``name`` is a digest of all tokens up to its end."""

    name: bytes
    start: int
    tokens: Prompt

    @property
    def width(self) -> int:
        return -(-len(self.tokens) // TAIL) * TAIL


def cuts(prompt: Prompt) -> list[_Cut]:
    """The blocks of a prompt but for its last token, which the first decoding step feeds."""
    result: list[_Cut] = []
    name = b""
    for start in range(0, len(prompt) - 1, BLOCK):
        tokens = prompt[start : min(start + BLOCK, len(prompt) - 1)]
        name = hashlib.blake2b(name + array("q", tokens).tobytes(), digest_size=16).digest()
        result.append(_Cut(name, start, tokens))
    return result


class _Past(CacheLayerMixin):
    """The keys and values before a block [B, H, T, D], and those of the block once computed."""

    is_sliding = False

    def __init__(self, past: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.past = past

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.keys, self.values = key_states, value_states
        if self.past is None:
            return key_states, value_states
        keys, values = self.past
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self) -> int:
        return 0 if self.past is None else self.past[0].shape[2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class Prefixes:
    """The blocks of a list of prompts, computed when they are near and dropped when done with.

    ``prompts`` has one for every request, neighbours in the order in which :meth:`take` will
    probably ask for them; ``at_once`` blocks are computed together, or more of the shorter ones.
    """

    def __init__(self, lm: LM, at_once: int, prompts: Sequence[Prompt]) -> None:
        self.lm, self.at_once = lm, max(1, at_once)
        self.device = next(lm.model.parameters()).device
        self.asked = Counter(prompts)
        self.order = list(self.asked)
        self.place = {prompt: place for place, prompt in enumerate(self.order)}
        self.chains = [cuts(prompt) for prompt in self.order]
        self.users = Counter(cut.name for chain in self.chains for cut in chain)
        self.blocks: dict[bytes, Block] = {}

    def take(self, prompt: Prompt) -> list[Block]:
        """The blocks under one request."""
        place = self.place[prompt]
        chain = self.chains[place]
        if any(cut.name not in self.blocks for cut in chain):
            near = range(place, min(place + self._rows(TAIL), len(self.order)))
            self._compute([self.chains[other] for other in near if self.asked[self.order[other]]])
        result = [self.blocks[cut.name] for cut in chain]
        self.asked[prompt] -= 1
        if not self.asked[prompt]:
            self._drop(chain)
        return result

    def _rows(self, width: int) -> int:
        return self.at_once * (BLOCK // width)

    def _drop(self, chain: list[_Cut]) -> None:
        for cut in chain:
            self.users[cut.name] -= 1
            if not self.users[cut.name]:
                del self.blocks[cut.name]

    def _compute(self, chains: list[list[_Cut]]) -> None:
        """Level by level, for a block needs those before it."""
        for depth in range(max(map(len, chains))):
            waiting: dict[int, dict[bytes, list[_Cut]]] = {}
            for chain in chains:
                if len(chain) > depth and chain[depth].name not in self.blocks:
                    same = waiting.setdefault(chain[depth].width, {})
                    same[chain[depth].name] = chain[: depth + 1]
            for width, same in waiting.items():
                level, rows = list(same.values()), self._rows(width)
                for first in range(0, len(level), rows):
                    self._level(level[first : first + rows], width)

    def _level(self, chains: list[list[_Cut]], width: int) -> None:
        """The last block of each of a few chains of one length."""
        # Empty rows keep the shape, and so the bits; off the CPU there are no bits to keep.
        rows = self._rows(width) if self.device.type == "cpu" else len(chains)
        start = chains[0][-1].start
        ids = torch.full((rows, width), self.lm.pad, dtype=torch.long)
        positions = torch.arange(start, start + width).repeat(rows, 1)
        for row, chain in enumerate(chains):
            tokens = chain[-1].tokens
            ids[row, : len(tokens)] = torch.tensor(tokens)
            positions[row].clamp_(max=start + len(tokens) - 1)  # a position table may end there
        positions = positions.to(self.device)
        layers = [_Past(past) for past in self._past(chains, rows)]
        self.lm.model.get_decoder()(
            input_ids=ids.to(self.device),
            position_ids=positions,
            attention_mask=masks.additive(self.lm.model, positions, start + width),
            past_key_values=Cache(layers=layers),
            use_cache=True,
        )
        for row, chain in enumerate(chains):
            count = len(chain[-1].tokens)
            pairs = [
                (layer.keys[row, :, :count].clone(), layer.values[row, :, :count].clone())
                for layer in layers
            ]
            self.blocks[chain[-1].name] = Block(start, pairs)

    def _past(self, chains: list[list[_Cut]], rows: int) -> list[tuple[Tensor, Tensor] | None]:
        """For each layer the keys and values under the chains' last blocks, [rows, H, T, D]."""
        count = self.lm.config.get_text_config().num_hidden_layers
        if len(chains[0]) == 1:
            return [None] * count
        before = [[self.blocks[cut.name].layers for cut in chain[:-1]] for chain in chains]
        before += [before[0]] * (rows - len(chains))

        def joined(layer: int, side: int) -> Tensor:
            return torch.stack([torch.cat([b[layer][side] for b in row], 1) for row in before])

        return [(joined(layer, 0), joined(layer, 1)) for layer in range(count)]
