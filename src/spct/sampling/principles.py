"""Principles from the query alone (``judge.principles: query_only``): before any response is seen.

The model that will judge writes them once for each distinct query; they then stand in every prompt
of that query, as principles that were given. What it writes may hold more than was asked for: only
what follows ``Principles:`` (or everything, without that word) up to a critique or a box counts,
and nothing of its thoughts. Nothing left, an output that was cut off, or a query too long for the
prompt limit: the query has no principles and is judged as with ``principles: none``; manifests
count such queries.
Queries that the engine failed are asked for again when the stage is; should it fail no more than a
share of ``sampler.max_errors`` of them, the stage goes on and they have none for good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spct import artifact, thoughts
from spct.errors import StageStopped
from spct.finish import Outcome, meaning
from spct.judge.task import Judge, Task
from spct.lm import LM
from spct.records import Item, Sample
from spct.sampling.base import Completion, Request, Sampler, text_of
from spct.sampling.limits import LONGER, hold, prompt_limit
from spct.schema import SamplerConfig
from spct.seeds import derive

_MARKUP = r"[*_#\s]*"
_BEFORE = re.compile(rf"\bPrinciples{_MARKUP}:{_MARKUP}")
_AFTER = re.compile(rf"{_MARKUP}\b(?:Critique|Scores){_MARKUP}:|\$?\\boxed")


@dataclass(frozen=True)
class Wanted:
    """Principles to write: for the query of ``item``, drawn by ``seed`` at ``temperature``."""

    item: Item
    seed: int
    temperature: float


@dataclass(frozen=True)
class Written:
    """Principles as they will stand in a prompt (None if unreadable), and the tokens they cost.

    ``error``: why the engine wrote none.
    """

    text: str | None
    tokens: int
    error: str = ""


def query_of(item: Item) -> str:
    """What two items share if they ask the same: a hash of the whole conversation."""
    return artifact.text_hash(json.dumps(list(item.messages), sort_keys=True))


def read(text: str, finish: str, thinks: bool = False) -> str | None:
    """The principles in one completion; None if there are none (see the module).

    ``thinks``: the prompt ended within thoughts.
    """
    said = thoughts.answer(text, thinks)
    if said is None or not meaning(finish).read:
        return None
    start = _BEFORE.search(said)
    rest = said[start.end() :] if start else said
    end = _AFTER.search(rest)
    return (rest[: end.start()] if end else rest).strip() or None


def write(
    lm: LM, sampler: Sampler, config: SamplerConfig, judge: Judge, wanted: Sequence[Wanted]
) -> list[Written]:
    """Principles for every query wanted, in order."""
    limit = prompt_limit(lm, config)
    texts = [judge.principles_prompt(one.item) for one in wanted]
    prompts = [lm.encode_prompt(text) for text in texts]
    fits = [len(prompt) <= limit for prompt in prompts]
    completions = iter(
        sampler.sample(
            [
                Request(prompt, one.seed, one.temperature, text)
                for prompt, one, text, fit in zip(prompts, wanted, texts, fits, strict=True)
                if fit
            ]
        )
    )
    return [_note(lm, next(completions)) if fit else Written(None, 0) for fit in fits]


def _note(lm: LM, done: Completion) -> Written:
    known = meaning(done.finish)
    if known.outcome == Outcome.engine_error:
        return Written(None, 0, done.error or "no reason given")
    if known.lost:
        return Written(None, 0)
    return Written(read(text_of(lm, done), done.finish, lm.thinks), done.count)


class Notebook:
    """The principles of all queries of a shard, each written once and kept in files."""

    def __init__(self, judge: Judge, notes: dict[str, Written]) -> None:
        self.judge, self.notes = judge, notes

    @classmethod
    def fill(
        cls,
        folder: Path,
        lm: LM,
        sampler: Sampler,
        config: SamplerConfig,
        judge: Judge,
        items: Iterable[Item],
        *,
        seed: int,
        temperature: float,
    ) -> Notebook:
        """Read the files that stand in ``folder``, write the others, ``part_samples`` queries each.

        A query's draws depend on ``seed`` and its conversation alone. Nothing is written unless
        ``judge.principles`` is ``query_only``.
        """
        asked = judge.config.principles == "query_only"
        queries = list({query_of(item): item for item in items}.items()) if asked else []
        _hold(lm, config, judge, [item for _, item in queries])
        size = config.part_samples
        parts = {
            folder / f"principles-{start // size}.json": queries[start : start + size]
            for start in range(0, len(queries), size)
        }
        notes: dict[str, Written] = {}
        for path, part in parts.items():
            known = _read(path)
            due = [pair for pair in part if pair[0] not in known]
            wanted = [
                Wanted(item, derive(seed, "principles", key), temperature) for key, item in due
            ]
            written = write(lm, sampler, config, judge, wanted) if due else []
            known |= {key: note for (key, _), note in zip(due, written, strict=True)}
            if due:
                _write(path, known)
            notes |= known
        if any(note.error for note in notes.values()):
            _let_pass(notes, config)
            notes = {key: replace(note, error="") for key, note in notes.items()}
            for path, part in parts.items():
                _write(path, {key: notes[key] for key, _ in part})
        return cls(judge, notes)

    def __call__(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks by the principles of their queries; unchanged where none were written."""
        done = []
        for task in tasks:
            note = self.notes.get(query_of(task.item)) if self.notes else None
            done.append(task.with_principles(self.judge, note.text, note.tokens) if note else task)
        return done


def _hold(lm: LM, config: SamplerConfig, judge: Judge, items: Sequence[Item]) -> None:
    """Raises ``StageStopped`` if more queries are too long than ``judge.max_too_long`` allows."""
    limit = prompt_limit(lm, config)
    lengths = [len(lm.encode_prompt(judge.principles_prompt(item))) for item in items]
    long, allowed = sum(length > limit for length in lengths), judge.config.max_too_long
    cure = f"raise sampler.max_prompt_tokens, now {config.max_prompt_tokens}, or {LONGER}"
    hold("principles", long, len(items), allowed, f"queries exceed {limit} tokens", cure)


def _read(path: Path) -> dict[str, Written]:
    """The notes in a file by query; those that the engine failed are not in it."""
    rows = json.loads(path.read_text("utf-8")) if path.exists() else []
    return {key: Written(*note) for key, *note in rows}


def _write(path: Path, notes: dict[str, Written]) -> None:
    rows = [(key, note.text, note.tokens) for key, note in notes.items() if not note.error]
    artifact.write_json(path, rows)


def _let_pass(notes: dict[str, Written], config: SamplerConfig) -> None:
    """Raises ``StageStopped`` if more failed than may."""
    failed = [note for note in notes.values() if note.error]
    if len(failed) > config.max_errors * len(notes):
        raise StageStopped(
            f"the engine failed the principles of {len(failed)} of {len(notes)} queries "
            f"({failed[0].error}). The others are kept; run the same command again to ask for "
            "these alone, or let sampler.max_errors pass a share of them"
        )


def ledger(judge: Judge, items: Iterable[Item], rows: Iterable[Sample]) -> dict[str, Any]:
    """For a manifest: how many queries there were and how many got no readable principles.

    Empty unless ``judge.principles`` is ``query_only``.
    """
    if judge.config.principles != "query_only":
        return {}
    queries = {item.id: query_of(item) for item in items}
    without = {queries[row.item_id] for row in rows if row.principles is None}
    return {"principles": {"queries": len(set(queries.values())), "unreadable": len(without)}}
