"""Stage ``recast``: benchmark items in another form, judged by the policies of an unchanged run.

``pairs`` shows every list of responses as its best against each other one (arXiv 2504.02495, Table
11; RMB's best-of-N is right if all of these pairs are). ``reference`` puts an ideal answer beside a
toy item (Table 12): the best evidence on every criterion that its query implies, but not how much
each weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spct import seeds
from spct.config import ConfigError, Slice
from spct.data import toy
from spct.errors import StageStopped
from spct.records import Item, Label, read_items, write_items

GROUP = "list"  # in the meta of a pair: the id of the list that it is of


def run(cfg: Slice, seed: int, *, items: Path, out: Path) -> None:
    """Write the items in the form of ``recast.form``, those that have none left out.

    Raises :class:`~spct.errors.ConfigError` without a form and
    :class:`~spct.errors.StageStopped` if no item has it.
    """
    form = cfg.recast.form
    if form not in FORMS:
        raise ConfigError(f"recast.form: {form!r} is not one of {', '.join(FORMS)}")
    made = [new for item in read_items(items) for new in FORMS[form](item, seed)]
    if not made:
        raise StageStopped(f"recast: no item of {items} can be put into the form {form!r}")
    write_items(out, made, stage="recast", seed=seed, role="bench")


def pairs(item: Item, seed: int = 0) -> Iterator[Item]:
    """The best of more than two responses against each other one, in the order of the list.

    ``meta[GROUP]`` is the list's id. Other items have no pairs. ``seed`` is not used.
    """
    if item.n <= 2 or item.label.kind != "best":
        return
    best = item.label.value
    for other in (i for i in range(item.n) if i != best):
        shown = sorted((best, other))
        yield replace(
            item,
            id=f"{item.id}/{other}",
            responses=tuple(item.responses[i] for i in shown),
            label=Label("best", shown.index(best)),
            meta={**_meta_of(item, shown), GROUP: item.id},
        )


def _meta_of(item: Item, shown: list[int]) -> dict[str, Any]:
    """The meta of a list, what it holds for each response cut down to those shown."""
    return {
        key: [value[i] for i in shown]
        if isinstance(value, list) and len(value) == item.n
        else value
        for key, value in item.meta.items()
    }


def reference(item: Item, seed: int) -> Iterator[Item]:
    """A toy item with an ideal answer, its words drawn by (seed, item); others have none."""
    weights = item.meta.get("weights")
    if item.n < 2 or not isinstance(weights, dict) or not set(weights) <= set(toy.EVIDENCE):
        return
    draw, best = seeds.rng(seed, "recast reference", item.id), max(toy.LEVELS)
    words = [str(draw.choice(toy.EVIDENCE[criterion][best])) for criterion in weights]
    yield replace(item, reference=" ".join(words))


FORMS: dict[str, Callable[[Item, int], Iterator[Item]]] = {"pairs": pairs, "reference": reference}
