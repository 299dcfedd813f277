"""The training files at hand (SPCT_DATA), loaded as their configurations say; each read once."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from spct.data import catalog
from spct.data.download import fetch
from spct.data.reading import Dropped
from spct.records import Item
from spct.schema import SourceConfig

CONF = Path(__file__).parents[2] / "conf/source"


def source(name: str, **changes: Any) -> SourceConfig:
    """The shipped configuration of a source, some of it changed."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    values.pop("defaults")  # Hydra's: the keys that are not stated
    return SourceConfig(**{**values, **changes})


def need_data() -> None:
    """Skips where SPCT_DATA is not set."""
    if not Path(os.environ.get("SPCT_DATA") or "/nowhere").is_dir():
        pytest.skip("SPCT_DATA names no folder with the real data")


@cache
def loaded(name: str) -> tuple[list[Item], list[Dropped]]:
    """Items and dropped rows of a source's real files, checksums compared."""
    need_data()
    config = source(name)
    paths = [file.path for file in fetch(config)]
    found = list(catalog.GENERAL[config.loader](paths, config))
    dropped = [one for one in found if isinstance(one, Dropped)]
    return [one for one in found if not isinstance(one, Dropped)], dropped
