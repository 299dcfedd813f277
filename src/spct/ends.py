"""Where a text begins and ends, by tokenizer, generation config and chat template together.

A model ends its turn with the token that closes an assistant's turn in its chat template, which
need not be the tokenizer's ``eos_token`` (Gemma ``<end_of_turn>``, Phi ``<|end|>``, Llama 3
``<|eot_id|>``, ChatML ``<|im_end|>``). Sampling stops at any of the three; training teaches the
template's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from spct import chat, thoughts
from spct.judge.neutralise import special_tokens

_ASKED, _SAID, _MORE = "Qzaskq", "Qzsaidq", "Qzmoreq"
# A mark such as <|im_end|> or [/ANSWER] that closes a turn and yet is no token.
_MARK = re.compile(r"\s*(<[^<>\s]+>|\[[^\[\]\s]+\])")
_PROBES = ("a", "1", "the")


@dataclass(frozen=True)
class Ends:
    """``ids``: every token that ends a text. ``turn``: the one that is taught, None without any.

    ``mark``: what closes a turn of the chat template where that is no token, else ``""``.
    """

    ids: frozenset[int]
    turn: int | None
    mark: str = ""


def find(tokenizer: Any, stated: Sequence[int], size: int) -> Ends:
    """The ends of a model with this tokenizer.

    ``stated`` are the ids of its generation config; ids that are not of its vocabulary of ``size``
    tokens can never be written and are left out.
    """
    turn, mark = _turn(tokenizer) if tokenizer.chat_template else (None, "")
    ranked = [turn, tokenizer.eos_token_id, *stated]  # the first of them is taught
    known = [int(one) for one in ranked if one is not None and 0 <= int(one) < size]
    return Ends(frozenset(known), known[0] if known else None, mark)


def stated(tokenizer: Any, generation: Any, shape: Any) -> list[int]:
    """The ids of ``eos_token_id`` in a generation config.

    One that was made of the model's own config (``shape``) may hold the mere default of its
    architecture, so of the ids of that only special tokens count.
    """
    listed = _listed(generation.eos_token_id)
    if not getattr(generation, "_from_model_config", False):
        return listed
    defaults = {*_listed(getattr(shape, "eos_token_id", None))} - {*special(tokenizer).values()}
    return [one for one in listed if one not in defaults]


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids or ())


def marks(tokenizer: Any, ids: Iterable[int]) -> tuple[str, ...]:
    """What no text from data may hold, sorted: special tokens, and what does the like unflagged.

    That is the ends ``ids``, if they are marks and no words, and the added tokens that the chat
    template writes (DeepSeek's ``<｜User｜>``), but for those of thoughts, which answers may hold.
    """
    known = special_tokens(tokenizer)
    added = set(tokenizer.get_added_vocab())
    ending = tokenizer.convert_ids_to_tokens(sorted(ids))
    ending = [mark for mark in ending if mark in added or _MARK.fullmatch(mark)]
    text = _rendered(tokenizer, _SAID, _MORE) if tokenizer.chat_template else ""
    spared = {mark for pair in thoughts.MARKS for mark in pair}
    written = {mark for mark in added - spared if mark in text and _MARK.fullmatch(mark)}
    return tuple(sorted({*known, *ending, *written}))


def begin(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer itself puts in front of a text, mostly ``<s>`` or nothing."""
    for probe in (*_PROBES, *list(tokenizer.get_vocab())[:100]):
        bare = tokenizer.encode(probe, add_special_tokens=False)
        if not bare:
            continue
        whole = tokenizer.encode(probe)
        for place in range(len(whole) - len(bare) + 1):
            if whole[place : place + len(bare)] == bare:
                return tuple(whole[:place])
        return tuple(takewhile(set(tokenizer.all_special_ids).__contains__, whole))
    return ()


def begun(ids: Sequence[int], begin: tuple[int, ...], bos: int | None) -> tuple[int, ...]:
    """The ids with exactly one begin, whether a template wrote none, one or two of them.

    Two are one too many also where the tokenizer itself would put none in front (``begin`` empty).
    """
    ids, unit = tuple(ids), begin if begin else (bos,)
    if begin and ids[: len(begin)] != begin:
        if not ids or ids[0] != bos:
            return (*begin, *ids)
        unit = (bos,)
    while ids[: 2 * len(unit)] == (*unit, *unit):
        ids = ids[len(unit) :]
    return ids


def _turn(tokenizer: Any) -> tuple[int | None, str]:
    """The token that closes an assistant's turn in the chat template, or the mark that does.

    The first special token behind the turn that ends a conversation; without any, for templates
    that close a turn only when another follows, the first one before that. What opens a turn closes
    none, and a mark right behind the turn is a token even where it is not flagged as special.
    """
    text = _rendered(tokenizer, _SAID)
    before, found, behind = text.rpartition(_SAID)
    if not found:
        return None, ""
    between = _rendered(tokenizer, _SAID, _MORE).rpartition(_MORE)[0].rpartition(_SAID)[2]
    marks = {**_closing(tokenizer, behind), **_closing(tokenizer, between), **special(tokenizer)}
    last, next_ = _first(behind, marks), _first(between, marks)
    opens_answer = _last(before, marks)
    opens_question = _last(before.partition(_ASKED)[0], marks)
    if last and (last != opens_answer or last == next_) and not _only_begins(tokenizer, last):
        return marks[last], ""
    if not last and next_ and next_ not in (opens_answer, opens_question):
        return marks[next_], ""
    unknown = None if last else _MARK.match(behind)
    return None, unknown[1] if unknown else ""


def _rendered(tokenizer: Any, *turns: str) -> str:
    """A conversation of a question and these turns; ``""`` if the template writes none."""
    roles = ("assistant", "user")
    messages = [{"role": "user", "content": _ASKED}]
    messages += [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    for shown in (messages, chat.parts(messages)):
        with suppress(Exception):  # a template may raise whatever it likes
            text = str(tokenizer.apply_chat_template(shown, tokenize=False))
            if turns[-1] in text:
                return text
    return ""


def special(tokenizer: Any) -> dict[str, int]:
    """The special tokens by their text."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    marks = {token.content: number for number, token in added if token.special}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {**marks, **dict(named)}


def _first(text: str, marks: Iterable[str]) -> str | None:
    """The mark that stands first in a text, the longest of those that begin there."""
    found = [mark for mark in marks if mark and mark in text]
    return min(found, key=lambda mark: (text.find(mark), -len(mark)), default=None)


def _last(text: str, marks: Iterable[str]) -> str | None:
    found = [mark for mark in marks if mark and mark in text]
    return max(found, key=lambda mark: (text.rfind(mark) + len(mark), len(mark)), default=None)


def _only_begins(tokenizer: Any, mark: str) -> bool:
    return bool(mark == tokenizer.bos_token != tokenizer.eos_token)


def _closing(tokenizer: Any, behind: str) -> dict[str, int]:
    """The mark right behind a turn by its text, if it is one token, flagged as special or not."""
    found = _MARK.match(behind)
    ids = tokenizer.encode(found[1], add_special_tokens=False) if found else []
    known = found is not None and len(ids) == 1 and ids[0] != tokenizer.unk_token_id
    return {found[1]: int(ids[0])} if found is not None and known else {}
