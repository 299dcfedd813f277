"""Whether the package of an engine is installed. No torch here."""

from __future__ import annotations

from importlib.util import find_spec

from spct.errors import ConfigError
from spct.schema import SamplerConfig

MISSING = "sampler.engine=vllm needs vLLM: pip install 'spct[vllm]'"


def check(sampler: SamplerConfig) -> None:
    """Raises ``ConfigError`` if the engine's package is not installed here."""
    if sampler.engine == "vllm" and find_spec("vllm") is None:
        raise ConfigError(f"{MISSING}, or take sampler.engine=native")
