"""What a scalar reward model reads: a conversation with one response, or two responses to compare.

One response: the conversation through the tokenizer's chat template, the response as the
assistant's turn, as reward models are commonly trained and served (TRL's RewardTrainer does so); a
reference answer has no place there. A tokenizer without a template gets the judge's prompt for one
response, and two responses always stand in the judge's prompt that asks which is best; both end in
the token that ends a turn. Principles are never asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spct.judge import prompts
from spct.judge.neutralise import neutralise
from spct.judge.task import Judge
from spct.lm import LM
from spct.records import Item
from spct.sampling.limits import LONGER, hold
from spct.training.batching import Example
from spct.training.groups import Group


@dataclass(frozen=True)
class Encoder:
    """Token ids of items for a model whose logit is read at the last token."""

    text: LM
    judge: Judge

    def responses(self, item: Item) -> Group:
        """All responses of an item, what they begin with in common as the shared prompt."""
        return together([self._one(item, response) for response in item.responses])

    def pair(self, item: Item, first: int, second: int) -> Example:
        """Two responses in one prompt, in this order."""
        prompt = self._rendered(item, [first, second], "index")
        return Example(self.text.encode_prompt(prompt), (self.text.end,))

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens fits the model's context."""
        return self.text.context is None or tokens <= self.text.context

    def hold(self, name: str, fits: Sequence[bool]) -> None:
        """Raises ``StageStopped`` if more items are too long than ``judge.max_too_long`` allows."""
        what = f"items exceed the model's max_position_embeddings of {self.text.context}"
        hold(name, fits.count(False), len(fits), self.judge.config.max_too_long, what, LONGER)

    def _one(self, item: Item, response: str) -> tuple[int, ...]:
        if not self.text.tokenizer.chat_template:
            alone = replace(item, responses=(response,))
            return (*self.text.encode_prompt(self._rendered(alone, [0], "scores")), self.text.end)
        marks = self.judge.special_tokens
        turns = [
            {name: neutralise(text, marks) for name, text in message.items()}
            for message in (*item.messages, {"role": "assistant", "content": response})
        ]
        return self.text.encode_rendered(self.text.conversation(turns))

    def _rendered(self, item: Item, order: Sequence[int], output: str) -> str:
        config = self.judge.config
        return prompts.render(
            self.judge.template,
            item,
            order,
            principles="none",
            output=output,
            score_min=config.score_min,
            score_max=config.score_max,
            special_tokens=self.judge.special_tokens,
        )


def together(texts: Sequence[tuple[int, ...]]) -> Group:
    """Texts as completions of what all of them begin with; each keeps a token at least."""
    most = min(map(len, texts)) - 1
    common = len(os.path.commonprefix([text[:most] for text in texts]))
    return Group(texts[0][:common], tuple(text[common:] for text in texts))
