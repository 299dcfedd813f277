"""What a test may not depend on: the variables of a shell, the speed of a machine, luck.

``conftest.py`` hands this to pytest. ``--hypothesis-profile=luck`` lets Hypothesis draw anew.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

KEPT = ("SPCT_DATA",)
TAKEN_AWAY = ("SPCT_", "SLURM_", "MLFLOW_", "HYDRA_", "SNAKEMAKE_", "TORCHELASTIC_", "MASTER_")
ALSO = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "HF_ENDPOINT", "FORCE_COLOR")


def unwanted(name: str) -> bool:
    """Whether a variable would change what is tested: settings of ours or of a job."""
    return name not in KEPT and (name.startswith(TAKEN_AWAY) or name in ALSO)


for each in filter(unwanted, list(os.environ)):
    del os.environ[each]
for each in ("NO_PROXY", "no_proxy"):  # servers of this machine are asked directly
    os.environ[each] = ",".join(filter(None, [os.environ.get(each), "127.0.0.1", "localhost"]))

# No limit on seconds; the same examples every time, and none from a folder of earlier ones.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("luck", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test or its fixtures draw without a seed is no matter of the tests before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
