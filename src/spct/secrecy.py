"""No secret may stand in a configuration: whatever is composed is frozen, printed and kept.

The checks here are relations of :mod:`spct.checks`; their messages do not repeat what they found.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from spct.errors import ConfigError
from spct.schema import SamplerConfig, TrackingConfig

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def no_secrets(sampler: SamplerConfig) -> None:
    """No URL and no key name of an endpoint that would put a secret into files."""
    endpoint = sampler.openai
    url = urlsplit(endpoint.base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError("sampler.openai.base_url: not of the form http(s)://host[:port]/path")
    if url.username or url.password or url.query or url.fragment:
        raise ConfigError(
            "sampler.openai.base_url: holds a user, password or query, which every file about the "
            "run would keep; name an environment variable with the key in sampler.openai.key_env"
        )
    if endpoint.key_env and not _VARIABLE.fullmatch(endpoint.key_env):
        raise ConfigError(
            "sampler.openai.key_env: not the name of an environment variable (capitals, digits, _);"
            " the key itself must not stand in a configuration"
        )


def no_password(tracking: TrackingConfig) -> None:
    """No tracker's URI with a password: Snakemake prints it and keeps it in its logs."""
    if "@" in tracking.uri.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            "tracking.uri: holds a user or password; name them in the environment, as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or all of MLFLOW_TRACKING_URI"
        )
