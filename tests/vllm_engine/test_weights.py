"""Weights of this process in vLLM: taken over, counted, and never mixed with old ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from engine_world import BASE, ask, sampler

from spct import lm
from spct.errors import StageStopped
from spct.sampling.agreement import gate, measure
from spct.sampling.refresh import check_versions, refresh, rest
from spct.sampling.vllm import VllmSampler

Prompts = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def policy() -> lm.LM:
    return lm.load(BASE)


@pytest.fixture(scope="module")
def colocated(policy: lm.LM) -> VllmSampler:
    return sampler(policy)


@pytest.fixture
def versions(colocated: VllmSampler) -> Iterator[int]:
    """Numbers above those used."""
    yield (colocated.version or 0) + 1


def move(policy: lm.LM, seed: int) -> None:
    """Every weight by some percent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in policy.model.parameters():
            value += 0.02 * torch.randn(value.shape, generator=generator)


def test_before_any_refresh_nothing_counts_as_fresh(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts
) -> None:
    requests = ask(prompts)
    completions = colocated.sample(requests)
    gate(measure(policy.model, requests, completions), torch.float32, "vllm")
    with pytest.raises(StageStopped, match="9 of version None"):
        check_versions(colocated, completions, 0)


def test_outputs_follow_the_weights(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    """The prompts stay the same: no key or value of old weights may survive in the cache."""
    requests = ask(prompts, each=4)
    before = colocated.sample(requests)
    for version in range(versions, versions + 3):
        move(policy, version)
        refresh(colocated, policy, version)
        completions = colocated.sample(requests)
        check_versions(colocated, completions, version)
        assert measure(policy.model, requests, before).mean > 0.01
        gate(measure(policy.model, requests, completions), torch.float32, "vllm")
        before = completions


def test_one_version_is_one_state_of_the_weights(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    refresh(colocated, policy, versions)
    reads = []

    def watched() -> Iterator[tuple[str, torch.Tensor]]:
        reads.append(1)
        yield from policy.model.named_parameters()

    colocated.refresh(watched(), versions)
    assert not reads
    check_versions(colocated, colocated.sample(ask(prompts)), versions)


def test_tokens_of_other_weights_are_an_error(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    refresh(colocated, policy, versions)
    colocated._engine.update_weight_version(str(versions - 1))
    with pytest.raises(StageStopped, match=f"tokens of weights {versions - 1}, not of {versions}"):
        colocated.sample(ask(prompts))
    refresh(colocated, policy, versions + 1)
    colocated.sample(ask(prompts))


@pytest.mark.gpu
def test_a_resting_engine_gives_memory_back(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    requests = ask(prompts)
    refresh(colocated, policy, versions)
    free, _ = torch.cuda.mem_get_info()
    rest(colocated)
    assert torch.cuda.mem_get_info()[0] > free
    with pytest.raises(StageStopped, match="no weights"):
        colocated.sample(requests)
    refresh(colocated, policy, versions)
    found = measure(policy.model, requests, colocated.sample(requests))
    gate(found, torch.float32, "vllm")


def test_without_gpu_there_is_no_rest(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU's memory is given back")
    rest(colocated)
    refresh(colocated, policy, versions)
    assert colocated.sample(ask(prompts))


def test_a_weight_that_is_missing_is_named(
    colocated: VllmSampler, policy: lm.LM, prompts: Prompts, versions: int
) -> None:
    some = [pair for pair in policy.model.named_parameters() if "layers.1.mlp.down" not in pair[0]]
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.down_proj\.weight$"):
        colocated.refresh(iter(some), versions)
    with pytest.raises(StageStopped, match="no weights to sample with"):
        colocated.sample(ask(prompts))
    refresh(colocated, policy, versions)
    requests = ask(prompts)
    found = measure(policy.model, requests, colocated.sample(requests))
    gate(found, torch.float32, "vllm")
