"""What goes over the wire to an OpenAI-compatible endpoint, and how its answers are read.

Source: the OpenAI API reference, chat completions and (legacy) completions, as vLLM 0.32 serves
them. No network here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from spct.finish import OPENAI, Finish, meaning
from spct.sampling.base import Completion, Request
from spct.schema import SamplerConfig

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
# More tokens than a template of the endpoint's own adds to a prompt.
TEMPLATE_TOKENS = 64
_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum (?:context|model|input) length|context (?:length|window)"
    r"|(?:prompt|input) is too long",
    re.IGNORECASE,
)
_MESSAGE = 200  # characters of an endpoint's own words in an error


class Unreadable(ValueError):
    """An answer that is not one: a field is missing or of another type."""


def body(request: Request, served: str, config: SamplerConfig) -> dict[str, Any]:
    """The JSON body that asks for one completion; ``extra`` fields last, null takes a field out."""
    chat = config.openai.api == "chat"
    asked: dict[str, Any] = {
        "model": served,
        "max_tokens": config.max_new_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if chat:
        asked["messages"] = [{"role": "user", "content": request.text}]
    else:
        asked["prompt"] = request.text
    if config.top_p < 1.0 and request.temperature > 0:
        asked["top_p"] = config.top_p
    if config.stop:
        asked["stop"] = list(config.stop)
    if config.openai.logprobs:
        asked["logprobs"] = True if chat else 1
    asked |= config.openai.extra
    return {name: value for name, value in asked.items() if value is not None}


def stops(config: SamplerConfig) -> tuple[str, ...]:
    """The stop strings that an endpoint is asked for: ``sampler.stop``, or those of ``extra``."""
    asked = config.openai.extra.get("stop", config.stop) or ()
    return (asked,) if isinstance(asked, str) else tuple(asked)


def most_tokens(asked: Mapping[str, Any], text: str, limit: int) -> int:
    """A bound on the tokens of prompt and completion: no token is shorter than a byte."""
    limits = (asked.get(name) for name in ("max_tokens", "max_completion_tokens"))
    new = max([n for n in limits if isinstance(n, int)], default=limit)
    return len(text.encode()) + TEMPLATE_TOKENS + new


def completion(answer: Any, stop: Sequence[str] = ()) -> Completion:
    """The completion in a decoded answer. Raises :class:`Unreadable` naming what is missing, or how
    the endpoint failed.

    The text is what the model answers; thoughts that an endpoint returns apart are left out, though
    ``usage`` counts their tokens. ``stop``: the stop strings asked for, before which it ends
    whether or not the endpoint took them out.
    """
    choice = _get(_get(answer, "choices", list), 0, dict)
    if "message" in choice:
        text = _get(choice, "message", dict).get("content") or ""
    else:
        text = _get(choice, "text", str)
    if not isinstance(text, str):
        raise Unreadable("content is no text")
    usage = _get(answer, "usage", dict)
    finish = _finish(choice, stop)
    for one in stop if meaning(finish).read else ():
        if one in text:  # the endpoint left it in
            text, finish = text[: text.find(one)], Finish.stop_string
    return Completion(
        ids=(),
        logprobs=_logprobs(choice.get("logprobs")),
        finish=finish,
        text=text.encode("utf-8", "replace").decode(),  # half of a surrogate pair is no text
        tokens=_count(usage, "completion_tokens"),
        prompt_tokens=_count(usage, "prompt_tokens"),
        error=_UNKNOWN.format(choice["finish_reason"]) if finish == Finish.unknown else "",
    )


_UNKNOWN = "the endpoint ended a text for the reason {!r:.40}, which nobody here knows"


def _finish(choice: Mapping[str, Any], stop: Sequence[str]) -> Finish:
    """Why the text of a choice ended. Raises :class:`Unreadable` if the endpoint failed.

    Most endpoints do not tell an end of the model's own from a stop string, which is therefore
    what ``stop`` means wherever one was asked for; vLLM says which by ``stop_reason``.
    """
    said = _get(choice, "finish_reason", str)
    finish = OPENAI.get(said.lower(), Finish.unknown)
    if finish in (Finish.abort, Finish.error):
        raise Unreadable(f"the endpoint ended the text with {said!r:.40}")
    message = choice.get("message")
    if finish == Finish.stop and isinstance(message, dict) and message.get("tool_calls"):
        return Finish.tool_call
    which = choice.get("stop_reason")
    if finish == Finish.stop and (isinstance(which, str) or (stop and not isinstance(which, int))):
        return Finish.stop_string
    return finish


def complaint(answer: Any) -> str:
    """What an endpoint says went wrong, in one line: of an error object, else the text itself."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        said = [error.get("message") or error.get("detail") or "", error.get("code") or ""]
        error = " ".join(str(part) for part in said if part) or str(error)
    return " ".join(str(error).split())


def shortened(text: str, secret: str) -> str:
    """The beginning of a message, the secret taken out first."""
    clean = text.replace(secret, "***") if secret else text
    return clean if len(clean) <= _MESSAGE else clean[: _MESSAGE - 1] + "…"


def too_long(status: int, said: str) -> bool:
    """Whether a refusal is for the length of the prompt."""
    return status in (400, 413, 422) and bool(_TOO_LONG.search(said))


def _get(value: Any, key: str | int, kind: type) -> Any:
    try:
        found = value[key]
    except (LookupError, TypeError):
        found = None
    if not isinstance(found, kind):
        raise Unreadable(f"the answer has no {key!r}" if isinstance(key, str) else "no choice")
    return found


def _count(usage: Mapping[str, Any], name: str) -> int:
    count: int = _get(usage, name, int)
    if not 0 <= count < 2**31:
        raise Unreadable(f"{name} is {count}")
    return count


def _logprobs(found: Any) -> tuple[float, ...]:
    """Log-probs of the tokens of a chat answer or a completion; empty unless all are known."""
    if not isinstance(found, dict):
        return ()
    if isinstance(entries := found.get("content"), list):
        values = [entry.get("logprob") if isinstance(entry, dict) else None for entry in entries]
    else:
        values = found.get("token_logprobs") or []
    known = [float(value) for value in values if isinstance(value, int | float)]
    return tuple(known) if len(known) == len(values) else ()
