"""One step's rollouts: which items, G judgements each, rewards from the one predicate."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from spct import seeds
from spct.data.order import display_order
from spct.grpo.advantage import dead
from spct.judge.parse import Outcome
from spct.judge.task import Judge, Reading, Task
from spct.lm import LM
from spct.records import Item, Label
from spct.sampling.base import Sampler
from spct.sampling.fill import Rollout, roll_out
from spct.sampling.principles import Wanted, write
from spct.schema import GrpoConfig, SamplerConfig
from spct.training.batching import Example

BY_DOMAIN = (
    "reward",
    "dead_groups",
    "solved_groups",
    "completion_tokens",
    "invalid_rate",
    "truncated_rate",
)


@dataclass
class Rollouts:
    """All rollouts of a step, group by group: P groups of G members each.

    ``rewards`` [P, G] holds +1 and -1 (paper Eq. 11). ``valid`` [P, G] is False for a member whose
    reward could not be computed: it keeps its outcome and leaves its group.
    """

    members: list[Rollout]
    rewards: Tensor
    valid: Tensor

    @classmethod
    def of(cls, members: list[Rollout], group_size: int) -> Rollouts:
        """Reward every member."""
        rewards = [reward(member.row.correct) for member in members]
        valid = [not _unrewarded(member) for member in members]
        shape = (-1, group_size)
        return cls(
            members, torch.tensor(rewards).reshape(shape), torch.tensor(valid).reshape(shape)
        )

    @property
    def size(self) -> int:
        """Members of a group."""
        return self.rewards.shape[1]

    def dead(self) -> list[bool]:
        """For each group whether all its rewards are equal."""
        return [bool(one) for one in dead(self.rewards, self.valid)]

    def part(self, groups: Sequence[int]) -> Rollouts:
        """Some of the groups, in the order given."""
        members = [
            self.members[group * self.size + member]
            for group in groups
            for member in range(self.size)
        ]
        index = torch.tensor(list(groups), dtype=torch.long)
        return Rollouts(members, self.rewards[index], self.valid[index])

    def __add__(self, other: Rollouts) -> Rollouts:
        return Rollouts(
            self.members + other.members,
            torch.cat([self.rewards, other.rewards]),
            torch.cat([self.valid, other.valid]),
        )

    def examples(self) -> list[Example | None]:
        """Token ids to learn from, as sampled; None without a completion or without a reward."""
        return [
            None
            if member.completion is None or not valid
            else Example(member.prompt, member.completion.sampled)
            for member, valid in zip(self.members, self.valid.flatten().tolist(), strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """What the step's rollouts say of the policy: overall, and ``<name>/<domain>``."""
        by_domain: dict[str, list[int]] = {}
        for group in range(len(self.rewards)):
            domain = self.members[group * self.size].task.item.domain
            by_domain.setdefault(domain, []).append(group)
        values = self._measures()
        for domain, groups in sorted(by_domain.items()):
            part = self.part(groups)._measures()
            values |= {f"{name}/{domain}": part[name] for name in BY_DOMAIN if name in part}
        return values

    def _measures(self) -> dict[str, float]:
        rows = [member.row for member in self.members]
        lengths = [row.completion_tokens for row in rows]
        outcomes = Counter(row.outcome for row in rows)
        rewards = self.rewards[self.valid].tolist()
        readable = torch.tensor([row.outcome == Outcome.ok for row in rows])
        groups = len(self.rewards)
        solved = ((self.rewards > 0) & self.valid).all(dim=1)
        values = {
            "dead_groups": sum(self.dead()) / groups,
            "solved_groups": float(solved.float().mean()),
            "unreadable_groups": float((~readable.reshape(groups, -1).any(dim=1)).float().mean()),
            "completion_tokens": sum(lengths) / len(lengths),
            "invalid_rate": 1.0 - outcomes[Outcome.ok] / len(rows),
            "truncated_rate": outcomes[Outcome.truncated] / len(rows),
            "prompt_too_long_rate": outcomes[Outcome.prompt_too_long] / len(rows),
            "prompt_empty_rate": sum(not member.prompt for member in self.members) / len(rows),
            "reward_error_rate": 1.0 - len(rewards) / len(rows),
        }
        if rewards:
            values = {"reward": sum(rewards) / len(rewards)} | values
        if any(row.principle_tokens for row in rows):
            lacking = sum(row.principles is None for row in rows)
            values["without_principles_rate"] = lacking / len(rows)
        return values


def reward(correct: bool | None) -> float:
    """+1 if correct, else -1, unreadable outputs included (paper Eq. 11; no format reward)."""
    return 1.0 if correct else -1.0


def _unrewarded(member: Rollout) -> bool:
    """Readable, yet neither right nor wrong (the reward function raised), or lost by the engine."""
    unjudged = member.row.outcome == Outcome.ok and member.row.correct is None
    return unjudged or member.row.outcome == Outcome.engine_error


