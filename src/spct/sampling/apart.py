"""A sampler in a process of its own, on a GPU of its own: GRPO with ``grpo.colocate=false``.

Any engine that samples from weights can be one. Weights cross over in host memory that both
processes map: a copy out of the trainer's device, a copy into the sampler's; a vLLM engine takes
them in by its own weight transfer (:mod:`spct.sampling.vllm_weights`).
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spct import devices, lm
from spct.artifact import BrokenArtifact
from spct.errors import ConfigError, StageStopped
from spct.sampling.base import Completion, Request, build, needs_weights
from spct.sampling.refresh import Refreshable
from spct.sampling.snapshot import Snapshot
from spct.schema import ModelConfig, SamplerConfig
from spct.training.world import DEADLINE

# Bytes between the beginnings of tensors in the mapped memory are multiples of this.
ALIGN = 64
PATIENCE = 30.0  # seconds for an engine to shut down by itself
SHARED = Path("/dev/shm")  # memory that looks like a folder; elsewhere the temporary folder
TOLD = (ConfigError, StageStopped, BrokenArtifact)  # their texts name the fix
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Where a weight lies in the mapped memory."""

    start: int  # bytes
    shape: tuple[int, ...]
    dtype: torch.dtype

    def of(self, memory: Tensor) -> Tensor:
        size = self.dtype.itemsize * torch.Size(self.shape).numel()
        return memory[self.start : self.start + size].view(self.dtype).view(self.shape)


class ApartSampler:
    """A :class:`spct.sampling.refresh.Refreshable` whose engine runs in a process of its own.

    That process ends with this one, however it ends, and leaves SIGTERM and SIGINT to it.
    """

    def __init__(
        self, model: ModelConfig, init: str, config: SamplerConfig, gpu: str | None = None
    ) -> None:
        """Start the engine on ``gpu``, by its CUDA name; None for what this process has.

        Raises ``ConfigError`` for an engine that cannot take over weights, and as
        :func:`spct.sampling.base.build`; ``StageStopped`` if the process does not start.
        """
        if config.engine == "openai":
            raise ConfigError("grpo.colocate=false: the engine openai takes over no weights")
        self.version: int | None = None
        self._memory: Tensor | None = None
        self._places: dict[str, Place] = {}
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve,
            args=(theirs, model, init, config, torch.get_num_threads()),
            name="sampler",
            daemon=True,
        )
        with _visible(gpu):
            self._process.start()
        theirs.close()  # so that the other process holds the only end that can answer
        # before multiprocessing ends its daemons, by a SIGTERM that this one ignores
        Finalize(self, _end, (self._connection, self._process), exitpriority=1)
        self._answer("starting")

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Raises ``StageStopped`` if the engine does, or its process ends or does not answer."""
        completions: list[Completion] = self._ask("sample", list(requests))
        return completions

    def refresh(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over ``weights``, from any device; the same version only once."""
        if version == self.version:
            return
        given = dict(weights)
        if self._memory is None:
            self._map(given)
        assert self._memory is not None
        for name, value in given.items():
            self._places[name].of(self._memory).copy_(value)
        self._ask("refresh", version)
        self.version = version

    def rest(self) -> None:
        """Nothing to give back: the memory is not the trainer's."""

    def _map(self, weights: Mapping[str, Tensor]) -> None:
        """Memory for the weights that both processes see; its file is gone when this returns."""
        self._places, size = layout(weights)
        with _private_file(size) as path:
            self._memory = mapped(path, size)
            self._ask("map", path, size, self._places)

    def _ask(self, what: str, *given: Any) -> Any:
        try:
            self._connection.send((what, given))
        except OSError:
            raise self._gone(what) from None
        return self._answer(what)

    def _answer(self, what: str) -> Any:
        limit = DEADLINE.total_seconds()
        if not self._connection.poll(limit):
            self._process.kill()
            raise StageStopped(f"the sampler's process ({what}) did not answer in {limit:g} s")
        try:
            error, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._gone(what) from None
        if error is not None:
            raise error(f"the sampler's process ({what}): {value}")
        return value

    def _gone(self, what: str) -> StageStopped:
        self._process.join(timeout=10)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return StageStopped(f"the sampler's process ({what}) ended {how}; its words are above")


