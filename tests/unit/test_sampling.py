from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from spct import lm
from spct.errors import ConfigError
from spct.sampling.base import Completion, Request, Sampler, build, uniforms
from spct.sampling.choose import choose
from spct.schema import SamplerConfig
from spct.training.choice import completion_logprobs
from spct.training.groups import Group

ENGINES = ("native", "hf")
Requests = list[Request]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(tiny: lm.LM, sampler_config: SamplerConfig, engine: str) -> Callable[..., Sampler]:
    def sampler(model: lm.LM = tiny, **change: object) -> Sampler:
        return build(model, replace(sampler_config, engine=engine, **change))

    return sampler


@pytest.fixture(scope="module")
def prompts() -> list[tuple[int, ...]]:
    """Nine prompts of 3 to 40 tokens."""
    rng = np.random.default_rng(0)
    lengths = (3, 17, 40, 9, 9, 25, 4, 31, 12)
    return [tuple(int(x) for x in rng.integers(3, 150, size=n)) for n in lengths]


def ask(prompts: list[tuple[int, ...]], temperature: float = 1.0, each: int = 1) -> Requests:
    return [
        Request(p, 100 + i + 50 * j, temperature)
        for i, p in enumerate(prompts)
        for j in range(each)
    ]


def same(one: Completion, two: Completion, tolerance: float = 1e-5) -> bool:
    return (one.ids, one.finish) == (two.ids, two.finish) and np.allclose(
        one.logprobs, two.logprobs, rtol=0, atol=tolerance
    )


def greedy(model: lm.LM, prompt: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """What plain ``generate`` gives, without any sampler of ours, cut at the end of sequence."""
    output = model.model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=limit, min_new_tokens=0,
        eos_token_id=model.end, pad_token_id=model.pad,
    )  # fmt: skip
    ids = output[0, len(prompt) :].tolist()
    return tuple(ids[: ids.index(model.end)] if model.end in ids else ids)


# ---- the contract, for every engine ------------------------------------------------------------


def test_greedy_is_plain_generate_in_the_order_asked(
    make: Callable[..., Sampler], tiny: lm.LM, prompts: list
) -> None:
    completions = make(batch_size=4).sample(ask(prompts, temperature=0.0))
    expected = [greedy(tiny, prompt, 24) for prompt in prompts]
    assert [c.ids for c in completions] == expected
    assert len(set(expected)) > 1


def test_stop_and_length(make: Callable[..., Sampler], tiny: lm.LM, prompts: list) -> None:
    completions = make(max_new_tokens=24, batch_size=16).sample(ask(prompts, each=16))
    stopped = [c for c in completions if c.finish == "stop"]
    cut = [c for c in completions if c.finish == "length"]
    assert len(stopped) > 3 and len(cut) > 3 and len(stopped) + len(cut) == len(completions)
    assert all(len(c.logprobs) == len(c.ids) + 1 <= 24 for c in stopped)
    assert all(len(c.logprobs) == len(c.ids) == 24 for c in cut)
    assert not any(tiny.end in c.ids for c in completions)
    assert all(c.logprob == pytest.approx(sum(c.logprobs)) for c in completions)


def test_company_changes_nothing(make: Callable[..., Sampler], prompts: list) -> None:
    requests = ask(prompts, each=2)
    requests[3] = replace(requests[3], temperature=0.0)
    together = make(batch_size=64).sample(requests)
    for size in (1, 5):
        for one, two in zip(make(batch_size=size).sample(requests), together, strict=True):
            assert same(one, two)
    turned = make(batch_size=4).sample(requests[::-1])[::-1]
    assert all(same(one, two) for one, two in zip(turned, together, strict=True))
    alone = make().sample([requests[7]])
    assert same(alone[0], together[7])


def test_seeds_and_temperature(make: Callable[..., Sampler], prompts: list) -> None:
    prompt = prompts[1]

    def texts(seeds: range, temperature: float) -> list[tuple[int, ...]]:
        asked = [Request(prompt, seed, temperature) for seed in seeds]
        return [c.ids for c in make().sample(asked)]

    assert len(set(texts(range(8), 1.0))) == 8
    assert len(set(texts(range(8), 0.0))) == 1
    assert texts(range(3), 1.0) == texts(range(3), 1.0)
    assert texts(range(8), 1e-4) == texts(range(8), 0.0)
    assert texts(range(3), 0.5) != texts(range(3), 1.0)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_are_those_of_a_teacher_forced_pass(
    make: Callable[..., Sampler], tiny: lm.LM, prompts: list, temperature: float
) -> None:
    requests = ask(prompts, temperature, each=3)
    completions = make().sample(requests)
    for request, completion in zip(requests, completions, strict=True):
        end = (tiny.end,) if completion.finish == "stop" else ()
        group = Group(request.prompt, (completion.ids + end,))
        with torch.no_grad():
            expected = completion_logprobs(tiny.model, [group], temperature or 1.0)
        np.testing.assert_allclose(completion.logprobs, expected.logprobs, rtol=0, atol=1e-4)


