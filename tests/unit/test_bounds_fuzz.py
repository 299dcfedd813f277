"""Random settings: each is refused by name, or composes to finite numbers within bounds."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spct import bounds, checks
from spct.config import load
from spct.errors import ConfigError
from spct.schema import Config

NASTY = (
    *("0", "1", "-1", "2", "0.5", "-0.0", "1e-300", "1e-9", "1e9", "1e300", "-1e300"),
    *("nan", "inf", "-inf", "2147483647", "2147483648", "9223372036854775808", "1000000"),
    *("1" + "0" * 400, "null", "''", "[]", "[1]", "{}", "true", "x"),
)


def number_keys(group: Any, key: str) -> Iterator[str]:
    """Keys of all numbers and lists of numbers, as an override names them."""
    for name, kind in bounds.hints(type(group)).items():
        value, where = getattr(group, name), f"{key}.{name}"
        if dataclasses.is_dataclass(value):
            yield from number_keys(value, where)
        elif isinstance(value, dict):
            yield from (f"{where}.{one}" for one, held in value.items() if is_number(held))
        elif isinstance(value, list):
            yield from [where] if all(map(is_number, value)) else []
        elif is_number(value) or "Range" in repr(kind):
            yield where


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Words = list[tuple[str, str]]


@cache
def smoke() -> Config:
    return load(["experiment=smoke"])


@cache
def keys() -> list[str]:
    """Of every number of a whole configuration."""
    groups = vars(smoke()).items()
    kept = ((name, group) for name, group in groups if dataclasses.is_dataclass(group))
    return sorted(key for name, group in kept for key in number_keys(group, name))


WORDS = st.lists(
    st.tuples(st.deferred(lambda: st.sampled_from(keys())), st.sampled_from(NASTY)),
    min_size=1,
    max_size=3,
    unique_by=lambda word: word[0],
)


def floats(value: Any) -> Iterator[float]:
    """Every float of a configuration, wherever it stands."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from floats(one)
    elif isinstance(value, float):
        yield value


def held(words: Words, compose: Callable[[Words], dict[str, Any]]) -> None:
    """The words are refused in one line that names a group of theirs, or are within bounds."""
    try:
        groups = compose(words)
    except ConfigError as error:
        message = str(error)
        named = {key.split(".")[0] for key, _ in words}
        assert any(re.search(rf"\b{group}\b", message) for group in named), (message, words)
        assert "\n" not in message and len(message) < 500
        return
    assert all(map(math.isfinite, floats(groups)))
    for key, value in words:
        assert value not in ("nan", "inf", "-inf", "1e300", "-1e300"), (key, value)


def by_hydra(words: Words) -> dict[str, Any]:
    return vars(load(["experiment=smoke", *(f"{key}={value}" for key, value in words)]))


def by_group(words: Words) -> dict[str, Any]:
    """As Hydra does it, in a twentieth of the time: types, then checks."""
    groups = dict(vars(smoke()))
    for key, value in words:
        name, _, rest = key.partition(".")
        given = OmegaConf.create({})
        OmegaConf.update(given, rest, yaml.safe_load(value) if value != "null" else None)
        try:
            typed = OmegaConf.merge(OmegaConf.structured(groups[name]), given)
            groups[name] = OmegaConf.to_object(typed)
        except (OmegaConfBaseException, OverflowError) as error:
            raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from error
    checks.check(groups)
    return groups


FUZZ = {"deadline": None, "derandomize": True, "database": None}


@pytest.mark.medium
@settings(max_examples=150, **FUZZ)
@given(WORDS)
def test_random_settings_are_refused_by_name_or_within_bounds(words: Words) -> None:
    held(words, by_group)


@pytest.mark.medium
@settings(
    max_examples=40, phases=[Phase.generate], suppress_health_check=list(HealthCheck), **FUZZ
)  # a composition takes most of a second, so nothing is shrunk
@given(WORDS)
def test_random_overrides_are_refused_by_name_or_compose_within_bounds(words: Words) -> None:
    held(words, by_hydra)


def test_the_keys_of_the_fuzz_are_all_of_them() -> None:
    assert len(keys()) > 120
    assert {"grpo.lr", "rft.optim.lr", "scaling.ks", "plan.seeds", "data.train_mix.pair"} <= set(
        keys()
    )
    assert {"grpo.max_logprob_gap", "sampler.openai.backoff", "data.benchmarks.toy_pairs"} <= {
        *keys()
    }