def own_gpu() -> str | None:
    """The GPU for this process's sampler; None without GPUs.

    Of a machine's GPUs the first half trains and the second samples, in the same order. Raises
    ``ConfigError`` if there is none left.
    """
    if not torch.cuda.is_available():
        return None
    names = devices.visible()
    trainers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    number = trainers + int(os.environ.get("LOCAL_RANK", "0"))
    if number >= len(names):
        raise ConfigError(
            f"grpo.colocate=false: {trainers} of {len(names)} GPUs train, which leaves none to "
            "sample; give the rule two or more (resources gpu), or set grpo.colocate=true"
        )
    return names[number]


def layout(weights: Mapping[str, Tensor]) -> tuple[dict[str, Place], int]:
    """A place for each weight, and the bytes of all."""
    places, start = {}, 0
    for name, value in weights.items():
        places[name] = Place(start, tuple(value.shape), value.dtype)
        start += -(-value.numel() * value.element_size() // ALIGN) * ALIGN
    return places, start


def mapped(path: str, size: int) -> Tensor:
    """The file as bytes [size] uint8 that every process which maps it sees."""
    return torch.from_file(path, shared=True, size=size, dtype=torch.uint8)


@contextmanager
def _private_file(size: int) -> Iterator[str]:
    """A file of this user alone, if possible in memory. Raises ``StageStopped`` without room."""
    folder = str(SHARED) if SHARED.is_dir() else tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StageStopped(
            f"grpo.colocate=false: the weights need {size >> 20} MiB in {folder}, where "
            f"{free >> 20} MiB are free; a container gets more with --shm-size"
        )
    with tempfile.NamedTemporaryFile(dir=folder, prefix="spct-weights-") as file:
        file.truncate(size)
        yield file.name


@contextmanager
def _visible(gpu: str | None) -> Iterator[None]:
    """Processes started inside see that GPU alone."""
    before = os.environ.get(devices.VISIBLE)
    if gpu is not None:
        os.environ[devices.VISIBLE] = gpu
    try:
        yield
    finally:
        if gpu is not None:
            os.environ.pop(devices.VISIBLE)
        if before is not None:
            os.environ[devices.VISIBLE] = before


def _end(connection: Connection, process: Any) -> None:
    """Let the process end by itself, or else make it; it is gone when this returns."""
    connection.close()
    process.join(timeout=PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()


# ---- the other process -------------------------------------------------------------------------


def _serve(
    connection: Connection, model: ModelConfig, init: str, config: SamplerConfig, threads: int
) -> None:
    """Answer (what, arguments) by (error's class or None, value), until the other end is gone."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    for variable in LAUNCHER:  # the trainer's place among trainers
        os.environ.pop(variable, None)
    torch.set_num_threads(threads)
    server: _Server | None = None
    call: tuple[str, Sequence[Any]] = ("start", (model, init, config))
    try:
        while True:
            what, given = call
            answer: tuple[type[Exception] | None, Any]
            try:
                if server is None:
                    server, value = _Server(*given), None
                else:
                    value = getattr(server, what)(*given)
                answer = (None, value)
            except Exception as error:
                traceback.print_exc()
                told = isinstance(error, TOLD)
                answer = (type(error), str(error)) if told else (StageStopped, repr(error))
            connection.send(answer)
            if server is None:
                return
            call = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Server:
    """The engine and the memory its weights come in."""

    def __init__(self, model: ModelConfig, init: str, config: SamplerConfig) -> None:
        # an engine that reads the files itself wants shapes alone
        place = None if needs_weights(config) else torch.device("meta")
        loaded = lm.load(model, init, place=place)
        loaded.model.requires_grad_(False)
        engine = build(loaded, config)
        self.engine = engine if isinstance(engine, Refreshable) else Snapshot(loaded, engine)
        self._weights: dict[str, Tensor] = {}

    def map(self, path: str, size: int, places: Mapping[str, Place]) -> None:
        memory = mapped(path, size)
        self._weights = {name: place.of(memory) for name, place in places.items()}

    def refresh(self, version: int) -> None:
        self.engine.refresh(self._weights.items(), version)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        return self.engine.sample(requests)