def items_from(items: Sequence[Item], position: int, count: int, seed: int) -> list[Item]:
    """``count`` items from ``position`` on in seeded epochs, end to end without a gap."""
    chosen = []
    for place in range(position, position + count):
        epoch, index = divmod(place, len(items))
        chosen.append(items[_epoch(len(items), epoch, seed)[index]])
    return chosen


@lru_cache(maxsize=2)
def _epoch(count: int, epoch: int, seed: int) -> list[int]:
    order: list[int] = seeds.rng(seed, "grpo epoch", epoch).permutation(count).tolist()
    return order


def tasks_of_step(
    judge: Judge,
    items: Sequence[Item],
    step: int,
    config: GrpoConfig,
    seed: int,
    first: int = 0,
) -> list[Task]:
    """``group_size`` tasks an item. A group shares one seeded order, hence one prompt.

    With ``swap_orders`` its members walk through the rotations of that order instead (two
    responses: both orders in turn), so a judgement that hangs on position is not rewarded in all of
    them (position-robust groups); the group then has several prompts. ``first`` is the place in the
    step of the first item.

    With plan ``balanced`` the turn is drawn, for the steps that meet an item are no count of its
    turns: epochs of an even number of steps would show it in one and the same order.
    """
    tasks = []
    plan, order_seed = judge.config.order, seeds.derive(seed, "grpo")
    for place, item in enumerate(items, first):  # an item met twice in a step draws anew
        turn = seeds.derive(seed, "grpo turn", step, item.id) if plan == "balanced" else step
        order = display_order(plan, order_seed, item.id, turn, item.n)
        principles = judge.given(item)
        texts: dict[int, str] = {}
        for member in range(config.group_size):
            shift = member % item.n if config.swap_orders else 0
            shown = order[shift:] + order[:shift]
            if shift not in texts:
                texts[shift] = judge.prompt(item, shown)
            tasks.append(
                Task(
                    item,
                    "sample",
                    member,
                    shown,
                    texts[shift],
                    seeds.derive(seed, "grpo", step, place, item.id, member),
                    config.temperature,
                    principles=principles,
                )
            )
    return tasks


def sample_step(
    lm: LM,
    sampler: Sampler,
    sampler_config: SamplerConfig,
    judge: Judge,
    tasks: Sequence[Task],
    group_size: int,
) -> Rollouts:
    """Roll out every task and reward it.

    With ``principles: query_only`` the policy writes them first, anew for every group. A reward
    function that raises costs the member its reward, not the run.
    """
    if judge.config.principles == "query_only":
        groups = [tasks[i : i + group_size] for i in range(0, len(tasks), group_size)]
        wanted = [
            Wanted(group[0].item, seeds.derive(group[0].seed, "principles"), group[0].temperature)
            for group in groups
        ]
        written = write(lm, sampler, sampler_config, judge, wanted)
        tasks = [
            task.with_principles(judge, note.text, note.tokens)
            for group, note in zip(groups, written, strict=True)
            for task in group
        ]
    patient = _PatientJudge(judge.config, judge.template, judge.special_tokens)
    empty = {text for text in {task.prompt for task in tasks} if not lm.encode_prompt(text)}
    asked = [task for task in tasks if task.prompt not in empty]
    members = iter(roll_out(lm, sampler, sampler_config, patient, asked))
    rollouts = [
        _nothing(lm, judge, task) if task.prompt in empty else next(members) for task in tasks
    ]
    if patient.errors:
        print(
            f"grpo: {len(patient.errors)} of {len(tasks)} outputs have no reward: "
            f"{patient.errors[0]}",
            file=sys.stderr,
        )
    return Rollouts.of(rollouts, group_size)


def _nothing(lm: LM, judge: Judge, task: Task) -> Rollout:
    """The rollout of an empty prompt: the engine has nothing to go on."""
    row = task.failed(judge, Outcome.engine_error, model=lm.hash, prompt_tokens=0)
    return Rollout(task, row, (), None)


_NO_LABEL = Label("pair_tie", {"winner": None})  # whatever is read, neither right nor wrong


@dataclass(frozen=True)
class _PatientJudge(Judge):
    """A judge that notes when the predicate raises, and leaves ``correct`` open."""

    errors: list[str] = field(default_factory=list)

    def read(
        self, item: Item, order: list[int], text: str, finish: str, thinks: bool = False
    ) -> Reading:
        try:
            return super().read(item, order, text, finish, thinks)
        except Exception as error:  # whatever a label or a reward of the user's own may raise
            self.errors.append(f"{item.id}: {type(error).__name__}: {error}")
        return super().read(replace(item, label=_NO_LABEL), order, text, finish, thinks)
