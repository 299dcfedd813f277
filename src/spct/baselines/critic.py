"""The critic of CLoud (Ankner et al. 2024, arXiv 2408.11791): it writes and gives no grade.

It is the base, tuned on critiques of single responses. The paper (App. C.2) has them from the model
that samples the trajectories of RFT; here that is the base. It judges every response alone, with a
grade, and the critiques of an item are kept, without their grades, if the grades find its best
response. (The paper cannot reject critiques, since its own come without a grade; that ours are
chosen favours this baseline.) As in CLoud, the scalar is learnt on critiques that the tuned critic
writes itself, so that training and use see the same text.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spct import artifact, lm, seeds
from spct.config import Slice
from spct.errors import StageStopped
from spct.finish import meaning
from spct.judge.predicate import correct
from spct.judge.task import Judge, Task, tasks
from spct.records import Item, Label, Sample
from spct.rft.train import loss
from spct.sampling import base
from spct.sampling.fill import sample_parts
from spct.tracking import MetricsLog
from spct.training import held, whole
from spct.training.batching import Example
from spct.training.checkpoint import Checkpoint
from spct.training.precision import Precision
from spct.training.supervised import fit
from spct.training.world import World

FOLDER = "critic"
_ANNOUNCED = re.compile(r"[\s*#_]*(?:\bscores?\b[\s:*#_]*)?\Z", re.IGNORECASE)
Rows = dict[str, list[list[Sample]]]
"""By item, response and sample."""


def alone(item: Item) -> list[Item]:
    """Each response as an item of its own, which is neither right nor wrong."""
    nothing = Label("correct", [False])
    return [
        replace(item, id=f"{item.id}#{place}", responses=(response,), label=nothing)
        for place, response in enumerate(item.responses)
    ]


def without_grade(text: str) -> str:
    """A judgement up to its last box, and to the word before it that announces scores."""
    before, box, _ = text.rpartition("\\boxed")
    return _ANNOUNCED.sub("", before) if box else text


@dataclass(frozen=True)
class Writer:
    """A model that writes about responses one by one; ``answer`` is what it is asked for."""

    cfg: Slice
    text: lm.LM
    answer: str  # scores | critique
    world: World

    @property
    def judge(self) -> Judge:
        """Its prompts: one response, a grade on the judge's scale or none."""
        config = replace(self.cfg.judge, single="rating", answer=self.answer)
        return Judge.build(config, self.text.marks)

    def write(self, name: str, items: Sequence[Item], count: int, parts: Path, seed: int) -> Rows:
        """``count`` texts about each response; what stands in ``parts`` is not sampled again."""
        judge, spec, world = self.judge, self.cfg.baseline, self.world
        own = [one for item in items for one in alone(item)][world.rank :: world.size]

        def make(item: Item) -> list[Task]:
            return tasks(judge, item, "sample", count, seed=seed, temperature=spec.temperature)

        rows = sample_parts(
            parts / f"{world.rank}-{world.size}",
            self.text,
            self.cfg.sampler,
            judge,
            own,
            make,
            name=name,
            stage_seed=seed,
            temperature=spec.temperature,
            identity={
                "seed": seed,
                "count": count,
                "items": artifact.text_hash(repr(own)),
                "cfg": [
                    asdict(replace(judge.config, max_too_long=0.0)),
                    *(base.wanted(self.cfg.sampler), spec.temperature),
                ],
            },
        )
        found: dict[str, list[Sample]] = defaultdict(list)
        for row in sorted((r for part in world.gather(rows) for r in part), key=lambda r: r.sample):
            found[row.item_id].append(row)
        return {item.id: [found[one.id] for one in alone(item)] for item in items}


def load(cfg: Slice, folder: str | Path = "") -> lm.LM:
    """The base, or the critic in a folder; its weights only if the sampler takes them from here."""
    return lm.load(cfg.model, folder, weights=base.needs_weights(cfg.sampler))


