"""The one conversation of a row in which several columns may hold it: the written rule.

Every column that can be the conversation makes a *claim*. (1) A claim that ends with one of the
responses, as a turn of the assistant, is a copy of that answer: the turn is left out. (2) The
longest claim is the conversation, and each other one must be its beginning or its end, turn by turn
in role and content (but for white space); else the row is dropped as ``two_contexts``. (3) A column
``system`` is its first turn, and must agree with one that is there. (4) A conversation that then
still ends with a turn of the assistant, or holds one of the responses as such, is never kept. Nor
is one whose last text is a transcript that ends with a response.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from spct.data.flaws import Flaw, leak
from spct.data.sources.base import BadRow, Messages
from spct.data.text import squeezed

# How transcripts and chat templates open and close a turn of the assistant.
_OPENED = re.compile(
    r"(?:\b(?:assistant|ai|gpt|bot|model|answer|response|output)(?: ?\*\*)? ?[:\uff1a](?: ?\*\*)?"
    r"|(?:### ?|\[)(?:assistant|ai|gpt|bot|model|answer|response|output)\]?"
    r"|<[|\uff5c](?:im_start\|>)?assistant(?:[|\uff5c]>)?|assistant<\|end_header_id\|>"
    r"|<\|chatbot_token\|>|<\|start\|>assistant(?:<\|channel\|>\w+)?<\|message\|>"
    r"|(?:\u52a9\u624b|\u56de\u7b54)[:\uff1a]|\[/INST\]|<start_of_turn>model) ?$",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"(?: ?(?:<[|\uff5c]?[\w\u2581 ]+[|\uff5c]?>|</s>))+$")
_SHORT = re.compile(r"\bA ?: ?$")  # beside "Q:" alone: it also opens the first of several options
_ASKED = re.compile(r"\W*(?:human|user|q|question|prompt|instruction)\W*:\W*", re.IGNORECASE)

Claim = tuple[str, Messages]  # column, turns
Key = tuple[tuple[str, str], ...]


def agreed(claims: Sequence[Claim], responses: Sequence[str], system: str = "") -> Messages:
    """The conversation, by the rule above. Raises :class:`BadRow` where it has no answer."""
    answers = {squeezed(text) for text in responses}
    cut = [(name, _without_answer(turns, answers)) for name, turns in claims]
    cut = [(name, turns) for name, turns in cut if turns]
    if not any(turn["role"] == "user" for _, turns in cut for turn in turns):
        raise BadRow("bad_row", "no column holds a question: prompt, messages or chosen")
    first, context = max(cut, key=lambda claim: len(claim[1]))
    for name, turns in cut:
        if not _part_of(key(turns), key(context)):
            raise BadRow(
                "two_contexts",
                f"{first} and {name} hold different conversations; leave one out by "
                f'options: {{{name}: ""}}',
            )
    context = with_system(context, system)
    for i, turn in enumerate(context, start=1):
        if not turn["content"].strip() and i < len(context):
            raise BadRow("empty_turn", f"turn {i} of the conversation has no text")
    last = context[-1]["content"]
    wrong = leak(context, responses) or _transcript(last, responses) or _asks_again(last, responses)
    if wrong:
        raise BadRow(*wrong)
    return context


def _transcript(text: str, responses: Sequence[str]) -> Flaw | None:
    """``answer_in_context`` for a text that has one of the responses behind a mark of its turn."""
    text = _CLOSED.sub("", squeezed(text))
    asked = text.startswith(("Q:", "Q :")) or " Q:" in text
    for i, response in enumerate(map(squeezed, responses)):
        before = text[: -len(response)] if response and text.endswith(response) else ""
        if _OPENED.search(before) or (asked and _SHORT.search(before)):
            return "answer_in_context", f"the question is a transcript that ends with response {i}"
    return None


def _asks_again(text: str, responses: Sequence[str]) -> Flaw | None:
    """``bad_row`` for a response that is a transcript: the question behind a mark, then more."""
    text = squeezed(text)
    for i, response in enumerate(map(squeezed, responses)):
        opened = _ASKED.match(response)
        rest = response[opened.end() :] if opened else ""
        if text and rest.startswith(text) and len(rest) > len(text):
            told = f"response {i} is a transcript with the question in it, in a form not read"
            return "bad_row", told
    return None


def with_system(turns: Messages, system: str) -> Messages:
    """The turns without empty system messages, behind ``system`` unless they begin with it."""
    turns = tuple(t for t in turns if t["role"] != "system" or t["content"].strip())
    if not system.strip():
        return turns
    given = {"role": "system", "content": system}
    own = [turn for turn in turns if turn["role"] == "system"]
    if own and key(own[:1]) != key([given]):
        raise BadRow("two_contexts", "the column system differs from the conversation's own")
    return turns if own else (given, *turns)


def key(turns: Sequence[Mapping[str, str]]) -> Key:
    """What turns are compared by."""
    return tuple((turn["role"], squeezed(turn["content"])) for turn in turns)


def shared(each: Sequence[Messages], names: Sequence[str]) -> tuple[Messages, list[str]]:
    """What conversations have in common, all but the last turn, and those last turns.

    Raises :class:`BadRow`: ``no_response`` for one that does not end with the assistant,
    ``context_differs`` where they part before.
    """
    for name, turns in zip(names, each, strict=True):
        if not turns or turns[-1]["role"] != "assistant":
            raise BadRow("no_response", f"{name} does not end with a turn of the assistant")
    contexts = [turns[:-1] for turns in each]
    if any(key(context) != key(contexts[0]) for context in contexts):
        raise BadRow("context_differs", f"{' and '.join(names)} differ before their last turn")
    return contexts[0], [turns[-1]["content"] for turns in each]


def _without_answer(turns: Messages, answers: set[str]) -> Messages:
    last = turns[-1] if turns else None
    copied = last and last["role"] == "assistant" and squeezed(last["content"]) in answers
    return turns[:-1] if copied else turns


def _part_of(part: Key, whole: Key) -> bool:
    return whole[: len(part)] == part or whole[len(whole) - len(part) :] == part
