from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from endpoint_world import Act, Body, Server, answer, judgement, served
from patience import PATIENCE

from spct.errors import ConfigError
from spct.sampling.base import Completion, Metered, Request, build
from spct.sampling.endpoint import CHAT_MARKS, Endpoint
from spct.sampling.openai import OpenAISampler
from spct.sampling.openai_calls import Caller, Purse
from spct.schema import ModelConfig, OpenAIConfig, SamplerConfig

KEY = "sk-a-very-secret-key"


def config_of(url: str = "http://localhost:1/v1", **openai: Any) -> SamplerConfig:
    quick: dict[str, Any] = {"backoff": 0.001, "timeout": PATIENCE, "max_retries": 3}
    quick["concurrency"] = 4
    settings = OpenAIConfig(url, **(quick | openai))
    return SamplerConfig("openai", 24, 128, 8, 100, 1.0, openai=settings)


def endpoint_of(config: SamplerConfig) -> Endpoint:
    return Endpoint(ModelConfig("e", "endpoint:judge-1", None, "float32", False), config.openai)


def sampler_of(server: Server, **openai: Any) -> OpenAISampler:
    config = config_of(server.url, **openai)
    sampler = build(endpoint_of(config), config)
    assert isinstance(sampler, OpenAISampler) and isinstance(sampler, Metered)
    return sampler


def asked(count: int, first: int = 100) -> list[Request]:
    return [Request((), seed, 1.0, f"prompt {seed}") for seed in range(first, first + count)]


def right(completions: list[Completion], requests: list[Request]) -> bool:
    texts = [judgement({"seed": request.seed}) for request in requests]
    return [c.text for c in completions] == texts


def test_completions_come_back_in_order_with_their_counts() -> None:
    with served() as server:
        requests = asked(30)
        done = sampler_of(server).sample(requests)
    assert right(done, requests)
    assert {(c.finish, c.prompt_tokens, c.tokens) for c in done} == {("stop", 2, 3)}
    assert {body["model"] for body in server.bodies} == {"judge-1"}
    assert {body["path"] for body in server.bodies} == {"/v1/chat/completions"}
    assert Counter(body["seed"] for body in server.bodies) == {r.seed: 1 for r in requests}


def test_the_completions_api() -> None:
    with served() as server:
        done = sampler_of(server, api="completions").sample(asked(2))
    assert right(done, asked(2))
    assert {body["path"] for body in server.bodies} == {"/v1/completions"}


def test_no_more_at_one_time_than_allowed() -> None:
    with served() as server:
        server.together = threading.Barrier(3)
        sampler_of(server, concurrency=3).sample(asked(21))
    assert server.most == 3


def test_the_environment_says_how_to_ask_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCT_OPENAI", "concurrency=2 timeout=7.5 max_retries=0")
    with served() as server:
        server.together = threading.Barrier(2)
        sampler = sampler_of(server, concurrency=6)
        sampler.sample(asked(12))
    settings = sampler.config.openai
    assert server.most == 2
    assert (settings.concurrency, settings.timeout, settings.max_retries) == (2, 7.5, 0)
    assert (settings.base_url, settings.backoff) == (server.url, 0.001)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("logprobs=true", "'logprobs' is not one of concurrency, timeout"),
        ("key_env=SECRET", "'key_env' is not one of"),
        ("concurrency=many", "'concurrency=many' has no int"),
        ("concurrency=0", "concurrency: 0 is not 1 or more"),
        ("backoff=1 timeout=0", "timeout: 0.0 is not above 0"),
    ],
)
def test_nothing_else_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    """What is asked stands in the slice alone."""
    monkeypatch.setenv("SPCT_OPENAI", words)
    with pytest.raises(ConfigError, match=f"SPCT_OPENAI: {message}"):
        build(endpoint_of(config_of()), config_of())


