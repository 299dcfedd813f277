"""The sampler interface: prompts in, completions out, every request with a seed of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from spct.errors import ConfigError
from spct.lm import LM
from spct.schema import SamplerConfig


@dataclass(frozen=True)
class Request:
    """One completion wanted. ``temperature`` 0 is greedy; ``seed`` alone fixes the draws.

    ``prompt`` is what a local engine continues; ``text`` the prompt before any chat template, for
    engines that take text (their ``prompt`` may be empty). ``scores`` (how many, least, greatest)
    forces the box to hold just those, once it is open; the native engine alone can.
    """

    prompt: tuple[int, ...]
    seed: int
    temperature: float
    text: str = ""
    scores: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Completion:
    """What came back: the tokens before the end, the ``end`` sampled, if any, and why it stopped.

    ``logprobs`` are of the distribution sampled from (temperature applied; 1 for greedy), one per
    token, the end included. ``finish`` is a :class:`spct.finish.Finish`; where nothing came back
    ``error`` says why. With ``stop_string``, ``ids`` are all tokens sampled, those of the stop
    string too, and ``text`` is what stands before it.

    An engine without token ids leaves ``ids`` empty and gives ``text``, the counts ``tokens`` and
    ``prompt_tokens``, and ``logprobs`` if it knows them. ``version`` is that of the weights, where
    the engine holds a copy of them (:mod:`spct.sampling.refresh`).
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str
    text: str | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    error: str = ""
    version: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "finish", str(self.finish))  # resume states hold plain text alone

    @property
    def sampled(self) -> tuple[int, ...]:
        """Every token sampled, the end included: what a policy gradient learns from."""
        return self.ids if self.end is None else (*self.ids, self.end)

    @property
    def logprob(self) -> float | None:
        """Log-probability of the whole completion in nats; None if the engine does not tell."""
        return float(np.sum(self.logprobs)) if self.logprobs else None

    @property
    def count(self) -> int:
        """Tokens generated, the end included."""
        return len(self.logprobs) if self.tokens is None else self.tokens


def text_of(lm: LM, completion: Completion) -> str:
    """The text, special tokens and all."""
    if completion.text is not None:
        return completion.text
    return str(lm.tokenizer.decode(completion.ids, skip_special_tokens=False))


class Sampler(Protocol):
    """Completions for requests, in the order asked."""

    def sample(self, requests: Sequence[Request]) -> list[Completion]: ...


@runtime_checkable
class Metered(Protocol):
    """A sampler that is paid by the token and may have a budget.

    ``spent`` is what was used so far; set it to go on counting where an earlier process stopped.
    """

    spent: int

    @property
    def exhausted(self) -> bool:
        """Whether a request was held back because the budget would not have allowed it."""
        ...


def uniforms(seed: int, count: int) -> np.ndarray:
    """The ``count`` uniform draws of one request, [count] float64: all its randomness."""
    return np.random.Generator(np.random.PCG64(seed)).random(count)


ENGINES = {
    "native": "spct.sampling.native:NativeSampler",
    "hf": "spct.sampling.hf:HFSampler",
    "vllm": "spct.sampling.vllm:VllmSampler",
    "openai": "spct.sampling.openai:OpenAISampler",
}


def build(lm: LM, config: SamplerConfig) -> Sampler:
    """The sampler named by ``sampler.engine``; its module is imported only here.

    Raises ``ConfigError`` for an unknown engine, for one whose package is missing, for a model
    it cannot sample and for one of which nobody knows where its texts end.
    """
    if config.engine not in ENGINES:
        raise ConfigError(f"sampler.engine is {config.engine!r}; known: {', '.join(ENGINES)}")
    if config.engine != "openai":
        _check_end(lm, config.stop)
    module, name = ENGINES[config.engine].split(":")
    sampler: Sampler = getattr(importlib.import_module(module), name)(lm, config)
    return sampler


def _check_end(lm: LM, stop: Sequence[str]) -> None:
    """Raises ``ConfigError`` if texts of this model would end at the token limit alone."""
    mark = lm.ends.mark
    if mark and not any(one in mark for one in stop):
        raise ConfigError(
            f"sampler.stop: the chat template of {lm.source or 'the model'} closes a turn with "
            f"{mark}, which is no token of its tokenizer, so its texts would run on into the next "
            f"turn; set sampler.stop=['{mark}'], or add the token"
        )
    if not stop:
        _ = lm.end  # raises


# What only says how an endpoint is asked or an engine set up: the same rows are wanted with others.
HOW = {
    "openai": ("key_env", "concurrency", "timeout", "max_retries", "backoff", "max_wait", "budget"),
    "vllm": ("gpu_memory", "kv_cache_gib", "max_batched_tokens", "enforce_eager", "deadline"),
}


def wanted(config: SamplerConfig) -> dict[str, Any]:
    """The settings that say what is sampled; parts of an unfinished shard are good for just these.

    Left out is what a person changes to get a shard done: patience, budget, errors let pass.
    """
    values = asdict(config)
    del values["max_errors"]
    if not config.stop:
        del values["stop"]
    for engine, names in HOW.items():
        for name in names:
            del values[engine][name]
    return values


def needs_weights(config: SamplerConfig) -> bool:
    """Whether the engine samples with the weights that :func:`spct.lm.load` reads."""
    return config.engine in ("native", "hf")
