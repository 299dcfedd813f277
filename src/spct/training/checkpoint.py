"""Resume state of a running stage: one file, written aside and renamed, beside the output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from spct import artifact


class Checkpoint:
    """The newest whole state of a stage under ``<out>.state/``.

    ``identity`` (seed, config, input hashes) must match, or the state belongs to another run and is
    thrown away.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.folder = out.with_name(f"{out.name}.state")
        self.path = self.folder / "state.pt"
        self.identity = identity

    def load(self) -> dict[str, Any] | None:
        """The state to continue from, or ``None`` to start afresh."""
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception as error:  # torch raises many kinds on a damaged file
            raise artifact.BrokenArtifact(
                f"{self.path} cannot be read ({error}); "
                f"delete {self.folder} to start this stage afresh"
            ) from error
        return state if state.pop("identity") == self.identity else None

    def save(self, **state: Any) -> None:
        with artifact.atomic_path(self.path) as aside:
            torch.save({"identity": self.identity, **state}, aside)

    def clear(self) -> None:
        """Remove the state after the output stands."""
        shutil.rmtree(self.folder, ignore_errors=True)
