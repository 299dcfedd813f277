"""One request to an endpoint, tried until it is answered, refused or given up; and the budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from spct.finish import Finish
from spct.sampling import openai_wire as wire
from spct.sampling.base import Completion, Request
from spct.schema import SamplerConfig
from spct.seeds import rng

_AGAIN = (408, 409, 429)  # and everything from 500 on
_NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(eq=False)
class Failure(Exception):
    """One attempt came to nothing.

    ``again``: another may succeed; ``wait``: seconds the endpoint asks for before; ``billed``: it
    may have generated, the answer was lost.
    """

    reason: str
    again: bool = True
    wait: float = 0.0
    billed: bool = False


def lost(reason: str, finish: Finish = Finish.error) -> Completion:
    """The completion of a request that came to nothing."""
    return Completion((), (), finish, text="", tokens=0, error=reason)


@dataclass
class Purse:
    """A budget in tokens: every attempt holds what it may cost at most and settles what it did."""

    limit: int  # 0 for none
    spent: int
    held: int = 0
    exhausted: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self, tokens: int) -> bool:
        """Wait until so many are free; False if they will not be."""
        while self.limit and self.spent + self.held + tokens > self.limit:
            if not self.held:
                self.exhausted = True
                return False
            await self._changed.wait()
        self.held += tokens
        return True

    def settle(self, held: int, used: int) -> None:
        self.held -= held
        self.spent += used
        self._changed.set()
        self._changed = asyncio.Event()


class Caller:
    """Asks one endpoint, through one client, within one budget."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        served: str,
        config: SamplerConfig,
        secret: str,
        purse: Purse,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.served, self.config, self.secret = client, served, config, secret
        self.purse, self.settings = purse, config.openai
        self.sleep, self.now = sleep, now
        self.url = self.settings.base_url.rstrip("/") + wire.PATHS[self.settings.api]
        self._not_before = 0.0  # an endpoint that asks one request to wait means all

    async def ask(self, request: Request) -> Completion:
        """The completion, or one with ``finish`` ``error`` or ``too_long`` and the reason."""
        asked = wire.body(request, self.served, self.config)
        most = wire.most_tokens(asked, request.text, self.config.max_new_tokens)
        reason = ""
        for attempt in range(self.settings.max_retries + 1):
            if attempt:
                await self.sleep(self._delay(request, attempt - 1))
            await self._pause()
            if not await self.purse.hold(most):
                return lost(
                    f"the budget of {self.purse.limit} tokens has no room for another request "
                    f"({self.purse.spent} are spent); raise sampler.openai.budget"
                )
            used = most  # also where the task is cancelled
            try:
                done = await self._attempt(asked)
                used = (done.prompt_tokens or 0) + done.count
                return done
            except Failure as failure:
                used = most if failure.billed else 0
                reason = wire.shortened(failure.reason, self.secret)
                if not failure.again:
                    return lost(reason)
                self._not_before = max(self._not_before, self.now() + failure.wait)
            finally:
                self.purse.settle(most, used)
        return lost(f"{reason} (after {self.settings.max_retries + 1} attempts)")

    async def _pause(self) -> None:
        while (left := self._not_before - self.now()) > 0:
            await self.sleep(left)

    def _delay(self, request: Request, retry: int) -> float:
        """Seconds before a retry: doubled each time, times a factor in 0.5..1.5 from the seed."""
        jitter = 0.5 + float(rng(request.seed, "backoff", retry).random())
        return float(min(self.settings.max_wait, self.settings.backoff * 2**retry * jitter))

    async def _attempt(self, asked: dict[str, Any]) -> Completion:
        try:
            async with asyncio.timeout(self.settings.timeout):
                answer = await self.client.post(self.url, json=asked)
        except TimeoutError:
            waited = f"no answer within {self.settings.timeout:g} s"
            raise Failure(waited, billed=True) from None
        except httpx2.RequestError as error:
            sent = not isinstance(error, _NOTHING_SENT)
            raise Failure(f"{type(error).__name__}: {error}", billed=sent) from None
        return self._read(answer)

    def _read(self, answer: httpx2.Response) -> Completion:
        try:
            content = answer.json()
        except ValueError:
            if answer.is_success:
                raise Failure("the answer is no JSON", billed=True) from None
            content = answer.text
        status = answer.status_code
        if answer.is_success and isinstance(content, dict) and content.get("error"):
            status = _code(content["error"])  # some gateways put an error below a 200
        elif answer.is_success:
            try:
                return wire.completion(content, wire.stops(self.config))
            except wire.Unreadable as error:
                raise Failure(f"unreadable: {error}", billed=True) from None
        said = wire.complaint(content)
        if wire.too_long(status, said):
            return lost(wire.shortened(said, self.secret), Finish.too_long)
        raise self._failure(status, said, answer.headers.get("retry-after", ""))

    def _failure(self, status: int, said: str, retry_after: str) -> Failure:
        reason, wait = f"HTTP {status}: {said}", _seconds(retry_after)
        if wait > self.settings.max_wait:
            asks = f"HTTP {status}, to be asked again in {wait:.0f} s (sampler.openai.max_wait is"
            return Failure(f"{asks} {self.settings.max_wait:g}): {said}", again=False)
        return Failure(reason, again=status in _AGAIN or status >= 500, wait=wait)


def _code(error: Any) -> int:
    """The status that an error object names, or 502."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _seconds(retry_after: str) -> float:
    """A ``Retry-After`` header, seconds or a date; 0 for none or nonsense."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
