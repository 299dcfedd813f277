"""The sampler interface: token ids in, token ids out, every request with a seed of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spct.lm import LM
from spct.schema import SamplerConfig


@dataclass(frozen=True)
class Request:
    """One completion wanted. ``temperature`` 0 is greedy; ``seed`` alone fixes the draws."""

    prompt: tuple[int, ...]
    seed: int
    temperature: float


@dataclass(frozen=True)
class Completion:
    """What came back: tokens without the end-of-sequence token, and why it stopped.

    ``logprobs`` are of the distribution sampled from (temperature applied; 1 for greedy), one per
    token, the final end-of-sequence token included. ``finish`` is ``stop`` or ``length``.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str

    @property
    def logprob(self) -> float:
        return float(np.sum(self.logprobs))


class Sampler(Protocol):
    """Completions for requests, in the order asked."""

    def sample(self, requests: Sequence[Request]) -> list[Completion]: ...


def uniforms(seed: int, count: int) -> np.ndarray:
    """The ``count`` uniform draws of one request, [count] float64: all its randomness."""
    return np.random.Generator(np.random.PCG64(seed)).random(count)


def build(lm: LM, config: SamplerConfig) -> Sampler:
    """The sampler named by ``sampler.engine``. Raises ``ValueError`` naming the known ones."""
    from spct.sampling.hf import HFSampler
    from spct.sampling.native import NativeSampler

    engines: dict[str, Callable[[LM, SamplerConfig], Sampler]] = {
        "native": NativeSampler,
        "hf": HFSampler,
    }
    if config.engine not in engines:
        raise ValueError(f"sampler.engine is {config.engine!r}; known: {', '.join(engines)}")
    return engines[config.engine](lm, config)
