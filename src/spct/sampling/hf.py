"""The reference sampler: ``transformers`` generate, our seeded choice as a logits processor."""

from __future__ import annotations

from collections.abc import Sequence

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
        self.lm, self.config = lm, config
        self.stops = Stops(lm, config)
        self.device = next(lm.model.parameters()).device

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        size, model = self.config.batch_size, self.lm.model
        starts = range(0, len(requests), size)
        own = model.generation_config  # may hold a repetition penalty and the like
        model.generation_config = GenerationConfig()
        try:
            return [c for start in starts for c in self._batch(requests[start : start + size])]
        finally:
            model.generation_config = own

    def _batch(self, requests: Sequence[Request]) -> list[Completion]:
        width = max(len(request.prompt) for request in requests)
        ids = torch.full((len(requests), width), self.lm.pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[row, width - len(request.prompt) :] = 1
        choice = _SeededChoice(requests, self.config, self.device)
        output = self.lm.model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            max_new_tokens=self.config.max_new_tokens,
            do_sample=False,
            pad_token_id=self.lm.pad,
            eos_token_id=sorted(self.stops.tokens) or None,
            logits_processor=LogitsProcessorList([choice]),
            stopping_criteria=StoppingCriteriaList(
                [_AtStopString(self.stops, width)] if self.stops.strings else []
            ),
        )
        made, logprobs = output[:, width:].tolist(), torch.stack(choice.logprobs, 1).tolist()
        return [self.stops.completion(*row) for row in zip(made, logprobs, strict=True)]
