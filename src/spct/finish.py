"""Why a text ended, what that allows, and what came of a sample: one table for all that read texts.

Every engine translates its own words into a :class:`Finish`; the parser, RFT, the meta RM, GRPO and
the baselines ask :data:`MEANING` what they may do with the text. The table with its reasons stands
in ``docs/engines.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What came of one sample. All but ``ok`` are kept in the bank and never become a score."""

    ok = "ok"
    malformed = "malformed"
    wrong_count = "wrong_count"
    out_of_range = "out_of_range"
    truncated = "truncated"  # the text was cut off before its own end
    prompt_too_long = "prompt_too_long"  # set by the sampler: nothing was generated
    engine_error = "engine_error"  # set by the sampler: the engine gave up on this sample


class Finish(StrEnum):
    """Why a text ended, as bank rows have it."""

    stop = "stop"  # a token that ends a text, of the model's own choosing
    stop_string = "stop_string"  # one of ``sampler.stop``
    length = "length"  # the token limit, or the engine cut it off
    content_filter = "content_filter"
    tool_call = "tool_call"
    abort = "abort"  # the engine dropped the request
    error = "error"  # the engine failed
    too_long = "too_long"  # the engine refused the prompt for its length
    unknown = "unknown"  # the engine gave a reason that is not in our tables
    none = "none"  # nothing was generated


@dataclass(frozen=True)
class Meaning:
    """``outcome``: what the sample comes to whatever its text says, None if the text is read.
    ``end``: whether the text ended itself, so that an end may be taught behind it."""

    outcome: Outcome | None
    end: bool = False

    @property
    def read(self) -> bool:
        """Whether the text is whole: it may be read, imitated and judged by the meta RM."""
        return self.outcome is None

    @property
    def lost(self) -> bool:
        """Whether there is no text at all to speak of."""
        return self.outcome in (Outcome.engine_error, Outcome.prompt_too_long)


MEANING: dict[str, Meaning] = {
    Finish.stop: Meaning(None, end=True),
    Finish.stop_string: Meaning(None),
    Finish.length: Meaning(Outcome.truncated),
    Finish.content_filter: Meaning(Outcome.truncated),
    Finish.tool_call: Meaning(Outcome.malformed),
    Finish.abort: Meaning(Outcome.engine_error),
    Finish.error: Meaning(Outcome.engine_error),
    Finish.too_long: Meaning(Outcome.prompt_too_long),
    Finish.unknown: Meaning(Outcome.engine_error),
    Finish.none: Meaning(Outcome.engine_error),
}
VLLM = {  # of an output of vLLM 0.32; "stop" is told apart by the tokens
    "stop": Finish.stop,
    "length": Finish.length,
    "repetition": Finish.length,
    "abort": Finish.abort,
    "error": Finish.error,
}
# ``finish_reason`` of compatible endpoints: the OpenAI API, vLLM, Mistral, DeepSeek and TGI.
OPENAI = VLLM | {
    "eos_token": Finish.stop,
    "stop_sequence": Finish.stop_string,
    "model_length": Finish.length,
    "content_filter": Finish.content_filter,
    "tool_calls": Finish.tool_call,
    "function_call": Finish.tool_call,
    "insufficient_system_resource": Finish.abort,
}


def meaning(finish: str) -> Meaning:
    """The meaning of a bank row's or a completion's ``finish``; of a word that is none, unknown."""
    return MEANING.get(finish, MEANING[Finish.unknown])
