"""Problems that occur twice, exactly or in what :func:`spct.data.text.normal` leaves."""

from __future__ import annotations

from spct import artifact
from spct.data.flaws import Flaw
from spct.data.text import conversation, normal, questions
from spct.records import Item


def question_key(text: str) -> str:
    """A key of what is asked, equal for texts that read the same."""
    return artifact.text_hash(normal(text))


class Seen:
    """The problems seen so far, and the benchmarks' questions that training must not repeat.

    A problem is its conversation and its *set* of responses; another order is no other problem.
    """

    def __init__(self) -> None:
        self._questions: set[str] = set()
        self._exact: set[str] = set()
        self._normal: set[str] = set()

    def hold_out(self, item: Item) -> None:
        """Keep the question of a benchmark item out of the training data."""
        self._questions.update(map(question_key, questions(item)))

    def repeats(self, item: Item) -> Flaw | None:
        """Why a training item is a repeat, or None, and then it counts as seen.

        ``in_benchmark``; ``repeat``; ``near_repeat`` for one that is equal in
        :func:`spct.data.text.normal`.
        """
        if any(map(self.asks_benchmark, questions(item))):
            return "in_benchmark", "a benchmark asks the same"
        question = conversation(item)
        exact = _key([question], item.responses)
        near = _key([question_key(question)], [normal(text) for text in item.responses])
        if exact in self._exact:
            return "repeat", "the same question and responses"
        if near in self._normal:
            return "near_repeat", "the same but for case, spacing or the punctuation of prose"
        self._exact.add(exact)
        self._normal.add(near)
        return None

    def asks_benchmark(self, question: str) -> bool:
        """Whether a benchmark asks this, or what reads the same."""
        return question_key(question) in self._questions


def _key(question: list[str], responses: tuple[str, ...] | list[str]) -> str:
    return artifact.text_hash("\x1f".join([*question, *sorted(set(responses))]))