def learn(cfg: Slice, items: Sequence[Item], work: Path, world: World, seed: int) -> dict[str, int]:
    """Tune the critic and leave it in ``work / "critic"``, unless it is there; counts of items.

    Raises ``StageStopped`` with the counts if no critique is kept.
    """
    out = work / FOLDER
    if not world.from_main((out / artifact.MANIFEST).is_file()):
        examples, ledger = _taught(cfg, items, work / "teacher", world, seed)
        if not examples:
            raise StageStopped(
                f"cloud {cfg.model.name}: no critique of {len(items)} items is kept ({ledger})"
            )
        _fit(cfg, examples, out, world, seed, ledger)
    ledger = artifact.read_manifest(out)["ledger"]
    return dict(ledger)


def teaches(item: Item) -> bool:
    """Whether the grades of its responses can be right: several of them, one the best."""
    return item.n > 1 and not item.label.undecided


def _taught(
    cfg: Slice, items: Sequence[Item], parts: Path, world: World, seed: int
) -> tuple[list[Example], dict[str, int]]:
    teacher = Writer(cfg, load(cfg), "scores", world)
    name, place = f"critiques {cfg.model.name}", seeds.derive(seed, "cloud teacher")
    able = [item for item in items if teaches(item)]
    examples, ledger = kept(teacher, able, teacher.write(name, able, 1, parts, place))
    return examples, {**ledger, "no_best": len(items) - len(able)}


def kept(
    teacher: Writer, items: Sequence[Item], rows: Rows
) -> tuple[list[Example], dict[str, int]]:
    """Prompts that ask for a critique, critiques to learn, and what came of the items."""
    ledger: Counter[str] = Counter()
    critic = replace(teacher, answer="critique").judge
    examples = []
    for item in items:
        given = [samples[0] for samples in rows[item.id]]
        if any(row.scores is None or not meaning(row.finish).read for row in given):
            ledger["invalid"] += 1
        elif not correct([row.scores[0] for row in given if row.scores], item.label):
            ledger["wrong"] += 1
        else:
            ledger["kept"] += 1
            examples += [
                teacher.text.example(critic.prompt(one, [0]), without_grade(row.text))
                for one, row in zip(alone(item), given, strict=True)
            ]
    return examples, dict(sorted(ledger.items()))


def _fit(
    cfg: Slice,
    examples: Sequence[Example],
    out: Path,
    world: World,
    seed: int,
    ledger: Mapping[str, int],
) -> None:
    precision = Precision.of(cfg.model.dtype, world.device)
    model = lm.load(cfg.model, dtype=precision.weights, place=world.loads_on)
    held.check(model.model, model.source, max(map(len, examples)))
    told: dict[str, Any] = {"policy": FOLDER, "size": cfg.model.name, "params": model.params}
    identity = {
        "stage": FOLDER,
        "seed": seed,
        "model": [model.hash, asdict(cfg.model)],
        "examples": artifact.text_hash(repr(list(examples))),
        "cfg": asdict(cfg.baseline),
    }
    checkpoint = Checkpoint(out, identity)
    log = MetricsLog(checkpoint.folder / "metrics.jsonl")
    fit(
        f"critic {cfg.model.name}",
        model.model,
        examples,
        loss(examples),
        replace(cfg.baseline, epochs=cfg.baseline.critic_epochs),
        checkpoint,
        log,
        seed=seeds.derive(seed, FOLDER),
        world=world,
        precision=precision,
    )
    state = whole.weights(model.model, world)

    def write() -> None:
        told["ledger"] = dict(ledger)
        with artifact.atomic_dir(out, stage="baseline", seed=seed, **told) as folder:
            whole.save_pretrained(model.model, folder, state, precision)
            model.tokenizer.save_pretrained(folder)
            shutil.copyfile(log.path, folder / "metrics.jsonl")
        checkpoint.clear()

    world.on_main(write)
