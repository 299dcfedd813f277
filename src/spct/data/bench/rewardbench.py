"""RewardBench v1 (allenai/reward-bench, split ``filtered``), and its math-prm subset by itself.

Order of the responses: chosen, rejected; it gives the answer away. The filtered split was not at
hand: its loader has been run on rows written by hand, not on the real file. ``math_prm`` reads the
subset as kimsh0507/RewardMATH_official keeps it, two rows a problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from spct.benchmarks import REWARDBENCH
from spct.data.bench.fields import Row, choice, identity, known, load, marked, text
from spct.data.reading import Dropped, rows
from spct.data.sources.base import BadRow, user
from spct.records import Item, Label
from spct.schema import SourceConfig

NAME = REWARDBENCH.name
_SECTION = {
    cell: section
    for section, terms in REWARDBENCH.parts.items()
    for term in terms
    for cell in term.cells
}
MATH = "math-prm"


def pairs(paths: Sequence[Path], config: SourceConfig) -> Iterator[Item | Dropped]:
    """Rows ``prompt, chosen, chosen_model, rejected, rejected_model, subset, id``.

    Raises :class:`spct.errors.ConfigError` for a subset that RewardBench does not have.
    """

    def build(row: Row, where: str) -> Iterator[Item]:
        subset = known(text(row, "subset"), _SECTION, "subset", where)
        models = [row.get("chosen_model"), row.get("rejected_model")]
        name = f"{config.name}/{subset}/{identity(row, 'id')}"
        responses = (text(row, "chosen"), text(row, "rejected"))
        yield _pair(name, subset, text(row, "prompt"), responses, models=models)

    return load(paths, config, build)


def math_prm(paths: Sequence[Path], config: SourceConfig) -> Iterator[Item | Dropped]:
    """Rows ``problem, eval_solution (steps), subject, level, problem_id, solution_type``.

    A problem without both its solutions is dropped (``no_pair``).
    """
    for path in paths:
        waiting: dict[str, tuple[str, Row, str]] = {}
        for found in rows(path):
            if isinstance(found, Dropped):
                yield found
                continue
            where, row = found
            try:
                which = choice(row, "solution_type", {"chosen": 0, "rejected": 1})
                problem, solution = identity(row, "problem_id"), _steps(row)
                other = waiting.pop(f"{problem}/{1 - which}", None)
                if other is None:
                    waiting[f"{problem}/{which}"] = (where, row, solution)
                    continue
                both = (solution, other[2]) if which == 0 else (other[2], solution)
                about = {"subject": row.get("subject"), "level": row.get("level")}
                item = _pair(f"{config.name}/{problem}", MATH, text(row, "problem"), both, **about)
                item = marked(item, config)
            except BadRow as error:
                yield Dropped(where, error.reason, error.detail)
                continue
            yield item
        for where, _, _ in waiting.values():
            yield Dropped(where, "no_pair", "the problem's other solution is missing")


def _pair(name: str, subset: str, prompt: str, responses: tuple[str, str], **about: object) -> Item:
    return Item(
        id=name,
        dataset=NAME,
        subset=subset,
        domain=_SECTION[subset],
        messages=user(prompt),
        responses=responses,
        label=Label("best", 0),
        meta={key: value for key, value in about.items() if value is not None},
    )


def _steps(row: Row) -> str:
    steps = row.get("eval_solution")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise BadRow("bad_row", "eval_solution is not a list of steps")
    return "\n".join(steps)
