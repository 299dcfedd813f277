"""Texts as comparisons see them, at two strengths.

:func:`squeezed` leaves out white space alone: by it, responses are equal. :func:`normal` leaves out
case and the punctuation of prose too: by it, two texts read the same. Operators, signs, digits and
brackets tell maths and code apart, so they count: ``7 - 4`` is not ``7 + 4``, ``[1, 5)`` is not
``(1, 5]``, ``x²`` is not ``x2`` and ``5!`` is not ``5``. Where a sign may be either, it counts.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from spct.records import Item

# Scripts that are written without spaces: each character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_L = r"[^\W\d_]"
_END = r"""(?=["']*(?:\s|$))"""


def _after(sign: str) -> str:
    """That the sign just read is one of these, behind a word of two letters or more."""
    ends = (rf"{_L}{_L}", rf"{_L}[\"']{_L}", rf"[{_UNSPACED}]")
    return f"(?:{'|'.join(f'(?<={end}{sign})' for end in ends)})"


# A sign is read first and what stands before it looked at then: the search skips everything else.
_PROSE = re.compile(
    r"""[.,;:?!"'\-](?:"""
    + "|".join(
        (
            rf"{_after('[.,;:?!]')}[.,;:?!]*{_END}",  # "Stop, now!"
            _after("[,;]"),  # "one,two"
            rf"(?<=[{_UNSPACED}][.,;:?!])[.,;:?!]*",
            rf"""(?<=[\w)\]}}"'$%][.:?])[.:?]*{_END}""",  # "f(x)?", "1."; not "5!", ".*?"
            rf"(?<=\d[,;])[,;]*(?=\s+{_L})",  # "In 2004, he"; not "(1, 2)"
            rf"(?<={_L}{_L}')(?={_L})",  # "don't"
            rf"(?<={_L}{_L}-)(?={_L}{_L})",  # "well-known"; not "x-y"
        )
    )
    + ")"
)
# Several words in quotation marks, and emphasis as Markdown writes it around words.
_QUOTED = re.compile(
    r"""(?:"(?<!\S")([^"\n]*\s[^"\n]*)"|'(?<!\S')([^'\n]*\s[^'\n]*)')(?=[\s.,;:?!]|$)"""
)
_EMPHASIS = re.compile(rf"([*_])(?<![\w*].)(?!_\w+__)(\1{{0,2}})({_L}[^*\n]*[^\s*])\1\2(?![\w*])")
# Code and maths in a line as Markdown marks them: each sign and the case of a letter count.
_MARKED = re.compile(r"(`[^`\n]+`|\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)|\\\((?:[^\n\\]|\\(?![()]))+\\\))")
# Units behind a number: "5 mW" is not "5 MW". And what is no dash between numbers, but a sign.
_BEHIND = re.compile(rf"(?<=\d)(\s?)({_L}{{1,3}})(?!\w)")
_BETWEEN = re.compile(r"(?<=[\d)])[^\S\n]*[—―·•][^\S\n]*(?=[\d(])")
_CAPITAL = "\ue000"  # a sign of no meaning, before a letter whose case counts
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
_EMPTY = "\u2800\u3164\uffa0\u115f\u1160"  # letters and patterns that show nothing
_SIGNS = r"(?:(?:[^\w\s]|_)\s*)"
_UNIT = re.compile(rf"{_SIGNS}*(?:[{_UNSPACED}]|[^\W_{_UNSPACED}]+)|{_SIGNS}+")


@cache
def _signs() -> dict[int, str]:
    """One way to write each sign; what says nothing becomes a space or nothing.

    NFKC alone would make ``x²`` into ``x2`` and ``1½`` into ``11⁄2``.
    """
    marks = {"<super>": "^", "<sub>": "_", "<fraction>": " ", "<circle>": "°"}
    table = {
        code: marks[kind] + unicodedata.normalize("NFKC", chr(code))
        for code in range(0x80, 0x10000)
        if (kind := unicodedata.decomposition(chr(code)).partition(" ")[0]) in marks
    }
    # Superscript letters are ordinals and phonetic signs: "1ª" reads as "1a".
    table = {code: text for code, text in table.items() if not text[-1:].isalpha()}
    same = {
        '"': "“”„‟«»＂",
        "'": "’‘‛‹›＇",
        "-": "‐‑‒–−－﹣",
        " ": "—―…‥·•。、，；「」『』《》〈〉",
    }
    table |= {ord(sign): to for to, signs in same.items() for sign in signs}
    unseen = (code for code in range(0x80, 0x10000) if unicodedata.category(chr(code)) == "Cf")
    return table | dict.fromkeys(unseen, "")


def _plain(text: str) -> str:
    """The text in one case, one way to write each sign, and without the punctuation of prose."""
    if not text.isascii():
        text = _BETWEEN.sub(lambda found: " - " if found[0].strip() in "—―" else " ⋅ ", text)
        text = unicodedata.normalize("NFKC", text.translate(_signs())).translate(_signs())
    if "`" not in text and "$" not in text and "\\(" not in text:
        return _prose(text)
    parts = enumerate(_MARKED.split(text))
    return "".join(f" {_cased(part.strip('`'))} " if i % 2 else _prose(part) for i, part in parts)


def _cased(text: str) -> str:
    """The text in small letters, with a mark before each that was large."""
    return "".join(f"{_CAPITAL}{sign}" if sign.isupper() else sign for sign in text).casefold()


def _prose(text: str) -> str:
    """The text in small letters, without the punctuation of prose and the marks of Markdown."""
    text = _BEHIND.sub(lambda found: found[1] + _cased(found[2]), text)
    text = text.replace("`", " ").casefold()
    if '"' in text or "'" in text:
        text = _QUOTED.sub(r"\1\2", text)
    if "*" in text or "_" in text:
        text = _EMPHASIS.sub(r"\3", text)
    return _PROSE.sub(" ", text)


def words(text: str) -> list[str]:
    """The words in order, each with the signs before it; Chinese and Kana by character.

    Signs behind the last word are an entry of their own. See :func:`normal` for what is left out.
    """
    units = _UNIT.findall(_plain(text))
    return [unit if unit.isalnum() else "".join(unit.split()) for unit in units]


def normal(text: str) -> str:
    """The words joined by single spaces: equal for texts that read the same.

    Left out are case, white space, variants of one character in Unicode, and the punctuation of
    prose: marks at the end of a word, the apostrophe and the hyphen in one, quotation marks around
    several, dashes, emphasis. A text of nothing else stays as it is, stripped.
    """
    return " ".join(words(text)) or text.strip()


def squeezed(text: str) -> str:
    """The text in Unicode's form NFC with every run of white space as one space, stripped.

    White space without a width is left out: it parts no words and cannot be seen.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_NO_WIDTH)
    return " ".join(text.split())


def blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, control and format characters alone."""
    unseen = ("Zs", "Zl", "Zp", "Cc", "Cf")
    return all(unicodedata.category(sign) in unseen or sign in _EMPTY for sign in text)


def conversation(item: Item) -> str:
    """What the item asks: the text of all its messages."""
    return "\n".join(message["content"] for message in item.messages)


def questions(item: Item) -> list[str]:
    """The conversation, and where it has a system message the conversation without it."""
    turns = [turn["content"] for turn in item.messages if turn["role"] != "system"]
    alone = "\n".join(turns)
    return list(dict.fromkeys([conversation(item), *([alone] if turns else [])]))


def texts(item: Item) -> list[str]:
    """What of an item is compared with other data: its conversation, then its responses."""
    return [conversation(item), *item.responses]
