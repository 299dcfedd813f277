"""The `openai` engine against a real vLLM server with the shipped model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_world import BASE

from spct import artifact, config, lm, models
from spct.bank.check import check_shard
from spct.config import Slice
from spct.data import toy
from spct.errors import StageStopped
from spct.records import read_bank, write_items
from spct.sampling import stages
from spct.sampling.base import Completion, Request, build
from spct.sampling.endpoint import Endpoint
from spct.schema import ModelConfig, OpenAIConfig, SamplerConfig
from spct.seeds import rng
from spct.training.batching import Example
from spct.training.choice import completion_logprobs
from spct.training.groups import grouped

KEY = "sk-only-for-this-test"
CONTEXT = 256


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, up, on a port that is kept for it; it wants the key."""
    folder = tmp_path_factory.mktemp("server")
    template = folder / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    kept = socket.socket()  # bound as the server binds it, and not listening: nobody else gets it
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    words = {
        "--model": str(models.resolve(BASE.source)), "--served-model-name": "judge",
        "--host": "127.0.0.1", "--port": str(port), "--max-model-len": str(CONTEXT),
        "--dtype": "float32", "--max-num-seqs": "16", "--chat-template": str(template),
        "--kv-cache-memory-bytes": str(64 << 20), "--generation-config": "vllm",
        "--logprobs-mode": "raw_logprobs",
    }  # fmt: skip
    settings = {
        "VLLM_API_KEY": KEY, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TORCH_COMPILE_DISABLE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [word for pair in words.items() for word in pair]
    with kept, (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def wait(health: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1800):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(health, timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not come up:\n{log.read_text()[-4000:]}")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def ask(
    url: str, requests: list[Request], served: str = "judge", **change: Any
) -> list[Completion]:
    settings = {"api": "completions", "key_env": "JUDGE_KEY", "max_retries": 0} | change
    sampling = SamplerConfig("openai", 12, 128, 64, 100, 1.0, openai=OpenAIConfig(url, **settings))
    spec = ModelConfig("e", f"endpoint:{served}", None, "float32", False)
    return build(Endpoint(spec, sampling.openai), sampling).sample(requests)


@pytest.fixture(scope="module")
def base() -> lm.LM:
    return lm.load(BASE)


def prompts() -> list[str]:
    return [f"<judge> self scores Query: story {word} [1] a [2] b Answer:" for word in "abcdefgh"]


def requests(temperature: float, seed: int = 100) -> list[Request]:
    return [Request((), seed + i, temperature, text) for i, text in enumerate(prompts())]


def test_greedy_is_that_of_the_same_weights_here(url: str, base: lm.LM) -> None:
    ours = build(base, SamplerConfig("native", 12, 128, 64, 100, 1.0)).sample(
        [Request(base.encode_prompt(text), 1, 0.0) for text in prompts()]
    )
    served = ask(url, requests(0.0))
    for one, two, text in zip(ours, served, prompts(), strict=True):
        plain = base.tokenizer.decode(one.ids, skip_special_tokens=True)
        assert (two.text or "").strip() == plain.strip()
        assert two.finish == one.finish
        assert two.prompt_tokens == len(base.encode_prompt(text))
        assert two.tokens == one.count
    chat = ask(url, requests(0.0), api="chat")
    assert [c.text for c in chat] == [c.text for c in served]
    assert {c.logprob for c in chat} == {None}


def test_seeds_fix_the_draws(url: str) -> None:
    one, two, other = (ask(url, requests(1.0, seed)) for seed in (100, 100, 900))
    assert [c.text for c in one] == [c.text for c in two] != [c.text for c in other]


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_logprobs_are_those_of_a_forward_pass(url: str, base: lm.LM, api: str) -> None:
    done = ask(url, requests(1.0), api=api, logprobs=True)
    assert all(c.logprobs and c.logprob is not None for c in done)
    checked = 0
    for request, completion in zip(requests(1.0), done, strict=True):
        ids = tuple(base.tokenizer.encode(completion.text, add_special_tokens=False))
        end = (base.end,) if completion.finish == "stop" else ()
        if len(ids + end) != completion.tokens:
            continue  # the text has no one way back to its tokens
        batch, _ = grouped([Example(base.encode_prompt(request.text), ids + end)])
        with torch.no_grad():
            expected = completion_logprobs(base.model, batch).logprobs
        told = completion.logprobs
        np.testing.assert_allclose(told, expected[: len(told)], rtol=0, atol=1e-3)
        checked += 1
    assert checked >= 2


def test_what_the_server_refuses(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (done,) = ask(url, [Request((), 1, 1.0, "a story " * 400)])
    assert done.finish == "too_long" and str(CONTEXT) in done.error
    (done,) = ask(url, requests(1.0)[:1], served="another")
    assert done.finish == "error" and done.error.startswith("HTTP 404")
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong")
    (done,) = ask(url, requests(1.0)[:1])
    assert done.finish == "error" and done.error.startswith("HTTP 401")


def test_a_bank_judged_by_a_server(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [toy.make_item(rng(0, "server", i), "pair", "toy_pair", f"pair-{i}") for i in range(6)]
    write_items(tmp_path / "items.parquet", items)
    words = ["plan=endpoint", "model.source=endpoint:judge", f"sampler.openai.base_url={url}"]
    words += ["sampler.openai.api=completions", "sampler.openai.key_env=JUDGE_KEY"]
    words += ["bench.k_max=4", "sampler.openai.max_retries=0", "sampler.part_samples=10"]
    cfg = Slice.of(config.load(words), "judge")
    out, io = tmp_path / "bank" / "0.parquet", {"items": tmp_path / "items.parquet", "shard": 0}
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong")
    with pytest.raises(StageStopped, match="HTTP 401"):
        stages.judge(cfg, 3, policy="base", out=out, **io)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    stages.judge(cfg, 3, policy="base", out=out, **io)
    rows = list(read_bank(out))
    assert len(rows) == 30 and sum(row.outcome == "ok" for row in rows) > 15
    assert check_shard(out, io["items"]).state == "whole"
    assert artifact.read_manifest(out)["engine"] == "openai"
