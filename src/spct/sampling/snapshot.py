"""Weights of a sampler's own, where an engine has none: an update cannot change them midway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spct.lm import LM
from spct.sampling.base import Completion, Request, Sampler


class Snapshot:
    """A :class:`spct.sampling.refresh.Refreshable` over an engine that samples from ``lm``.

    ``lm`` is a second model of the policy's shapes, for this engine alone: it costs the memory of
    the weights once more. Its weights are those of the last :meth:`refresh`.
    """

    def __init__(self, lm: LM, engine: Sampler) -> None:
        self.lm, self.engine = lm, engine
        self.version: int | None = None

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order asked, each with the version of the weights."""
        found = self.engine.sample(requests)
        return [replace(completion, version=self.version) for completion in found]

    def refresh(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copy ``weights``; the same version only once. Raises ``ValueError`` if names differ."""
        if version == self.version:
            return
        own = dict(self.lm.model.named_parameters())
        with torch.no_grad():
            for name, value in weights:
                if name not in own:
                    raise ValueError(f"the copy has no weight {name}")
                own.pop(name).copy_(value)
        if own:
            raise ValueError(f"no new weights for {', '.join(sorted(own))}")
        self.version = version

    def rest(self) -> None:
        """Nothing to give back: the memory is the copy's."""
