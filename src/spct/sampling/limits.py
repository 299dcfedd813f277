"""What is too long: decided and told before anything is sampled or learnt.

A few long prompts cost a few judgements. Where more than a share of ``judge.max_too_long`` does not
fit, the stage stops: what it made would be a result about the short ones, or about nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from spct.errors import ConfigError, StageStopped
from spct.judge.task import Task
from spct.lm import LM
from spct.schema import SamplerConfig

_NAMED = 5
_KEY = "judge.max_too_long"
_SHORTER = "leave out the long items (max_chars of a source)"
LONGER = f"take a model with a longer context, or {_SHORTER}"


def prompt_limit(lm: LM, config: SamplerConfig) -> int:
    """The most tokens a prompt may have: as configured, less if the model's context is short.

    Raises ``ConfigError`` if the completion alone fills the context.
    """
    if lm.context is None:
        return config.max_prompt_tokens
    room = lm.context - config.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"sampler.max_new_tokens: {config.max_new_tokens} leave no room for a prompt in the "
            f"model's context of {lm.context}"
        )
    return min(config.max_prompt_tokens, room)


def survey(name: str, lm: LM, config: SamplerConfig, tasks: Iterable[Task], allowed: float) -> int:
    """Count the tasks, and say on stderr how many prompts are too long and of which items.

    Raises ``StageStopped`` if they are more than a share of ``allowed``.
    """
    limit, count, long, longest = prompt_limit(lm, config), 0, 0, 0
    items: dict[str, None] = {}
    lengths: dict[str, int] = {}
    for task in tasks:
        count += 1
        if len(lengths) > 1000:  # an item's tasks come together
            lengths.clear()
        if task.prompt not in lengths:
            lengths[task.prompt] = len(lm.encode_prompt(task.prompt))
        if lengths[task.prompt] > limit:
            long += 1
            longest = max(longest, lengths[task.prompt])
            items.setdefault(task.item.id)
    if long:
        named = ", ".join(list(items)[:_NAMED]) + (", …" if len(items) > _NAMED else "")
        what = f"prompts, of {len(items)} items, exceed {limit} tokens"
        hold(name, long, count, allowed, what, _cure(lm, config, longest))
        told = f"{name}: {long} of {count} {what} and become prompt_too_long: {named}"
        print(told, file=sys.stderr)
    return count


def _cure(lm: LM, config: SamplerConfig, longest: int) -> str:
    """Which key or property of the model sets the limit, and what would let ``longest`` pass."""
    room = None if lm.context is None else lm.context - config.max_new_tokens
    if room is None or longest <= room:
        return (
            f"sampler.max_prompt_tokens is {config.max_prompt_tokens} and the longest has "
            f"{longest}: raise it, or {_SHORTER}"
        )
    return (
        f"the longest has {longest} and the model's max_position_embeddings of {lm.context} leave "
        f"{room} beside sampler.max_new_tokens={config.max_new_tokens}, "
        f"sampler.max_prompt_tokens is {config.max_prompt_tokens}: {LONGER}"
    )


def hold(name: str, long: int, total: int, allowed: float, what: str, cure: str) -> None:
    """Raises ``StageStopped`` if more than a share of ``allowed`` is too long."""
    if long > allowed * total:
        raise StageStopped(
            f"{name}: {long} of {total} {what}, more than {_KEY}={allowed:g} lets pass; {cure}; or "
            f"raise {_KEY}"
        )


def refused(name: str, long: int, total: int, allowed: float, parts: object) -> None:
    """Raises ``StageStopped`` if an endpoint, whose limit is its own, refused too many prompts."""
    what = "prompts were refused by the endpoint for their length"
    cure = f"serve the model with a longer context and delete {parts}, or {_SHORTER}"
    hold(name, long, total, allowed, what, cure)


def fitting(name: str, lm: LM, lengths: Sequence[int], allowed: float, cure: str) -> list[bool]:
    """For sequences to learn from or to score, by their tokens: whether each fits the model.

    Says how many do not. Raises ``StageStopped`` as :func:`hold` does.
    """
    fits = [lm.context is None or length <= lm.context for length in lengths]
    if long := fits.count(False):
        what = f"texts exceed the model's max_position_embeddings of {lm.context}"
        hold(name, long, len(fits), allowed, what, f"the longest has {max(lengths)}: {cure}")
        print(f"{name}: {long} of {len(fits)} {what} and are left out", file=sys.stderr)
    return fits
