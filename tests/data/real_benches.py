"""The benchmark files at hand (SPCT_DATA), loaded as their configurations say."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from spct.data.bench import LOADERS
from spct.data.download import fetch, folder
from spct.data.reading import Dropped
from spct.records import Item
from spct.schema import SourceConfig

CONF = Path(__file__).parents[2] / "conf/bench_source"
AT_HAND = (
    *("rewardbench_math_prm", "rmb", "realmistake", "rm_bench", "judgebench", "llmbar"),
    *("mt_bench_human", "pandalm", "hhh_alignment"),
)


def source(name: str, **changes: Any) -> SourceConfig:
    """The shipped configuration of a benchmark, some of it changed."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    values.pop("defaults", None)  # Hydra's; the dataclass has the same
    return SourceConfig(**{**values, **changes})


def files(config: SourceConfig) -> list[Path]:
    """Its files, checksums compared; skips where there are none."""
    if os.environ.get("SPCT_DATA") and folder(config).is_dir():
        return [file.path for file in fetch(config)]
    pytest.skip(f"no files of {config.name} under SPCT_DATA")


@cache
def loaded(name: str) -> tuple[list[Item], list[Dropped]]:
    """Items and dropped rows of a benchmark's real files."""
    config = source(name)
    found = list(LOADERS[config.loader](files(config), config))
    dropped = [one for one in found if isinstance(one, Dropped)]
    return [one for one in found if not isinstance(one, Dropped)], dropped
