"""The ``openai`` engine: any OpenAI-compatible endpoint, a hosted model or a vLLM server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import httpx2

from spct import models
from spct.errors import ConfigError
from spct.lm import LM
from spct.sampling.base import Completion, Request
from spct.sampling.endpoint import key_of
from spct.sampling.openai_calls import Caller, Purse
from spct.sampling.patience import of_the_moment
from spct.schema import SamplerConfig


class OpenAISampler:
    """Asks the endpoint for each request by itself, so many at a time as ``concurrency`` says.

    A request that fails for good becomes a completion whose ``finish`` is ``error``; nothing is
    raised. Each carries its seed; whether equal seeds give equal texts is up to the endpoint. So
    are log-probs: most report those at temperature 1, whatever was sampled at. Raises
    ``ConfigError`` for a model that is no ``endpoint:<name>``, for a key that is not there and as
    :func:`spct.sampling.patience.of_the_moment`.
    """

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        served = models.served(lm.source)
        if not served:
            raise ConfigError(
                f"sampler.engine: openai samples a model.source of endpoint:<name>, not {lm.source}"
            )
        self.served = served
        self.config = replace(config, openai=of_the_moment(config.openai))
        self.spent, self.exhausted = 0, False
        self._key = key_of(config.openai)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        return asyncio.run(self._sample(requests))

    async def _sample(self, requests: Sequence[Request]) -> list[Completion]:
        settings = self.config.openai
        purse = Purse(settings.budget, self.spent)
        slots = asyncio.Semaphore(settings.concurrency)
        async with httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx2.Limits(max_connections=settings.concurrency),
            timeout=None,  # each attempt has one deadline for all its phases
        ) as client:
            caller = Caller(client, self.served, self.config, self._key, purse)

            async def one(request: Request) -> Completion:
                async with slots:
                    return await caller.ask(request)

            try:
                return await asyncio.gather(*map(one, requests))
            finally:
                self.spent, self.exhausted = purse.spent, purse.exhausted
