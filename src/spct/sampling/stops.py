"""Where a sampled text ends: at the first token or the first stop string that ends it.

One rule for every engine that has token ids. A stop string counts as soon as the text that the
tokens decode to holds it; the text ends before it. Engines may notice either as late as they like:
what follows is cut off here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from spct.finish import Finish
from spct.lm import LM
from spct.sampling.base import Completion
from spct.schema import SamplerConfig

# Tokens of a tail beyond the bytes of the longest stop string, which may decode to nothing.
_SPARE = 8


class Stops:
    """What ends a text of one model: its own ends and ``sampler.stop``."""

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        self.tokens, self.strings = lm.eos, tuple(config.stop)
        self._decode = lm.tokenizer.decode
        self._tail = _SPARE + max((len(one.encode()) for one in self.strings), default=0)

    def written(self, ids: Sequence[int]) -> bool:
        """Whether a text that grows token by token has just come to hold a stop string."""
        return bool(self.strings) and self._held(ids[-self._tail :]) and self._held(ids)

    def completion(self, ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
        """The completion in tokens [T] and their log-probs [T]; what follows its end is left out.

        Without an end it is one that the token limit stopped.
        """
        end = next((place for place, token in enumerate(ids) if token in self.tokens), len(ids))
        if self.strings and self._held(ids[:end]):
            whole = bisect_left(range(end + 1), True, key=lambda size: self._held(ids[:size]))
            kept, text = tuple(ids[:whole]), self._text(ids[:whole])
            text = text[: min(text.find(one) for one in self.strings if one in text)]
            return Completion(kept, tuple(logprobs[:whole]), Finish.stop_string, text)
        if end == len(ids):
            return Completion(tuple(ids), tuple(logprobs), Finish.length)
        values = tuple(logprobs[: end + 1])
        return Completion(tuple(ids[:end]), values, Finish.stop, end=ids[end])

    def _held(self, ids: Sequence[int]) -> bool:
        text = self._text(ids)
        return any(one in text for one in self.strings)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._decode(list(ids), skip_special_tokens=False))
