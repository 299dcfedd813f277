"""From item to judging task, from completion to bank row: the one road for every stage."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from spct.data.order import display_order, to_original
from spct.judge import parse, prompts
from spct.judge.predicate import correct
from spct.records import Item, Kind, Sample
from spct.schema import JudgeConfig
from spct.seeds import derive


@dataclass(frozen=True)
class Judge:
    """Template and settings of a judge, and the special tokens its prompts must not contain."""

    config: JudgeConfig
    template: prompts.Template
    special_tokens: tuple[str, ...] = ()

    @classmethod
    def build(cls, config: JudgeConfig, special_tokens: Collection[str] = ()) -> Judge:
        return cls(config, prompts.load(config.template), tuple(special_tokens))

    def prompt(self, item: Item, order: list[int], hint: int | None = None) -> str:
        """The prompt with the responses in that order; ``hint`` is an original index.

        With ``principles: given`` those of ``item.meta["principles"]`` stand in it; ``ValueError``
        if the item has none.
        """
        given = item.meta.get("principles") if self.config.principles == "given" else None
        if self.config.principles == "given" and not given:
            raise ValueError(f"judge.principles is given, but item {item.id} has none in its meta")
        return prompts.render(
            self.template,
            item,
            order,
            principles=self.config.principles,
            output=prompts.output_kind(item, self.config.single),
            score_min=self.config.score_min,
            score_max=self.config.score_max,
            hint=hint,
            given=given,
            special_tokens=self.special_tokens,
        )

    def read(self, item: Item, order: list[int], text: str, finish: str) -> Reading:
        """Outcome, scores in the original order and correctness of one completion."""
        output = prompts.output_kind(item, self.config.single)
        low, high = prompts.score_range(output, self.config.score_min, self.config.score_max)
        parsed = parse.parse(text, item.n, low, high, finish)
        if parsed.scores is None:
            return Reading(parsed.outcome, None, None)
        scores = to_original(parsed.scores, order)
        if item.n == 1 and output != "verdict":
            return Reading(parsed.outcome, scores, None)  # a rating is neither right nor wrong
        return Reading(parsed.outcome, scores, correct(scores, item.label))


@dataclass(frozen=True)
class Reading:
    """What a completion said. ``scores`` and ``correct`` are None unless the outcome is ok.

    ``correct`` is None too for a rating of a single response, which no label can equal.
    """

    outcome: parse.Outcome
    scores: list[int] | None
    correct: bool | None


@dataclass(frozen=True)
class Task:
    """One judgement to sample."""

    item: Item
    kind: Kind
    sample: int
    order: list[int]
    prompt: str
    seed: int
    temperature: float

    def row(self, judge: Judge, *, model: str, prompt_tokens: int, **completion: object) -> Sample:
        """The bank row for a completion: text, finish, completion_tokens, logprob."""
        reading = judge.read(
            self.item, self.order, str(completion["text"]), str(completion["finish"])
        )
        return self._sample(judge, model, prompt_tokens, reading, completion)

    def failed(
        self, judge: Judge, outcome: parse.Outcome, *, model: str, prompt_tokens: int
    ) -> Sample:
        """The bank row when nothing was generated."""
        nothing = {"text": "", "finish": "none", "completion_tokens": 0, "logprob": None}
        return self._sample(judge, model, prompt_tokens, Reading(outcome, None, None), nothing)

    def _sample(
        self,
        judge: Judge,
        model: str,
        prompt_tokens: int,
        reading: Reading,
        completion: dict[str, object],
    ) -> Sample:
        return Sample(
            item_id=self.item.id,
            kind=self.kind,
            sample=self.sample,
            seed=self.seed,
            order=self.order,
            model=model,
            template=judge.template.hash,
            prompt_tokens=prompt_tokens,
            outcome=str(reading.outcome),
            scores=reading.scores,
            correct=reading.correct,
            **completion,  # type: ignore[arg-type]
        )


def tasks(
    judge: Judge,
    item: Item,
    kind: Kind,
    count: int,
    *,
    seed: int,
    temperature: float,
    hint: Callable[[Item], int | None] = lambda item: None,
) -> list[Task]:
    """``count`` judgements of one item; order and seed depend on (seed, kind, item, sample)."""
    result = []
    prompts_by_order: dict[tuple[int, ...], str] = {}
    for sample in range(count):
        order = display_order(judge.config.order, derive(seed, kind), item.id, sample, item.n)
        shown = tuple(order)
        if shown not in prompts_by_order:
            prompts_by_order[shown] = judge.prompt(item, order, hint(item))
        result.append(
            Task(
                item,
                kind,
                sample,
                order,
                prompts_by_order[shown],
                derive(seed, kind, item.id, sample),
                temperature,
            )
        )
    return result
