"""Critique-then-scalar (CLoud): a response is scored after a critique of it has been sampled.

Two models, as in the paper (App. C.2): the :mod:`critic <spct.baselines.critic>` writes, a separate
scalar model reads prompt, response and critique. The scalar is that of Bradley and Terry, fitted by
:mod:`spct.baselines.btrm` on responses that carry a critique. Voting is the mean over critiques.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spct import seeds
from spct.baselines import btrm, critic
from spct.baselines.encoding import Encoder, together
from spct.baselines.rows import Scored
from spct.config import Slice
from spct.finish import meaning
from spct.metarm.model import MetaRM
from spct.records import Item, Sample
from spct.training.groups import Group
from spct.training.world import World


@dataclass(frozen=True)
class Critiqued(Encoder):
    """Reads responses with a critique each: the critic's prompt, what it wrote, the end.

    Both by item, one a response. A critique that did not end itself stands without an end.
    """

    prompts: Mapping[str, Sequence[tuple[int, ...]]]
    critiques: Mapping[str, Sequence[Sample]]

    def responses(self, item: Item) -> Group:
        """As :meth:`Encoder.responses`."""
        both = zip(self.prompts[item.id], self.critiques[item.id], strict=True)
        return together(
            [
                (*prompt, *self.text.encode_completion(row.text, ended=meaning(row.finish).end))
                for prompt, row in both
            ]
        )


def learn(
    cfg: Slice,
    train: Sequence[Item],
    dev: Sequence[Item],
    rm: MetaRM,
    work: Path,
    world: World,
    seed: int,
) -> tuple[Critiqued, dict[str, int]]:
    """Tune the critic on ``train``, in ``work``, and let it write once about what is read next.

    What the scalar learns from, and what came of the items the critic could learn from.
    """
    ledger = critic.learn(cfg, train, work, world, seed)
    writer = critic.Writer(cfg, critic.load(cfg, work / critic.FOLDER), "critique", world)
    name, place = f"own critiques {cfg.model.name}", seeds.derive(seed, "cloud critiques")
    items = [*filter(critic.teaches, train), *dev]
    rows = writer.write(name, items, 1, work / "own", place)
    return next(_readers(writer, rm, items, rows)), ledger


def sampled(
    name: str,
    cfg: Slice,
    items: Sequence[Item],
    rm: MetaRM,
    folder: Path,
    work: Path,
    world: World,
    seed: int,
) -> Iterator[Scored]:
    """Rows of ``baseline.k_max`` critiques of every response, by the baseline in ``folder``."""
    writer = critic.Writer(cfg, critic.load(cfg, folder / critic.FOLDER), "critique", world)
    count, place = cfg.baseline.k_max, seeds.derive(seed, "cloud judge")
    rows = writer.write(f"{name}, critiques", items, count, work, place)
    for sample, reader in enumerate(_readers(writer, rm, items, rows)):
        title = f"{name}, critique {sample + 1} of {count}"
        for row in btrm.score(title, rm.model, reader, items, cfg.baseline.micro_tokens, world):
            mine = reader.critiques[row.item_id]
            yield replace(
                row,
                sample=sample,
                prompt_tokens=sum(one.prompt_tokens for one in mine),
                completion_tokens=sum(one.completion_tokens for one in mine),
            )


def _readers(
    writer: critic.Writer, rm: MetaRM, items: Sequence[Item], rows: critic.Rows
) -> Iterator[Critiqued]:
    """A reader of the first critique of every response, of the second, and so on."""
    judge = writer.judge
    prompts = {
        item.id: [rm.text.encode_prompt(judge.prompt(one, [0])) for one in critic.alone(item)]
        for item in items
    }
    for sample in range(len(rows[items[0].id][0]) if items else 0):
        chosen = {name: [one[sample] for one in responses] for name, responses in rows.items()}
        yield Critiqued(rm.text, judge, prompts, chosen)
