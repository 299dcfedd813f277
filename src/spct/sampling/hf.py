"""The reference sampler: ``transformers`` generate, our seeded choice as a logits processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from spct.lm import LM
from spct.sampling import held
from spct.sampling.base import Completion, Request, uniforms
from spct.sampling.choose import choose
from spct.sampling.stops import Stops
from spct.schema import SamplerConfig


class _SeededChoice(LogitsProcessor):
    """Chooses each row's token from its own draws and leaves generate no other."""

    def __init__(
        self, requests: Sequence[Request], config: SamplerConfig, device: torch.device
    ) -> None:
        limit = config.max_new_tokens
        draws = np.stack([uniforms(request.seed, limit) for request in requests])
        self.draws = torch.from_numpy(draws).to(device)
        self.temperature = torch.tensor([r.temperature for r in requests])
        self.top_p = config.top_p
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        draws = self.draws[:, len(self.logprobs)]
        tokens, logprobs = choose(scores, self.temperature, draws, self.top_p)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, float("-inf")).scatter(1, tokens[:, None], 0.0)


class _Dictated(LogitsProcessor):
    """Takes the tokens it was given and keeps the logits [B, V] of every step."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.texts = texts
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.logits)
        self.logits.append(scores.clone())
        given = torch.tensor([[text[step]] for text in self.texts], device=scores.device)
        return torch.full_like(scores, float("-inf")).scatter(1, given, 0.0)


class _AtStopString(StoppingCriteria):
    """Ends each row whose text, from ``start`` on, holds a stop string."""

    def __init__(self, stops: Stops, start: int) -> None:
        self.stops, self.start = stops, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        rows = input_ids[:, self.start :].tolist()
        return torch.tensor([self.stops.written(ids) for ids in rows], device=input_ids.device)


class HFSampler:
    """Batches of ``batch_size`` requests in the order asked, left-padded."""

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        """Raises ``ConfigError`` for a model whose own logits it would not sample from."""
        self.lm, self.config = lm, config
        self.stops = Stops(lm, config)
        self.device = next(lm.model.parameters()).device
        held.check(lm, replace(config, engine="hf"), self._teacher)

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        size = self.config.batch_size
        starts = range(0, len(requests), size)
        return [c for start in starts for c in self._batch(requests[start : start + size])]

    def _batch(self, requests: Sequence[Request]) -> list[Completion]:
        choice = _SeededChoice(requests, self.config, self.device)
        prompts = [request.prompt for request in requests]
        tokens = sorted(self.stops.tokens) or None
        strings = [_AtStopString(self.stops, max(map(len, prompts)))] if self.stops.strings else []
        output = self._generate(prompts, choice, self.config.max_new_tokens, tokens, strings)
        logprobs = torch.stack(choice.logprobs, 1).tolist()
        return [self.stops.completion(*row) for row in zip(output.tolist(), logprobs, strict=True)]

    def _generate(
        self,
        prompts: Sequence[tuple[int, ...]],
        choice: LogitsProcessor,
        limit: int,
        ends: list[int] | None = None,
        stops: Sequence[StoppingCriteria] = (),
    ) -> Tensor:
        """The tokens [B, T] that ``choice`` takes after each prompt, ``limit`` of them or fewer."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.lm.pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        model = self.lm.model
        own = model.generation_config  # may hold a repetition penalty and the like
        model.generation_config = GenerationConfig()
        try:
            output: Tensor = model.generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=limit,
                do_sample=False,
                pad_token_id=self.lm.pad,
                eos_token_id=ends,
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList(stops),
            )
        finally:
            model.generation_config = own
        return output[:, width:]

    def _teacher(self, text: Sequence[int], lengths: Sequence[int], steps: int) -> Tensor:
        """See :data:`spct.sampling.held.Decode`."""
        size, found = self.config.batch_size, []
        for start in range(0, len(lengths), size):
            some = lengths[start : start + size]
            choice = _Dictated([text[length : length + steps] for length in some])
            self._generate([tuple(text[:length]) for length in some], choice, steps)
            found.append(torch.stack(choice.logits, dim=1).flatten(0, 1))
        return torch.cat(found)
