"""CUDA graphs of a decoding step: one replay instead of a kernel launch for every operation."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor


class Graphed:
    """``step(view)`` recorded once for each ``view`` and replayed from then on.

    ``step`` must read its inputs from tensors that stay where they are and leave its output in one.
    A model that cannot be recorded (one that asks the GPU for a value midway) runs as it is, and
    standard error says so.
    """

    def __init__(self, step: Callable[[int], Tensor]) -> None:
        self.step = step
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.works = True

    def __call__(self, view: int) -> Tensor:
        if not self.works:
            return self.step(view)
        if view not in self.recorded:
            try:
                self.recorded[view] = self._record(view)
            except RuntimeError as error:
                self.works = False
                print(f"sampler: no CUDA graphs for this model: {error}", file=sys.stderr)
                return self.step(view)
        graph, output = self.recorded[view]
        graph.replay()
        return output

    def _record(self, view: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # lazy initialisation may not happen while recording
            self.step(view)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self.recorded.values()))[0].pool() if self.recorded else None
        # another thread may be training: only what this one does can spoil the recording
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = self.step(view)
        return graph, output
