"""The processes of a stage, as ``torchrun`` started them; a single process is a world of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

import torch

from spct.errors import StageStopped

P = ParamSpec("P")
T = TypeVar("T")

# The longest a process waits for another: a rank that samples long texts is waited for too.
DEADLINE = timedelta(minutes=60)
# Log values that are no sums over processes but the largest of them.
MAXIMA = ("ratio_max",)


@dataclass(frozen=True)
class World:
    """This process's place among all. Every method that talks to others is called by all of them.

    With ``size`` 1 they return what they were given and ``torch.distributed`` is left alone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def loads_on(self) -> torch.device:
        """Where a model is read to: to the host if it will be sharded, as it may fit no device."""
        return self.device if self.size == 1 else torch.device("cpu")

    def gather(self, value: T) -> list[T]:
        """What each process gave, by rank; any picklable value, through host memory."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: T | None) -> T:
        """What the main process gave; the others' values, None if they have none, are ignored."""
        if self.size == 1:
            return cast(T, value)
        import torch.distributed as dist

        values: list[Any] = [value if self.main else None]
        dist.broadcast_object_list(values, src=0)
        result: T = values[0]
        return result

    def agree(self, error: Exception | None) -> None:
        """Raise on every process if one of them comes with an error, so that none waits for it.

        That one raises its own; the others ``StageStopped`` with its rank and text.
        """
        told = self.gather(error and f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, text in enumerate(told):
            if text is not None:
                raise StageStopped(f"process {rank} stopped: {text}")

    def on_main(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What ``function`` gives on the main process, which alone calls it; elsewhere None.

        For files. Its error is raised as :meth:`agree` does.
        """
        result, error = None, None
        if self.main:
            try:
                result = function(*args, **kwargs)
            except Exception as raised:
                error = raised
        self.agree(error)
        return result

    def totals(self, values: Mapping[str, float], largest: Collection[str] = MAXIMA) -> dict:
        """Sums over processes of equally named values; the largest of those in ``largest``.

        Summed in float64, in order of rank: every process gets the same bits. Raises
        ``ValueError`` on every process if their names differ.
        """
        if self.size == 1:
            return dict(values)
        parts = self.gather(dict(values))
        if any(part.keys() != parts[0].keys() for part in parts):
            raise ValueError(f"processes log different values: {[sorted(part) for part in parts]}")
        return {
            name: (max if name in largest else sum)(part[name] for part in parts) for name in values
        }


ALONE = World()


@contextmanager
def joined(deadline: timedelta = DEADLINE) -> Iterator[World]:
    """The world that ``torchrun``'s environment describes (RANK, LOCAL_RANK, WORLD_SIZE).

    Without WORLD_SIZE, or with 1, a world of one: nothing of ``torch.distributed`` is imported. On
    CUDA each process takes the GPU of its local rank; weights and gradients travel by NCCL, all
    else by gloo through host memory. A process that waits ``deadline`` for another raises; one that
    raises says its rank on stderr and must end, whereupon ``torchrun`` ends the others. Raises
    ``ValueError`` if there are more processes than GPUs.
    """
    rank, local, size = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
    )
    cuda = torch.cuda.is_available()
    if size == 1:
        yield World(device=torch.device("cuda" if cuda else "cpu"))
        return
    import torch.distributed as dist

    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local} of this machine has no GPU of its own")
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=deadline)
    try:
        yield World(rank, size, device)
    except BaseException as error:
        # no clean-up here: it would wait for processes that wait for this one
        print(f"rank {rank} of {size}: {type(error).__name__}: {error}", file=sys.stderr)
        raise
    dist.barrier()
    dist.destroy_process_group()
