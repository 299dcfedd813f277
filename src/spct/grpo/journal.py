"""What a run writes down step by step: metrics, alarms, samples and, apart, seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spct import artifact
from spct.errors import StageStopped
from spct.grpo.rollout import Rollouts
from spct.grpo.samples import shown
from spct.grpo.watch import Watch
from spct.schema import GrpoConfig
from spct.tracking import MetricsLog, read_metrics


class Journal:
    """Grows in ``folder`` beside the checkpoints; :meth:`publish` copies it into the model folder.

    All but the seconds is equal for equal runs, killed or not: a checkpoint holds the journal up to
    its step, and what was written after it is dropped on resuming.
    """

    def __init__(self, folder: Path, config: GrpoConfig, gap: float = 0.0) -> None:
        self.config = config
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self.seconds = MetricsLog(folder / "timing.jsonl")
        self.samples: list[dict[str, Any]] = []
        self.watch = Watch(config, gap)

    def state(self) -> dict[str, str]:
        """The journal so far, for a checkpoint."""
        path = self.metrics.path
        lines = path.read_text(encoding="utf-8") if path.exists() else ""
        return {"metrics": lines, "samples": json.dumps(self.samples)}

    def resume(self, step: int, state: Mapping[str, str] | None) -> None:
        """Go on from ``step`` with a checkpoint's journal; from nothing if there is none."""
        artifact.write_text(self.metrics.path, state["metrics"] if state else "")
        self.samples = json.loads(state["samples"]) if state else []
        self.seconds.truncate(step)
        self.watch.replay(read_metrics(self.metrics.path))

    def record(self, step: int, metrics: dict[str, float], rollouts: Rollouts) -> None:
        """A step's metrics and, now and then, samples. Alarms also go to stderr.

        Raises ``StageStopped`` with ``stop_on_gap`` where the sampler is not the policy.
        """
        for alarm in self.watch.see(step, metrics):
            print(f"grpo: ALARM: {alarm}", file=sys.stderr)
        spent = {"rollout_tokens": float(sampled_tokens(rollouts))}
        self.metrics.write(step, metrics | self.watch.metrics() | spent)
        every = self.config.log_samples_every
        if every and step % every == 0:
            self.samples += shown(rollouts, step)
        if self.config.stop_on_gap and self.watch.apart:
            gap = metrics["sampler_gap_mean"]
            raise StageStopped(
                f"grpo: at step {step} log-probs of sampler and trainer differ by {gap:.2g} nats a "
                f"token, more than {self.watch.gap:.2g}; look at sampler.engine and its precision, "
                "or raise grpo.max_logprob_gap"
            )

    def publish(self, folder: Path, **facts: float) -> None:
        """``metrics.jsonl``, ``samples.jsonl``, ``alarms.jsonl`` if any, and ``timing.json``.

        The last holds totals by phase, ``facts`` and the steps one by one.
        """
        (folder / "metrics.jsonl").write_bytes(self.metrics.path.read_bytes())
        _write_lines(folder / "samples.jsonl", self.samples)
        if self.watch.alarms:
            _write_lines(folder / "alarms.jsonl", [alarm.entry() for alarm in self.watch.alarms])
        steps = read_metrics(self.seconds.path) if self.seconds.path.exists() else []
        totals: dict[str, float] = {}
        for entry in steps:
            for name, value in entry.items():
                if name not in ("step", "share_of_bound") and not name.endswith("_per_s"):
                    totals[name] = totals.get(name, 0.0) + value
        artifact.write_json(folder / "timing.json", {**totals, **facts, "steps": steps})


def sampled_tokens(rollouts: Rollouts) -> int:
    """Tokens that sampling passes through the policy: prompts once for each order, completions.

    With principles written beforehand these too, once an item.
    """
    rows = [member.row for member in rollouts.members]
    prompts = {(row.item_id, tuple(row.order)): row.prompt_tokens for row in rows}
    principles = {row.item_id: row.principle_tokens for row in rows}
    written = sum(row.completion_tokens for row in rows)
    return written + sum(prompts.values()) + sum(principles.values())


def _write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
