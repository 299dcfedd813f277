"""Where the processes of a group meet: a store that the test itself holds, so no port can be lost.

A port that is free when it is asked for may be taken when a process, seconds later, opens it.
"""

from __future__ import annotations

import os
from datetime import timedelta

from torch.distributed import TCPStore


class Meeting:
    """A store on a port of its own, for as long as this object lives."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def environment(self, rank: int, **more: str) -> dict[str, str]:
        """What ``torchrun`` gives a process of one machine, where its agent keeps the store."""
        place = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        }  # fmt: skip
        return {**os.environ, "OMP_NUM_THREADS": "1", **place, **more}


def leave_after(deadline: timedelta) -> None:
    """From now on a process waits no longer for the others of its group."""
    from torch.distributed.distributed_c10d import _set_pg_timeout

    _set_pg_timeout(deadline)
