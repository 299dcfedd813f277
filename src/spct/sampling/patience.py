"""How an endpoint is asked, of the moment: no part of what is sampled, so no part of a slice.

``SPCT_OPENAI="timeout=60 concurrency=4"`` wins over the ``sampler.openai`` keys of those names.
They are frozen with a run, so changing them there asks for all its banks anew; the variable lets an
unfinished shard go on with other limits and leaves the finished ones alone.
"""

from __future__ import annotations

import os
from dataclasses import replace

from spct import bounds
from spct.errors import ConfigError
from spct.sampling.base import HOW
from spct.schema import OpenAIConfig

VARIABLE = "SPCT_OPENAI"
NAMES = tuple(name for name in HOW["openai"] if name != "key_env")


def of_the_moment(config: OpenAIConfig) -> OpenAIConfig:
    """The settings with what ``SPCT_OPENAI`` names in place of the configured values.

    Raises ``ConfigError`` naming the word that is no ``key=value`` of :data:`NAMES` within bounds.
    """
    kinds = bounds.hints(OpenAIConfig)
    given = {}
    for word in os.environ.get(VARIABLE, "").split():
        name, _, text = word.partition("=")
        if name not in NAMES:
            raise ConfigError(f"{VARIABLE}: {name!r} is not one of {', '.join(NAMES)}")
        number = bounds.plain(kinds[name])
        try:
            value = number(text)
        except ValueError:
            raise ConfigError(f"{VARIABLE}: {word!r} has no {number.__name__}") from None
        bounds.check(value, kinds[name], f"{VARIABLE}: {name}")
        given[name] = value
    return replace(config, **given)
