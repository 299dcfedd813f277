"""How an artefact was made: a sidecar beside every output of a stage, never hashed.

Manifests hold what a later stage has to agree on. The sidecar ``<file>.made.json``, inside a folder
``made.json``, holds the rest: inputs and their hashes, the slice, seed, code, packages, hardware,
determinism tier, seconds, peak memory. ``spct verify`` follows it back, ``spct explain`` compares
it with today. Nothing of the environment's variables is written, nor the names of machine and user.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from spct import __version__, artifact, models
from spct.artifact import BrokenArtifact

NAME = "made.json"
OUT = "out"  # io names of outputs start with it
PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "matplotlib"),
    *("hydra-core", "omegaconf", "jinja2", "vllm"),
)


def beside(path: Path) -> Path:
    """The sidecar of an output; within a folder, so that it goes where the folder goes."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def read(path: Path) -> dict[str, Any] | None:
    """How an output was made; None where that is not recorded.

    Raises :class:`spct.artifact.BrokenArtifact` naming a sidecar that cannot be read.
    """
    side = beside(path)
    if not side.is_file():
        return None
    try:
        return dict(json.loads(side.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BrokenArtifact(f"{side} cannot be read ({error}); make {path} again") from error


def record(
    stage: str,
    slice_: Mapping[str, Any],
    seed: int,
    io: Mapping[str, Any],
    *,
    started: float,
    inputs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write the sidecar of each output named in ``io``, the stage's io values by name.

    ``started`` is ``time.monotonic()`` before the stage ran (clocks of the day jump), ``inputs`` is
    :func:`inputs_of` of then.
    """
    seconds = time.monotonic() - started
    outputs = {name: value for name, value in io.items() if name.startswith(OUT) and value}
    told = {
        "stage": stage,
        "seed": seed,
        "slice": dict(slice_),
        "inputs": dict(inputs),
        "arguments": {
            name: value
            for name, value in io.items()
            if name not in (*inputs, *outputs) and value not in ("", None)
        },
        "outputs": {name: str(path) for name, path in outputs.items()},
        "model": _model(slice_),
        "code": {**code(), "fingerprint": artifact.code_fingerprint()},
        "packages": packages(),
        "tier": tier(),
        "hardware": hardware(),
        "started": _day_and_time(time.time() - seconds),
        "seconds": round(seconds, 3),
        "peak_memory_gib": round(peak_memory() / 2**30, 3),
    }
    for path in map(Path, outputs.values()):
        if path.exists():
            own = {"content_hash": content_of(path), "ledger": _ledger(path, outputs.values())}
            artifact.write_json(beside(path), {**told, **own})


def _day_and_time(stamp: float) -> str:
    return datetime.datetime.fromtimestamp(stamp, datetime.UTC).isoformat("T", "seconds")


def inputs_of(io: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The files and folders among the io values that are no outputs, with their content hashes.

    Shipped and converted models go by their ``model.source``: elsewhere they lie elsewhere.
    """
    found = {}
    for name, value in io.items():
        values = value if isinstance(value, list) else [value]
        paths = [Path(one) for one in values if isinstance(one, Path) or _is_path(one)]
        if not name.startswith(OUT) and paths:
            found[name] = [
                {"path": models.named(path), "content_hash": content_of(path)} for path in paths
            ]
    return found


def _is_path(value: object) -> bool:
    """Stages take a model folder as text, since it may be empty."""
    return isinstance(value, str) and os.sep in value and Path(value).exists()


def content_of(path: Path) -> str | None:
    """The content hash of an artefact, of another file its bytes'; None for an unsealed folder."""
    sealed = path / artifact.MANIFEST if path.is_dir() else _sidecar(path)
    if path.suffix == ".parquet" or sealed.is_file():
        return artifact.content_hash(path)
    return artifact.file_hash(path) if path.is_file() else None


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.{artifact.MANIFEST}")


def _ledger(path: Path, outputs: Iterable[Any]) -> dict[str, Any] | None:
    """The balance in the manifest or, where the stage writes it as an output, in that."""
    sealed = (path.suffix == ".parquet" or path.is_dir()) and content_of(path) is not None
    if sealed and (ledger := artifact.read_manifest(path).get("ledger")):
        return dict(ledger)
    for other in map(Path, outputs):
        if other.name == "ledger.json" and other.is_file():
            balance = json.loads(other.read_text(encoding="utf-8"))
            return {name: value for name, value in balance.items() if name != "detail"}
    return None


def _model(slice_: Mapping[str, Any]) -> dict[str, Any] | None:
    """The base the slice names, with the content hash of its folder if it is a sealed one."""
    spec = slice_.get("model")
    if not spec:
        return None
    folder = models.folder(spec["source"]) if models.served(spec["source"]) is None else None
    found = content_of(folder) if folder is not None and folder.is_dir() else None
    return {"source": spec["source"], "revision": spec["revision"], "content_hash": found}


# ---- the circumstances -------------------------------------------------------------------------


def code() -> dict[str, Any]:
    """Version of the package and, if it runs from a clone, the clone's commit."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"version": __version__, "commit": None}
    words = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {"version": __version__, "commit": None}
    return {"version": __version__, "commit": done.stdout.strip() or None}


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on."""
    return {"python": platform.python_version(), **dict(_versions())}


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def tier() -> str:
    """``cpu`` (same inputs, same bits), ``cpu_threads`` or ``gpu``, as the stage ran.

    A stage that never imported torch computes on one thread.
    """
    if "torch" not in sys.modules:
        return "cpu"
    from spct import lm

    return lm.tier()


def hardware() -> dict[str, Any]:
    """Processor, its cores that this process may use, memory in GiB, GPUs that torch sees."""
    found: dict[str, Any] = {"machine": platform.machine(), "processor": _processor()}
    if hasattr(os, "sched_getaffinity"):
        found["cores"] = len(os.sched_getaffinity(0))
    if "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory_gib"] = round(size / 2**30, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        ]
    return found


def peak_memory() -> float:
    """The most bytes that tensors held on this process's GPU; without one, that the process held.

    Of a training over several processes this is the main one's. Zero where no system tells.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    held = re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE)
    return 1024.0 * int(held[1]) if held else 0.0


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1] if model else platform.processor()