TROUBLE = {
    "429": Act(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0.01"}),
    "500": Act(500, {"error": "internal"}),
    "503 html": Act(503, raw=b"<html>busy</html>"),
    "half": Act(half=True),
    "malformed": Act(raw=b'{"choices": [{"mess'),
    "no utf-8": Act(raw=b"\xff\xfe\x00"),
    "empty": Act(raw=b""),
    "error below 200": Act(content={"error": {"message": "upstream", "code": 502}}),
    "no choices": Act(content={"choices": [], "usage": {}}),
}


@pytest.mark.parametrize("act", TROUBLE.values(), ids=TROUBLE)
def test_trouble_that_passes_leaves_no_trace(act: Act) -> None:
    def script(tried: int, body: Body) -> Act:
        return act if body["seed"] % 3 == 0 and tried < 2 else Act()

    with served(script) as server:
        requests = asked(12)
        done = sampler_of(server).sample(requests)
    assert right(done, requests)
    assert all(server.tries(r.seed) == (3 if r.seed % 3 == 0 else 1) for r in requests)
    assert sorted(server.answered) == [r.seed for r in requests]


SAYS = {
    "429": "HTTP 429: slow down", "500": "HTTP 500: internal", "503 html": "HTTP 503: <html>",
    "half": "RemoteProtocolError", "malformed": "no JSON", "no utf-8": "no JSON",
    "empty": "no JSON", "error below 200": "HTTP 502: upstream 502", "no choices": "no choice",
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_stays_is_an_error_of_this_request_alone(name: str) -> None:
    with served(lambda tried, body: TROUBLE[name] if body["seed"] == 103 else Act()) as server:
        requests = asked(6)
        done = sampler_of(server, max_retries=2).sample(requests)
    assert server.tries(103) == 3
    assert [c.finish for c in done] == ["stop"] * 3 + ["error"] + ["stop"] * 2
    lost = done.pop(3)
    assert SAYS[name] in lost.error and "(after 3 attempts)" in lost.error
    assert (lost.ids, lost.text, lost.count, lost.logprob) == ((), "", 0, None)
    assert right(done, requests[:3] + requests[4:])


def test_a_hang_ends_at_the_deadline() -> None:
    with served(lambda tried, body: Act(hang=True)) as server:
        (done,) = sampler_of(server, timeout=0.2, max_retries=1).sample(asked(1))
    assert done.finish == "error"
    assert done.error.startswith("no answer within 0.2 s") and "(after 2 attempts)" in done.error


def test_nobody_there() -> None:
    with served() as server:
        pass
    (done,) = sampler_of(server, max_retries=1).sample(asked(1))
    assert done.finish == "error" and "ConnectError" in done.error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    refusal = Act(status, {"error": {"message": f"not like this {'x' * 500}"}})
    with served(lambda tried, body: refusal) as server:
        done = sampler_of(server).sample(asked(3))
    assert {c.finish for c in done} == {"error"} and len(server.bodies) == 3
    assert done[0].error.startswith(f"HTTP {status}: not like this") and len(done[0].error) <= 200


def test_a_prompt_too_long_for_the_endpoint_is_told_apart() -> None:
    refusal = Act(400, {"error": {"message": "no", "code": "context_length_exceeded"}})
    with served(lambda tried, body: refusal if body["seed"] == 100 else Act()) as server:
        done = sampler_of(server).sample(asked(2))
    assert [c.finish for c in done] == ["too_long", "stop"] and server.tries(100) == 1


@pytest.mark.parametrize("round_", range(3))
def test_any_mixture_of_trouble_is_accounted_for_exactly(round_: int) -> None:
    """Each request ends answered once or failed, whatever happens to its attempts."""
    acts = [*TROUBLE.values(), Act(400, {"error": "no"}), Act(), Act(), Act()]

    def script(tried: int, body: Body) -> Act:
        draw = np.random.default_rng([round_, body["seed"], tried])
        return acts[draw.integers(len(acts))]

    with served(script) as server:
        requests = asked(60)
        done = sampler_of(server, concurrency=8, max_retries=2).sample(requests)
    assert len(done) == 60
    good = [r.seed for r, c in zip(requests, done, strict=True) if c.finish == "stop"]
    assert sorted(server.answered) == good and 20 < len(good) < 60
    assert right([c for c in done if c.finish == "stop"], [r for r in requests if r.seed in good])
    assert max(map(server.tries, range(100, 160))) <= 3


# ---- waiting, with a clock of its own ----------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


def call(
    handler: Callable[[httpx2.Request], httpx2.Response], seed: int = 7, **openai: Any
) -> tuple[Completion, Clock]:
    """One request against a handler in this process."""
    clock = Clock()

    async def run() -> Completion:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as client:
            config = config_of(**openai)
            caller = Caller(client, "m", config, "", Purse(0, 0), sleep=clock.sleep, now=clock.now)
            return await caller.ask(Request((), seed, 1.0, "p"))

    return asyncio.run(run()), clock


def test_waits_grow_and_differ_between_requests() -> None:
    def waits(seed: int, **openai: Any) -> list[float]:
        settings = {"backoff": 2.0, "max_retries": 5, "max_wait": 1000.0} | openai
        done, clock = call(lambda _: httpx2.Response(500), seed, **settings)
        assert done.finish == "error"
        return clock.waits

    found = waits(7)
    assert len(found) == 5 and found == waits(7) and found != waits(8)
    assert all(0.5 <= wait / (2.0 * 2**i) <= 1.5 for i, wait in enumerate(found))
    assert max(waits(7, max_wait=10.0)) == 10.0


@pytest.mark.parametrize("status", [429, 503])
def test_the_endpoints_own_wait_is_kept(status: int) -> None:
    answers = iter([httpx2.Response(status, headers={"Retry-After": "33"}), httpx2.Response(400)])
    _, clock = call(lambda _: next(answers), backoff=0.01, max_wait=60.0)
    assert clock.time == pytest.approx(33.0, abs=1e-6)
    date = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    answers = iter([httpx2.Response(status, headers=date), httpx2.Response(400)])
    assert sum(call(lambda _: next(answers), backoff=0.0)[1].waits) == 0.0


def test_an_endpoint_that_asks_to_come_back_tomorrow_is_down() -> None:
    later = httpx2.Response(429, headers={"Retry-After": "86400"}, json={"error": "quota"})
    done, clock = call(lambda _: later)
    assert done.finish == "error" and not clock.waits
    assert "86400 s" in done.error and "sampler.openai.max_wait" in done.error


class MadeUpTime(asyncio.SelectorEventLoop):
    """An event loop whose clock stands while there is work, and jumps where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._now, select = 0.0, self._selector.select

        def jump(timeout: float | None = None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self._now


def test_only_what_hangs_is_asked_again_at_the_deadline() -> None:
    tries: Counter[int] = Counter()

    async def answer_of(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        tries[body["seed"]] += 1
        if body["seed"] == 101 or (body["seed"] == 102 and tries[102] == 1):
            await asyncio.sleep(1.5)  # the deadline is at 1
        return httpx2.Response(200, json=answer(judgement(body), body))

    async def run() -> list[Completion]:
        config = config_of(timeout=1.0, max_retries=1)
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer_of)) as client:
            now = asyncio.get_running_loop().time
            caller = Caller(client, "m", config, "", Purse(0, 0), now=now)
            return await asyncio.gather(*map(caller.ask, asked(4)))

    with asyncio.Runner(loop_factory=MadeUpTime) as runner:
        done = runner.run(run())
    assert [c.finish for c in done] == ["stop", "error", "stop", "stop"]
    assert done[1].error.startswith("no answer within 1 s (after 2 attempts)")
    assert [tries[seed] for seed in range(100, 104)] == [1, 2, 2, 1]


# ---- budget ------------------------------------------------------------------------------------


def test_a_budget_is_never_passed_and_used_as_far_as_it_is_safe() -> None:
    def cost(server: Server) -> int:
        return 5 * len(server.answered)  # two words of prompt, three of judgement

    most = len("prompt 100") + 64 + 24
    with served() as server:
        sampler = sampler_of(server, budget=200)
        done = sampler.sample(asked(60))
    spent = cost(server)
    assert sampler.spent == spent <= 200 < spent + most
    assert sampler.exhausted
    held_back = [c for c in done if c.finish == "error"]
    assert len(held_back) == 60 - len(server.answered)
    assert all("sampler.openai.budget" in c.error for c in held_back)
    with served() as server:
        free = sampler_of(server)
        free.sample(asked(60))
        assert (free.spent, free.exhausted) == (300, False)
        again = sampler_of(server, budget=1000)
        again.spent = 1000 - most + 1
        assert again.sample(asked(1))[0].finish == "error"
        again = sampler_of(server, budget=1000)
        again.spent = 1000 - most
        assert again.sample(asked(1))[0].finish == "stop"


@pytest.mark.parametrize(("name", "billed"), [("half", True), ("500", False), ("429", False)])
def test_answers_that_were_lost_count_as_if_they_were_whole(name: str, billed: bool) -> None:
    with served(lambda tried, body: TROUBLE[name]) as server:
        sampler = sampler_of(server, max_retries=1, budget=10_000)
        sampler.sample(asked(1))
    assert sampler.spent == (2 * (len("prompt 100") + 64 + 24) if billed else 0)


# ---- key and model -----------------------------------------------------------------------------


def test_the_key_goes_to_the_endpoint_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    refusal = Act(401, {"error": {"message": f"Incorrect API key provided: {KEY}. {KEY}" * 9}})
    with served(lambda tried, body: refusal) as server:
        sampler = sampler_of(server, key_env="JUDGE_KEY")
        (done,) = sampler.sample(asked(1))
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert done.error.startswith("HTTP 401: Incorrect API key provided: ***. ***")
    assert KEY[:8] not in done.error + repr(sampler) + repr(sampler.config)
    with served() as server:
        sampler_of(server).sample(asked(1))
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("value", ["", " ", "a\nb", "schlüssel"])
def test_a_missing_or_impossible_key_stops_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    config = config_of(key_env="JUDGE_KEY")
    with pytest.raises(ConfigError, match="JUDGE_KEY") as error:
        build(endpoint_of(config), config)
    assert not value.strip() or value not in str(error.value)


def test_an_endpoint_in_the_place_of_a_model() -> None:
    config = config_of()
    one = endpoint_of(config)
    assert (one.params, one.context, one.tokenizer_hash, one.encode_prompt("a b")) == (
        0, None, "", (),
    )  # fmt: skip
    assert one.hash == endpoint_of(config_of(concurrency=1)).hash and len(one.hash) == 16
    other = replace(config, openai=replace(config.openai, base_url="http://localhost:2/v1"))
    assert one.hash != endpoint_of(other).hash
    named = ModelConfig("e", "endpoint:judge-2", None, "float32", False)
    assert one.hash != Endpoint(named, config.openai).hash
    assert one.marks == tuple(sorted(CHAT_MARKS)) and one.tokenizer.chat_template is None


def test_a_model_with_weights_is_not_asked_of_an_endpoint(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"endpoint:<name>, not /"):
        build(tiny, config_of())
