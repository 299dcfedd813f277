"""From item to judging task, from completion to bank row: the one road for every stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spct import thoughts
from spct.data.order import display_order, to_original
from spct.judge import parse, probe, prompts
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
        """The configured judge, its template tried out. Raises as :func:`spct.judge.probe.try_out`
        and :func:`spct.judge.prompts.load`."""
        template = prompts.load(config.template)
        probe.try_out(template, config, special_tokens)
        return cls(config, template, tuple(special_tokens))

    @classmethod
    def of_bank(
        cls, manifest: Mapping[str, Any], special_tokens: Collection[str] = ()
    ) -> Judge | None:
        """The judge that sampled a bank, by the bank's own manifest: settings and template text.

        ``special_tokens`` are added to those of its tokenizer. None if the manifest does not tell
        (banks of version 1).
        """
        settings = manifest.get("slice", {}).get("judge")
        if settings is None or "template_text" not in manifest:
            return None
        config = JudgeConfig(**settings)
        template = prompts.from_text(config.template, manifest["template_text"])
        known = {*manifest.get("special_tokens", ()), *special_tokens}
        return cls(config, template, tuple(sorted(known)))

    def prompt(
        self,
        item: Item,
        order: list[int],
        hint: int | None = None,
        principles: str | None = None,
    ) -> str:
        """The prompt with the responses in that order; ``hint`` is an original index.

        ``principles`` to use may be given, as a bank row holds them or as written beforehand; else
        they are those of :meth:`given`, if any. With ``principles: query_only`` and none given, the
        prompt is that of ``none``.
        """
        text = principles or self.given(item)
        own = "self" if self.config.principles == "self" else "none"
        return prompts.render(
            self.template,
            item,
            order,
            principles="given" if text else own,
            output=self.output(item),
            score_min=self.config.score_min,
            score_max=self.config.score_max,
            hint=hint,
            given=text,
            special_tokens=self.special_tokens,
        )

    def output(self, item: Item) -> str:
        """What the judge is asked to write of this item."""
        return prompts.output_kind(item, self.config.single, self.config.answer)

    def box(self, item: Item) -> tuple[int, int, int]:
        """How many numbers its box holds, the least and the greatest."""
        config = self.config
        return prompts.box(self.output(item), item.n, config.score_min, config.score_max)

    def given(self, item: Item) -> str | None:
        """Principles known before anything is sampled: the configured ones, or the item's own.

        Raises ``ValueError`` if ``principles: given`` finds none in ``item.meta["principles"]``.
        """
        if self.config.principles == "fixed":
            return self.config.criteria
        if self.config.principles != "given":
            return None
        if text := item.meta.get("principles"):
            return str(text)
        raise ValueError(f"judge.principles is given, but item {item.id} has none in its meta")

    def principles_prompt(self, item: Item) -> str:
        """The prompt that asks for the principles of a query before any response is seen."""
        return prompts.render_principles(
            self.template,
            item,
            score_min=self.config.score_min,
            score_max=self.config.score_max,
            special_tokens=self.special_tokens,
        )

    def read(
        self, item: Item, order: list[int], text: str, finish: str, thinks: bool = False
    ) -> Reading:
        """Outcome, scores in the original order and correctness of one completion.

        Thoughts are not read, and a text that never closes them (``thinks``: they were opened by
        the prompt) has no scores: :mod:`spct.thoughts`.
        An index is one point for the response chosen: points of k samples add up to the majority
        vote (paper Eq. 13).
        """
        output = self.output(item)
        parsed = parse.parse(thoughts.answer(text, thinks) or "", *self.box(item), finish)
        if parsed.scores is None:
            return Reading(parsed.outcome, None, None)
        shown = parsed.scores
        if output == "index":
            shown = tuple(int(place == shown[0]) for place in range(1, item.n + 1))
        scores = to_original(shown, order)
        if item.label.undecided or (item.n == 1 and output != "verdict"):
            return Reading(parsed.outcome, scores, None)  # neither right nor wrong
        return Reading(parsed.outcome, scores, correct(scores, item.label))


@dataclass(frozen=True)
class Reading:
    """What a completion said. ``scores`` and ``correct`` are None unless the outcome is ok.

    ``correct`` is None too for a rating of a single response, which no label can equal, and for
    an item that people called a tie.
    """

    outcome: parse.Outcome
    scores: list[int] | None
    correct: bool | None


@dataclass(frozen=True)
class Task:
    """One judgement to sample; ``hint`` and ``principles`` are what its prompt holds of them."""

    item: Item
    kind: Kind
    sample: int
    order: list[int]
    prompt: str
    seed: int
    temperature: float
    hint: int | None = None
    principles: str | None = None
    principle_tokens: int = 0

    def with_principles(self, judge: Judge, text: str | None, tokens: int) -> Task:
        """The same task by principles written beforehand; by none if they could not be read."""
        prompt = judge.prompt(self.item, self.order, self.hint, text)
        return replace(self, prompt=prompt, principles=text, principle_tokens=tokens)

    def row(
        self,
        judge: Judge,
        *,
        model: str,
        prompt_tokens: int,
        thinks: bool = False,
        **completion: object,
    ) -> Sample:
        """The bank row for a completion: text, finish, completion_tokens, logprob.

        ``thinks``: the prompt ended within thoughts.
        """
        text, finish = str(completion["text"]), str(completion["finish"])
        reading = judge.read(self.item, self.order, text, finish, thinks)
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
            principles=self.principles,
            principle_tokens=self.principle_tokens,
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
    hinted, principles = hint(item), judge.given(item)
    for sample in range(count):
        order = display_order(judge.config.order, derive(seed, kind), item.id, sample, item.n)
        shown = tuple(order)
        if shown not in prompts_by_order:
            prompts_by_order[shown] = judge.prompt(item, order, hinted)
        result.append(
            Task(
                item,
                kind,
                sample,
                order,
                prompts_by_order[shown],
                derive(seed, kind, item.id, sample),
                temperature,
                hinted,
                principles,
            )
        )
    return result
