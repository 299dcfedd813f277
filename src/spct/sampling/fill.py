"""Fills one bank shard: tasks to rows, in parts that survive a kill and are joined at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spct import artifact
from spct.judge.parse import Outcome
from spct.judge.task import Judge, Task
from spct.lm import LM
from spct.progress import Progress
from spct.records import Item, Sample, read_bank, write_bank
from spct.sampling.base import Completion, Request, Sampler, build
from spct.schema import SamplerConfig

PART_TASKS = 8192  # about this many samples are lost by a kill


def shard_of(items: Sequence[Item], shard: int, shards: int) -> Sequence[Item]:
    """The fixed contiguous range of items that shard number ``shard`` of ``shards`` holds."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} is not one of 0..{shards - 1}; check io.shard")
    return items[shard * len(items) // shards : (shard + 1) * len(items) // shards]


def fill(
    out: Path,
    lm: LM,
    sampler_config: SamplerConfig,
    judge: Judge,
    items: Sequence[Item],
    make: Callable[[Item], list[Task]],
    *,
    name: str,
    identity: dict[str, Any],
    **manifest: Any,
) -> None:
    """Sample every task of every item and write the shard; finished parts are not sampled again.

    ``identity`` (seed, config, inputs) names the work: parts of another identity are thrown away.
    """
    parts = out.with_name(f"{out.name}.parts")
    _check_identity(parts, {**identity, "model": lm.hash, "template": judge.template.hash})
    sampler = build(lm, sampler_config)
    started, sampled, paths = time.monotonic(), 0, []
    chunks = list(_chunks(items, make))
    with Progress(name, sum(map(len, chunks)), unit="samples") as bar:
        for number, chunk in enumerate(chunks):
            path = parts / f"{number}.parquet"
            paths.append(path)
            if not path.exists():
                rollouts = roll_out(lm, sampler, sampler_config, judge, chunk)
                write_bank(path, [rollout.row for rollout in rollouts])
                sampled += len(chunk)
            bar.add(len(chunk))
    rows = list(read_bank(paths))
    write_bank(out, rows, params=lm.params, model=lm.hash, template=judge.template.hash, **manifest)
    seconds = time.monotonic() - started
    tokens = sum(row.completion_tokens for row in rows)
    artifact.write_timing(out, seconds=seconds, samples=sampled, completion_tokens=tokens)
    shutil.rmtree(parts)


def _check_identity(parts: Path, identity: dict[str, Any]) -> None:
    note = parts / "identity.json"
    text = artifact.text_hash(repr(sorted(identity.items())))
    if not note.is_file() or note.read_text() != text:
        shutil.rmtree(parts, ignore_errors=True)
        artifact.write_text(note, text)


def _chunks(items: Sequence[Item], make: Callable[[Item], list[Task]]) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    for item in items:
        chunk += make(item)
        if len(chunk) >= PART_TASKS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@dataclass(frozen=True)
class Rollout:
    """A task, its bank row, and the tokens behind it (no completion if the prompt was too long)."""

    task: Task
    row: Sample
    prompt: tuple[int, ...]
    completion: Completion | None


def roll_out(
    lm: LM, sampler: Sampler, config: SamplerConfig, judge: Judge, tasks: Sequence[Task]
) -> list[Rollout]:
    """Rollouts for tasks, in order; prompts over the limit become ``prompt_too_long`` rows."""
    encoded = {text: lm.encode_prompt(text) for text in dict.fromkeys(t.prompt for t in tasks)}
    fits = [len(encoded[task.prompt]) <= config.max_prompt_tokens for task in tasks]
    requests = [
        Request(encoded[task.prompt], task.seed, task.temperature)
        for task, fit in zip(tasks, fits, strict=True)
        if fit
    ]
    completions = iter(sampler.sample(requests))
    result = []
    for task, fit in zip(tasks, fits, strict=True):
        prompt = encoded[task.prompt]
        completion = next(completions) if fit else None
        result.append(
            Rollout(task, _row(lm, judge, task, completion, len(prompt)), prompt, completion)
        )
    return result


def _row(
    lm: LM, judge: Judge, task: Task, completion: Completion | None, prompt_tokens: int
) -> Sample:
    if completion is None:
        return task.failed(
            judge, Outcome.prompt_too_long, model=lm.hash, prompt_tokens=prompt_tokens
        )
    return task.row(
        judge,
        model=lm.hash,
        prompt_tokens=prompt_tokens,
        text=str(lm.tokenizer.decode(completion.ids, skip_special_tokens=False)),
        finish=completion.finish,
        completion_tokens=len(completion.logprobs),
        logprob=completion.logprob,
    )
