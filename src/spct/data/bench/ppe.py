"""PPE (lmarena-ai/PPE-*): crowd battles, and pairs of a right and a wrong response.

Neither was at hand: both loaders have been run on rows written by hand, not on the real files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spct.benchmarks import PPE_CORRECTNESS, PPE_PREFERENCE
from spct.benchmarks.ppe import PREFERENCE
from spct.data.bench.fields import Row, identity, known, load, text
from spct.data.reading import Dropped
from spct.data.sources.base import BadRow, user
from spct.records import Item, Label
from spct.schema import SourceConfig

_WINNER = {"model_a": 0, "model_b": 1}


def preference(paths: Sequence[Path], config: SourceConfig) -> Iterator[Item | Dropped]:
    """Rows ``question_id, model_a, model_b, winner, prompt, response_1, response_2, …``.

    Any winner but ``model_a`` and ``model_b`` is a tie, and kept: the official count has them.
    """

    def build(row: Row, where: str) -> Iterator[Item]:
        winner = text(row, "winner")
        about = {"winner": winner, "models": [row.get("model_a"), row.get("model_b")]}
        yield Item(
            id=f"{config.name}/{identity(row, 'question_id')}",
            dataset=PPE_PREFERENCE.name,
            subset=PREFERENCE,
            domain=str(row.get("language") or PREFERENCE),
            messages=user(text(row, "prompt")),
            responses=(text(row, "response_1"), text(row, "response_2")),
            label=Label("pair_tie", {"winner": _WINNER.get(winner), "strength": None}),
            meta=about,
        )

    return load(paths, config, build)


def correctness(paths: Sequence[Path], config: SourceConfig) -> Iterator[Item | Dropped]:
    """Rows ``question_id, model_name, prompt, scores, sampled_conflict_pairs, response_1 …``.

    An item for each pair of a row, which is a question answered by one model: the same question may
    come again with another; ``options.subset`` says which of the five sets the files are. Raises
    :class:`spct.errors.ConfigError` for another.
    """
    option = str(config.options.get("subset", ""))
    sets = PPE_CORRECTNESS.official
    subset = known(option, sets, "options.subset", f"bench_source {config.name}")

    def build(row: Row, where: str) -> Iterator[Item]:
        question, model = identity(row, "question_id"), row.get("model_name")
        name = "/".join(str(part) for part in (config.name, question, model) if part is not None)
        pairs, scores = row.get("sampled_conflict_pairs"), row.get("scores")
        if not isinstance(pairs, list) or not isinstance(scores, list):
            raise BadRow("bad_row", "scores or sampled_conflict_pairs is not a list")
        for place, pair in enumerate(pairs):
            left, right = _ends(pair, scores)
            yield Item(
                id=f"{name}/{place}",
                dataset=PPE_CORRECTNESS.name,
                subset=subset,
                domain=subset,
                messages=user(text(row, "prompt")),
                responses=(text(row, f"response_{left + 1}"), text(row, f"response_{right + 1}")),
                label=Label("best", int(scores[right] > scores[left])),
                meta={
                    **{"question_id": question, "model": model},
                    **{"pairs": len(pairs), "pair": [left, right]},
                },
            )

    return load(paths, config, build)


def _ends(pair: Any, scores: list[Any]) -> tuple[int, int]:
    """The two responses of a pair, one right and one wrong."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise BadRow("bad_row", "a conflict pair is not two places")
    left, right = pair
    if not all(isinstance(end, int) and 0 <= end < len(scores) for end in pair):
        raise BadRow("no_label", f"the pair {pair} names no score")
    if scores[left] == scores[right]:
        raise BadRow("tie", f"the pair {pair} has equal scores")
    return left, right
