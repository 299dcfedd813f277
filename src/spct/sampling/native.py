"""Our sampler: waves of rows, each distinct prompt prefilled once, a key-value cache in place.

Requests are sorted by prompt and cut into waves of ``batch_size`` rows. A wave prefills its
distinct prompts as one left-padded batch, copies their keys and values to the rows that share them,
and decodes all rows in step, dropping the finished ones whenever half are done. Shapes depend on
the list of requests alone, so the same list gives the same bits; a request's draws depend on its
seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from spct.lm import LM
from spct.sampling.base import Completion, Request, uniforms
from spct.sampling.choose import choose, cut_at_eos
from spct.schema import SamplerConfig
from spct.training.batching import vocabulary_logits


class _Layer(CacheLayerMixin):
    """Keys and values [B, H, T, D] of one layer, allocated once; views of the filled part."""

    is_sliding = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.filled = width, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, dim = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, self.width, dim)
        self.values = value_states.new_zeros(batch, heads, self.width, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.filled + key_states.shape[2]
        self.keys[:, :, self.filled : end] = key_states
        self.values[:, :, self.filled : end] = value_states
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def spread(self, rows: Tensor) -> None:
        """Row ``i`` of the cache becomes a copy of row ``rows[i]``."""
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_cache_shape(self) -> int:
        return self.width

    def get_max_length(self) -> int:
        return self.width


@dataclass
class _Wave:
    """Rows decoded together and the distinct prompts under them."""

    rows: list[int]  # request numbers
    prompts: list[tuple[int, ...]]
    source: list[int]  # row -> prompt


def waves(requests: Sequence[Request], size: int) -> list[_Wave]:
    """Requests by (prompt length, prompt), ``size`` at a time; a pure function of the list."""
    ranked = sorted(
        range(len(requests)), key=lambda i: (len(requests[i].prompt), requests[i].prompt, i)
    )
    result = []
    for start in range(0, len(ranked), size):
        rows = ranked[start : start + size]
        prompts = list(dict.fromkeys(requests[i].prompt for i in rows))
        place = {prompt: number for number, prompt in enumerate(prompts)}
        result.append(_Wave(rows, prompts, [place[requests[i].prompt] for i in rows]))
    return result


class NativeSampler:
    """See the module docstring."""

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        self.lm, self.config = lm, config
        self.device = next(lm.model.parameters()).device

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        done: list[Completion | None] = [None] * len(requests)
        for wave in waves(requests, self.config.batch_size):
            completions = self._wave([requests[i] for i in wave.rows], wave)
            for number, completion in zip(wave.rows, completions, strict=True):
                done[number] = completion
        return [completion for completion in done if completion is not None]

    def _prefill(self, wave: _Wave, cache: Cache, width: int) -> tuple[Tensor, Tensor]:
        """Next-token logits [R, V] and the additive mask of padded places [R, 1, 1, T] per row."""
        count = len(wave.prompts)
        ids = torch.full((count, width), self.lm.pad, dtype=torch.long)
        starts = torch.tensor([width - len(prompt) for prompt in wave.prompts])
        for row, prompt in enumerate(wave.prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        places = torch.arange(width)
        padded = places[None] < starts[:, None]
        causal = places[None, :] > places[:, None]
        hidden = (padded[:, None, :] | causal[None]) & ~torch.eye(width, dtype=torch.bool)[None]
        logits = self._forward(ids, (places[None] - starts[:, None]).clamp(min=0), hidden, cache)
        rows = torch.tensor(wave.source, device=self.device)
        for layer in cache.layers:
            layer.spread(rows)
        return logits[rows], padded[torch.tensor(wave.source)]

    def _forward(self, ids: Tensor, positions: Tensor, hidden: Tensor, cache: Cache) -> Tensor:
        """Logits after the last token, [B, V]. ``hidden`` [B, Q, T]: what a query may not see."""
        model = self.lm.model
        states = model.get_decoder()(
            input_ids=ids.to(self.device),
            position_ids=positions.to(self.device),
            attention_mask=self._masks(hidden),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return vocabulary_logits(model, states[:, -1])

    def _masks(self, hidden: Tensor) -> Tensor | dict[str, Tensor]:
        """Additive mask [B, 1, Q, T]; one per layer type where a model mixes attention windows."""
        config = self.lm.model.config
        window = getattr(config, "sliding_window", None)
        if window is None:
            return self._additive(hidden)
        queries, places = hidden.shape[1:]
        near = torch.ones(queries, places, dtype=torch.bool).triu(places - queries - window + 1)
        sliding = self._additive(hidden | ~near)
        if getattr(config, "layer_types", None) is None:
            return sliding
        return {"full_attention": self._additive(hidden), "sliding_attention": sliding}

    def _additive(self, hidden: Tensor) -> Tensor:
        dtype = self.lm.model.dtype
        mask = torch.zeros(hidden.shape, dtype=dtype)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min)[:, None].to(self.device)

    def _wave(self, requests: list[Request], wave: _Wave) -> list[Completion]:
        limit = self.config.max_new_tokens
        width = max(map(len, wave.prompts))
        layers = self.lm.model.config.num_hidden_layers
        cache = Cache(layers=[_Layer(width + limit) for _ in range(layers)])
        logits, padded = self._prefill(wave, cache, width)
        rows = _Rows.start(requests, padded, limit, self.device)
        tokens = torch.full((len(requests), limit), self.lm.eos, device=self.device)
        logprobs = torch.zeros(len(requests), limit, device=self.device)
        for step in range(limit):
            token, logprob = choose(
                logits, rows.temperature, rows.draws[:, step], self.config.top_p
            )
            tokens[rows.number, step] = token
            logprobs[rows.number, step] = logprob
            rows.alive &= token != self.lm.eos
            alive = int(rows.alive.sum())
            if alive == 0 or step + 1 == limit:
                break
            if 2 * alive <= len(token):
                keep = rows.alive.nonzero().squeeze(1)
                rows, token = rows.take(keep), token[keep]
                for layer in cache.layers:
                    layer.spread(keep)
            seen = torch.zeros(len(token), step + 1, dtype=torch.bool)
            hidden = torch.cat([rows.padded, seen], dim=1)[:, None]
            logits = self._forward(token[:, None], (rows.lengths + step)[:, None], hidden, cache)
        return cut_at_eos(tokens, logprobs, self.lm.eos)


@dataclass
class _Rows:
    """The rows of a wave still decoded; finished ones leave when half of them are done."""

    number: Tensor  # [R] place in the wave
    alive: Tensor  # [R] bool
    temperature: Tensor  # [R]
    draws: Tensor  # [R, limit] uniform
    padded: Tensor  # [R, width] bool, places before the prompt
    lengths: Tensor  # [R] prompt tokens

    @classmethod
    def start(
        cls, requests: Sequence[Request], padded: Tensor, limit: int, device: torch.device
    ) -> _Rows:
        draws = torch.from_numpy(np.stack([uniforms(r.seed, limit) for r in requests]))
        return cls(
            number=torch.arange(len(requests), device=device),
            alive=torch.ones(len(requests), dtype=torch.bool, device=device),
            temperature=torch.tensor([r.temperature for r in requests], device=device),
            draws=draws.to(device),
            padded=padded,
            lengths=torch.tensor([len(r.prompt) for r in requests]),
        )

    def take(self, keep: Tensor) -> _Rows:
        here = keep.cpu()
        return _Rows(
            self.number[keep],
            self.alive[keep],
            self.temperature[keep],
            self.draws[keep],
            self.padded[here],
            self.lengths[here],
        )
