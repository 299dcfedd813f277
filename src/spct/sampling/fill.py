"""Fills one bank shard: tasks to rows, in parts that survive a kill and are joined at the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spct import artifact
from spct.finish import Finish, Outcome, meaning
from spct.judge.task import Judge, Task
from spct.lm import LM
from spct.progress import Progress
from spct.records import Item, Sample, read_bank, write_bank
from spct.sampling.base import Completion, Request, Sampler, build, text_of
from spct.sampling.limits import prompt_limit, refused, survey
from spct.sampling.parts import (
    Answer,
    Failures,
    check_identity,
    chunks,
    metered,
    note_spending,
    parts_of,
    sample_part,
    stands,
)
from spct.sampling.principles import Notebook, ledger
from spct.schema import SamplerConfig


def fill(
    out: Path,
    lm: LM,
    sampler_config: SamplerConfig,
    judge: Judge,
    items: Sequence[Item],
    make: Callable[[Item], list[Task]],
    *,
    name: str,
    stage_seed: int,
    temperature: float,
    identity: dict[str, Any],
    **manifest: Any,
) -> None:
    """Sample every task of every item and write the shard.

    ``stage_seed`` and ``temperature`` are for principles written beforehand, if any.
    """
    started = time.monotonic()
    rows = sample_parts(
        parts_of(out),
        lm,
        sampler_config,
        judge,
        items,
        make,
        name=name,
        stage_seed=stage_seed,
        temperature=temperature,
        identity=identity,
    )
    facts = {**describe(lm, judge), **ledger(judge, items, rows)}
    write_bank(out, rows, model=lm.hash, **facts, **manifest)
    tokens = sum(row.completion_tokens for row in rows)
    seconds = time.monotonic() - started
    artifact.write_timing(out, seconds=seconds, samples=len(rows), completion_tokens=tokens)
    shutil.rmtree(parts_of(out))


def describe(lm: LM, judge: Judge) -> dict[str, Any]:
    """What a bank's manifest says of model and prompt: enough to show any prompt, with items."""
    return {
        "params": lm.params or None,
        "tokenizer": lm.tokenizer_hash or None,
        "template": judge.template.hash,
        "template_text": judge.template.text,
        "special_tokens": sorted(judge.special_tokens),
    }


def sample_parts(
    parts: Path,
    lm: LM,
    sampler_config: SamplerConfig,
    judge: Judge,
    items: Sequence[Item],
    make: Callable[[Item], list[Task]],
    *,
    name: str,
    stage_seed: int,
    temperature: float,
    identity: dict[str, Any],
) -> list[Sample]:
    """All rows of the items, sampled in parts; a row that stands is not sampled again.

    ``identity`` (seed, config, inputs) names the work: parts of another identity are thrown away.
    Raises ``StageStopped`` if more than ``judge.max_too_long`` of the prompts are too long, before
    anything is sampled where lengths are known here. Also if the engine failed more than a share
    of ``sampler.max_errors``, its budget is spent or it is down; what it answered is kept.
    """
    allowed = judge.config.max_too_long
    total = survey(name, lm, sampler_config, (t for item in items for t in make(item)), allowed)
    check_identity(parts, {**identity, "model": lm.hash, "template": judge.template.hash})
    sampler = build(lm, sampler_config)
    with metered(parts, sampler):
        informed = Notebook.fill(
            parts,
            lm,
            sampler,
            sampler_config,
            judge,
            items,
            seed=stage_seed,
            temperature=temperature,
        )
        if informed.notes:  # they stand in the prompts
            every = (task for item in items for task in informed(make(item)))
            survey(name, lm, sampler_config, every, allowed)
        failures = Failures(name, total, sampler_config.max_errors)

        def ask(tasks: list[Task]) -> list[Answer]:
            rollouts = roll_out(lm, sampler, sampler_config, judge, informed(tasks))
            return [(rollout.row, rollout.error) for rollout in rollouts]

        paths, long = [], 0
        with Progress(name, len(items), unit="items") as bar:
            parted = chunks(items, make, sampler_config.part_samples)
            for number, (count, tasks) in enumerate(parted):
                paths.append(path := parts / f"{number}.parquet")
                if stands(path):
                    print(f"{name}: part {number} stands", file=sys.stderr)
                else:
                    answers = sample_part(path, tasks, ask)
                    failures.add(answers)
                    note_spending(parts, sampler)
                    failures.check(sampler)
                    long += sum(row.outcome == Outcome.prompt_too_long for row, _ in answers)
                    refused(name, long, total, allowed, parts)
                bar.add(count)
    rows = list(read_bank(paths))
    failures.settle(sum(row.outcome == Outcome.engine_error for row in rows))
    long = sum(row.outcome == Outcome.prompt_too_long for row in rows)
    refused(name, long, total, allowed, parts)
    return rows


@dataclass(frozen=True)
class Rollout:
    """A task, its bank row, and the tokens behind it.

    No completion if nothing came back: the prompt was too long, or the engine failed by ``error``.
    """

    task: Task
    row: Sample
    prompt: tuple[int, ...]
    completion: Completion | None
    error: str = ""


def roll_out(
    lm: LM, sampler: Sampler, config: SamplerConfig, judge: Judge, tasks: Sequence[Task]
) -> list[Rollout]:
    """Rollouts for tasks, in order.

    Prompts over the limit become ``prompt_too_long`` rows, those that the engine failed
    ``engine_error`` rows.
    """
    limit = prompt_limit(lm, config)
    encoded = {text: lm.encode_prompt(text) for text in dict.fromkeys(t.prompt for t in tasks)}
    fits = [len(encoded[task.prompt]) <= limit for task in tasks]
    requests = [
        Request(
            encoded[task.prompt],
            task.seed,
            task.temperature,
            task.prompt,
            judge.box(task.item) if config.force_scores else None,
        )
        for task, fit in zip(tasks, fits, strict=True)
        if fit
    ]
    completions = iter(sampler.sample(requests))
    result = []
    for task, fit in zip(tasks, fits, strict=True):
        completion = next(completions) if fit else _TOO_LONG
        result.append(_rollout(lm, judge, task, encoded[task.prompt], completion))
    return result


_TOO_LONG = Completion((), (), Finish.too_long)


def _rollout(
    lm: LM, judge: Judge, task: Task, prompt: tuple[int, ...], completion: Completion
) -> Rollout:
    told = completion.prompt_tokens
    tokens = len(prompt) if told is None else told
    known = meaning(completion.finish)
    if known.lost and known.outcome:
        row = task.failed(judge, known.outcome, model=lm.hash, prompt_tokens=tokens)
        return Rollout(task, row, prompt, None, completion.error)
    row = task.row(
        judge,
        model=lm.hash,
        prompt_tokens=tokens,
        thinks=lm.thinks,
        text=text_of(lm, completion),
        finish=completion.finish,
        completion_tokens=completion.count,
        logprob=completion.logprob,
    )
    return Rollout(task, row, prompt, completion)
