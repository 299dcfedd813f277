r"""A constrained end: once ``\boxed{`` is open, only the scores asked for and the close may follow.

It repairs the form, not the judgement: the draws come from the model's own distribution over what
is allowed, and log-probs are of that. Off for the paper's numbers, where a broken form is an
outcome to count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from spct import thoughts
from spct.lm import LM

OPENED = "\\boxed{"
_CONTENT = re.compile(r"-?[0-9]*,? ?[0-9]*}?")  # what a token of a box can be
_TAIL = 8  # tokens in which the box is opened, at most


def fits(content: str, n: int, low: int, high: int) -> bool:
    """Whether ``content`` after the open box is, or can become, ``n`` integers and the close.

    As :mod:`spct.judge.parse` reads them, but with at most one space after a comma.
    """
    closed = content.endswith("}")
    first, *others = content.removesuffix("}").split(",")
    entries = [first, *(entry.removeprefix(" ") for entry in others)]
    known = {str(score) for score in range(low, high + 1)}
    if len(entries) > n or not known.issuperset(entries[:-1]):
        return False
    if closed:
        return len(entries) == n and entries[-1] in known
    return any(score.startswith(entries[-1]) for score in known)


class ForcedScores:
    """Which tokens may follow, by a model's vocabulary."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm
        size = len(lm.tokenizer)
        texts = {token: str(lm.tokenizer.decode([token])) for token in range(size)}
        self.pieces = {t: text for t, text in texts.items() if text and _CONTENT.fullmatch(text)}

    def allowed(self, made: Sequence[int], wanted: tuple[int, int, int]) -> list[int] | None:
        """Tokens that may follow ``made``; None if all may: no box is open, or it is past help.

        ``wanted`` is the number of scores, the least and the greatest. After the close only an end
        may follow, if the model has any.
        """
        n, _, high = wanted
        tail = list(made[-(_TAIL + n * (len(str(high)) + 2)) :])
        content = self._content(tail)
        if content is None or not fits(content, *wanted) or self._thinking(made):
            return None
        if content.endswith("}"):
            return sorted(self.lm.eos) or None
        near = [token for token, text in self.pieces.items() if fits(content + text, *wanted)]
        # A tokenizer may put a space between tokens, and 1 0 is not 10.
        return [t for t in near if fits(self._content([*tail, t]) or "", *wanted)] or None

    def _content(self, tail: list[int]) -> str | None:
        """What stands after the last opening."""
        _, opened, content = str(self.lm.tokenizer.decode(tail)).rpartition(OPENED)
        return content if opened else None

    def _thinking(self, made: Sequence[int]) -> bool:
        """Whether it is a box in thoughts, which are not read."""
        text = str(self.lm.tokenizer.decode(list(made)))
        return thoughts.answer(text, self.lm.thinks) is None

    def mask(self, logits: Tensor, row: int, allowed: list[int]) -> None:
        """Leave row ``row`` of logits [B, V] only the allowed tokens, in place."""
        kept = logits[row, allowed]
        logits[row] = float("-inf")
        logits[row, torch.tensor(allowed, device=logits.device)] = kept
