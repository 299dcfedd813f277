"""What goes wrong in a run, seen from the metrics of each step. No torch here.

Without enough KL the paper's 27B collapses in single domains (Chat, Harmlessness) while the overall
reward still rises; so rewards and unreadable outputs are watched domain by domain. And a sampler
that is not the policy (stale weights, another temperature) trains on, so its gap is watched too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spct.schema import GrpoConfig

METRIC = "alarm/"
GAP = "sampler_gap"  # stands in an alarm where a domain would

# Mean |sampler - trainer| log-prob a token (nats) that rounding does not explain, by model.dtype.
# float32: seen are 4e-7 with the native sampler on a CPU and 1.4e-6 with vLLM. bfloat16: NeMo RL's
# runs with vLLM must keep the mean of exp(gap) below 1.05 (its tests, token_mult_prob_error). Wider
# than sampling.agreement.GATES, which looks at one engine once: an alarm must not cry wolf.
GAP_LIMITS = {"float32": 1e-3, "bfloat16": 0.05}


def gap_limit(config: GrpoConfig, dtype: str) -> float:
    """``grpo.max_logprob_gap``, or the limit of the precision; 0 for none.

    None by default where rollouts lag: then most of the gap is the update between.
    """
    given = config.max_logprob_gap
    if given is None:
        return 0.0 if config.rollout_lag else GAP_LIMITS[dtype]
    return given


@dataclass(frozen=True)
class Alarm:
    """What went wrong in a domain, from ``step`` on.

    ``kind`` is ``reward`` (fell from the moving mean ``before`` to ``now``), ``invalid`` (``now``
    is the moving mean of the share of outputs without readable scores, ``before`` the limit) or,
    with ``domain`` :data:`GAP`, ``gap`` (``now`` is the step's mean gap between the log-probs of
    sampler and trainer, ``before`` the limit).
    """

    step: int
    domain: str
    kind: str
    now: float
    before: float

    def __str__(self) -> str:
        if self.kind == "reward":
            what = f"reward fell from {self.before:.2f} to {self.now:.2f}"
        elif self.kind == "gap":
            what = f"{self.now:.2g} nats a token between sampler and trainer, more than "
            what += f"{self.before:.2g},"
        else:
            what = f"{self.now:.0%} of the outputs are unreadable, more than {self.before:.0%}"
        return f"{self.domain}: {what} by step {self.step}"

    def entry(self) -> dict[str, Any]:
        """A line of ``alarms.jsonl``."""
        return {**asdict(self), "text": str(self)}


@dataclass
class _Domain:
    """Moving means of one domain over its last ``window`` steps."""

    window: int
    rewards: deque[float] = field(init=False)
    invalid: deque[float] = field(init=False)
    best: float = float("-inf")
    on: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rewards, self.invalid = deque(maxlen=self.window), deque(maxlen=self.window)

    def see(self, reward: float | None, invalid: float | None) -> None:
        if reward is not None:
            self.rewards.append(reward)
        if invalid is not None:
            self.invalid.append(invalid)
        if len(self.rewards) == self.window:
            self.best = max(self.best, self.reward)

    @property
    def reward(self) -> float:
        return sum(self.rewards) / len(self.rewards)

    def wrong(self, drop: float, limit: float) -> dict[str, tuple[float, float]]:
        """``(now, before)`` of each kind that is beyond its limit; full windows alone count."""
        found = {}
        if len(self.rewards) == self.window and self.best - self.reward > drop:
            found["reward"] = (self.reward, self.best)
        if len(self.invalid) == self.window:
            share = sum(self.invalid) / self.window
            if share > limit:
                found["invalid"] = (share, limit)
        return found


class Watch:
    """Raises an alarm when a domain collapses: a function of the metrics seen, in order.

    A domain's moving means run over the last ``alarm_window`` steps that held the domain. The alarm
    is on while the mean reward is more than ``alarm_drop`` below its best so far, or the mean share
    of unreadable outputs is above ``alarm_invalid``; and, for all domains together, while a step's
    ``sampler_gap_mean`` is above ``gap`` (0: never).
    """

    def __init__(self, config: GrpoConfig, gap: float = 0.0) -> None:
        self.config, self.gap = config, gap
        self.alarms: list[Alarm] = []
        self._apart: bool | None = None  # None before any gap was seen
        self._domains: dict[str, _Domain] = {}

    def see(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take in a step's metrics (``reward/<domain>``, ``invalid_rate/<domain>``, the gap).

        Returns the alarms that go off at this step.
        """
        new = self._see_gap(step, metrics.get("sampler_gap_mean"))
        for name in sorted({key.partition("/")[2] for key in metrics if "/" in key}):
            reward, invalid = (metrics.get(f"{kind}/{name}") for kind in ("reward", "invalid_rate"))
            if reward is None and invalid is None:
                continue
            domain = self._domains.setdefault(name, _Domain(self.config.alarm_window))
            domain.see(reward, invalid)
            wrong = domain.wrong(self.config.alarm_drop, self.config.alarm_invalid)
            new += [Alarm(step, name, k, *v) for k, v in wrong.items() if k not in domain.on]
            domain.on = set(wrong)
        self.alarms += new
        return new

    def _see_gap(self, step: int, gap: float | None) -> list[Alarm]:
        if gap is None or not self.gap:
            return []
        before, self._apart = self._apart, gap > self.gap
        return [Alarm(step, GAP, "gap", gap, self.gap)] if self._apart and not before else []

    @property
    def apart(self) -> bool:
        """Whether the sampler's log-probs are too far from the trainer's."""
        return bool(self._apart)

    def metrics(self) -> dict[str, float]:
        """``alarm/<domain>``: 1 while its alarm is on, else 0; ``alarm/sampler_gap`` likewise."""
        values = {f"{METRIC}{k}": float(bool(v.on)) for k, v in sorted(self._domains.items())}
        return values if self._apart is None else values | {METRIC + GAP: float(self._apart)}

    def replay(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Take in the lines of a ``metrics.jsonl``: the state after them is as it was."""
        for entry in entries:
            self.see(int(entry["step"]), entry)