def test_native_equals_hf(tiny: lm.LM, sampler_config: SamplerConfig, prompts: list) -> None:
    for top_p in (1.0, 0.6):
        requests = ask(prompts, each=2) + ask(prompts[:3], temperature=0.0)
        one, two = (
            build(tiny, replace(sampler_config, engine=engine, top_p=top_p)).sample(requests)
            for engine in ENGINES
        )
        assert all(same(a, b) for a, b in zip(one, two, strict=True))


def test_nothing_asked_nothing_given(make: Callable[..., Sampler]) -> None:
    assert make().sample([]) == []


def test_a_models_own_generation_settings_stay_out(
    make: Callable[..., Sampler], tiny: lm.LM, prompts: list
) -> None:
    """Some hub models ship a repetition penalty; it would bias every sample, unseen."""
    before = make().sample(ask(prompts))
    tiny.model.generation_config.repetition_penalty = 5.0
    tiny.model.generation_config.suppress_tokens = [7, 8, 9]
    assert make().sample(ask(prompts)) == before
    assert tiny.model.generation_config.repetition_penalty == 5.0


def test_an_unknown_engine_is_refused(tiny: lm.LM, sampler_config: SamplerConfig) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.engine is 'llm'; known: native, hf, vllm, op"):
        build(tiny, replace(sampler_config, engine="llm"))


# ---- the choice --------------------------------------------------------------------------------

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, -30.0])


def _drawn(temperature: float, top_p: float, count: int = 4000) -> np.ndarray:
    draws = torch.from_numpy(np.random.default_rng(0).random(count))
    rows = LOGITS.expand(count, -1)
    tokens, logprobs = choose(rows, torch.full((count,), temperature), draws, top_p)
    expected = (LOGITS / temperature).log_softmax(-1) if top_p == 1.0 else None
    if expected is not None:
        torch.testing.assert_close(logprobs, expected[tokens])
    return np.bincount(tokens.numpy(), minlength=5)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_the_distribution_is_right(temperature: float) -> None:
    counts = _drawn(temperature, 1.0)[:4]
    expected = 4000 * (LOGITS[:4].double() / temperature).softmax(-1).numpy()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


def test_the_nucleus_is_the_smallest_set() -> None:
    shares = LOGITS.softmax(-1)  # 0.61, 0.23, 0.14, 0.03, 0
    assert set(_drawn(1.0, 0.6).nonzero()[0]) == {0}
    assert set(_drawn(1.0, 0.7).nonzero()[0]) == {0, 1}
    counts = _drawn(1.0, 0.9)
    assert set(counts.nonzero()[0]) == {0, 1, 2}
    kept = shares[:3].numpy() / float(shares[:3].sum())
    assert ((counts[:3] - 4000 * kept) ** 2 / (4000 * kept)).sum() < 13.8  # 2 degrees of freedom


def test_the_nucleus_never_empties_and_spares_greedy() -> None:
    rows, draws = LOGITS.expand(2, -1), torch.tensor([0.99, 0.99], dtype=torch.float64)
    tokens, logprobs = choose(rows, torch.tensor([1.0, 0.0]), draws, top_p=1e-6)
    assert tokens.tolist() == [0, 0]
    assert logprobs.tolist() == pytest.approx([0.0, float(LOGITS.log_softmax(-1)[0])])


def test_extreme_draws_stay_inside() -> None:
    rows = torch.tensor([[-1e30, 0.0, 0.0, -1e30]]).expand(3, -1)
    draws = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    tokens, _ = choose(rows, torch.ones(3), draws)
    assert tokens.tolist() == [1, 2, 2]


def test_draws_are_a_function_of_the_seed() -> None:
    assert (uniforms(3, 10)[:4] == uniforms(3, 4)).all()
    assert (uniforms(3, 4) != uniforms(4, 4)).all()
