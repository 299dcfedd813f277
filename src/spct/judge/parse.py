r"""Reads scores out of what the model wrote: the last ``\boxed{…}``, or a reason why not.

A judgement ends in one box with an integer per response, in the order shown, e.g. ``\boxed{8, 3}``
(paper App. G; its own outputs drift around the box, so only the box is read). The text given here
is the completion alone, never the prompt. The choices the paper leaves open:

* **The last box counts**, also when text or markdown follows it, or stands around it. ``\boxed``
  with white space before its brace is a box; the bare word in running text is not, except at the
  very end, where it is a box that the model was about to write.
* **An unclosed last box** hides any earlier one: it is what the model was writing.
* **A text that was cut off is not read at all**, however many boxes it has closed: nobody knows
  which would have been its last. :data:`spct.finish.MEANING` says what comes of it.
* **Entries** are ASCII integers separated by commas; white space around them is free. A minus sign
  is an integer out of range; leading zeros are harmless.
* **Near misses stay malformed**: decimals (``8.5`` is no score of this scale, and ``8,5`` would be
  two), words, fractions (``8/10``), labels (``Response 1: 8``), brackets and nested braces
  (``[8, 7]``), LaTeX spacing (``8,\ 7``), other digits or commas, zero-width characters, a plus
  sign, empty entries. Models do write them. To guess what was meant would make the reading depend
  on a list of guesses that grows with every model, pay in training for a form that was not asked
  for, and hide from the outcome table that a model does not keep to the form.
* **One reason per sample**, the first that applies of malformed, wrong_count, out_of_range.
* **A box quoted** from a response counts like any other, for the completion is all the model's own
  writing. As the last box it mostly has another count than asked for; what stands in the prompt is
  never parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spct.finish import Outcome as Outcome
from spct.finish import meaning

_BOX = re.compile(r"\\boxed\s*(?:\{|\Z)")
_INTEGER = re.compile(r"-?[0-9]+")
_MAX_DIGITS = 18  # int() refuses very long literals; none of them is a score


@dataclass(frozen=True)
class Parsed:
    """An outcome, and the scores in the order shown if and only if it is ``ok``."""

    outcome: Outcome
    scores: tuple[int, ...] | None = None


def parse(text: str, n: int, low: int, high: int, finish: str = "stop") -> Parsed:
    """Scores of ``n`` responses from one completion; see the module for every rule.

    ``low``..``high`` is the allowed range, both ends included (0..1 for a verdict). ``finish`` is
    the sampler's finish reason, a :class:`spct.finish.Finish`. Raises ``ValueError`` for ``n < 1``
    or an empty range, never for anything in ``text``.
    """
    if n < 1 or low > high:
        raise ValueError(f"cannot ask for {n} scores in {low}..{high}")
    if (outcome := meaning(finish).outcome) is not None:
        return Parsed(outcome)
    content = _last_box(text)
    if content is None:
        return Parsed(Outcome.malformed)
    entries = [entry.strip() for entry in content.split(",")]
    if not all(_INTEGER.fullmatch(entry) for entry in entries):
        return Parsed(Outcome.malformed)
    if len(entries) != n:
        return Parsed(Outcome.wrong_count)
    if any(len(entry) > _MAX_DIGITS for entry in entries):
        return Parsed(Outcome.out_of_range)
    scores = tuple(int(entry) for entry in entries)
    if not all(low <= score <= high for score in scores):
        return Parsed(Outcome.out_of_range)
    return Parsed(Outcome.ok, scores)


def _last_box(text: str) -> str | None:
    """What stands in the last box, or ``None`` if there is no box or the last one is not closed."""
    start = -1
    for match in _BOX.finditer(text):
        start = match.end()
    end = text.find("}", start) if start >= 0 else -1
    return text[start:end] if end >= 0 else None
