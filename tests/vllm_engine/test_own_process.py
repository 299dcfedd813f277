"""vLLM in a process of its own, as GRPO with ``grpo.colocate=false`` has it."""

from __future__ import annotations

import pytest
import torch
from engine_world import BASE, CONFIG, ask
from test_weights import move

from spct import lm
from spct.sampling import apart
from spct.sampling.agreement import gate, measure
from spct.sampling.apart import ApartSampler
from spct.sampling.refresh import check_versions, refresh


def test_it_takes_over_the_trainers_weights(
    prompts: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    policy = lm.load(BASE)
    sampler = ApartSampler(BASE, "", CONFIG)
    requests = ask(prompts, each=4)
    before = None
    for version in range(2):
        move(policy, version)
        refresh(sampler, policy, version)
        completions = sampler.sample(requests)
        check_versions(sampler, completions, version)
        gate(measure(policy.model, requests, completions), torch.float32, "vllm")
        if before is not None:
            assert measure(policy.model, requests, before).mean > 0.01
        before = completions
    apart._end(sampler._connection, sampler._process)
    assert not sampler._process.is_alive()
