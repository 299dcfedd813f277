"""The contract of a sampler, held to the real vLLM."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_world import BASE, CONFIG, ask, sampler
from safetensors.torch import save_file

from spct import lm
from spct.errors import ConfigError, StageStopped
from spct.sampling.agreement import gate, measure
from spct.sampling.base import Completion, Request, build
from spct.sampling.choose import nucleus
from spct.sampling.deadline import Deadline
from spct.sampling.vllm import VllmSampler, adapted
from spct.schema import VllmConfig

Prompts = list[tuple[int, ...]]


def same(one: Completion, two: Completion) -> bool:
    return (one.ids, one.finish) == (two.ids, two.finish) and np.allclose(
        one.logprobs, two.logprobs, rtol=0, atol=1e-4
    )


# ---- the contract ------------------------------------------------------------------------------


def test_greedy_is_that_of_hf_in_the_order_asked(
    engine: VllmSampler, base: lm.LM, prompts: Prompts
) -> None:
    completions = engine.sample(ask(prompts, temperature=0.0))
    expected = build(base, replace(CONFIG, engine="hf")).sample(ask(prompts, temperature=0.0))
    assert all(same(one, two) for one, two in zip(completions, expected, strict=True))
    assert len({c.ids for c in completions}) > 5
    assert engine.sample([]) == []


def test_stop_and_length(engine: VllmSampler, base: lm.LM, prompts: Prompts) -> None:
    completions = engine.sample(ask(prompts, each=16))
    stopped = [c for c in completions if c.finish == "stop"]
    cut = [c for c in completions if c.finish == "length"]
    assert len(stopped) > 3 and len(cut) > 3 and len(stopped) + len(cut) == len(completions)
    assert all(len(c.logprobs) == len(c.ids) + 1 <= 12 for c in stopped)
    assert all(len(c.logprobs) == len(c.ids) == 12 for c in cut)
    assert not any(base.end in c.ids for c in completions)


def test_a_seed_fixes_the_draws_whatever_the_company(engine: VllmSampler, prompts: Prompts) -> None:
    requests = ask(prompts, each=2)
    requests[3] = replace(requests[3], temperature=0.0)
    together = engine.sample(requests)
    assert all(same(*pair) for pair in zip(engine.sample(requests), together, strict=True))
    turned = engine.sample(requests[::-1])[::-1]
    assert all(same(*pair) for pair in zip(turned, together, strict=True))
    assert same(engine.sample([requests[7]])[0], together[7])


def test_other_seeds_draw_anew_unless_greedy(engine: VllmSampler, prompts: Prompts) -> None:
    big = 2**63 - 9  # seeds have 63 bits
    drawn = engine.sample([Request(prompts[1], big + k, 1.0) for k in range(8)])
    assert len({c.ids for c in drawn}) > 5
    greedy = engine.sample([Request(prompts[1], big + k, 0.0) for k in range(8)])
    assert len({c.ids for c in greedy}) == 1


def test_the_distribution_is_the_models(engine: VllmSampler, base: lm.LM, prompts: Prompts) -> None:
    count, temperature = 2000, 1.5
    drawn = engine.sample([Request(prompts[1], k, temperature) for k in range(count)])
    with torch.no_grad():
        logits = base.model(torch.tensor([prompts[1]])).logits[0, -1]
    expected = count * (logits.double() / temperature).softmax(-1).numpy()
    first = [c.ids[0] if c.ids else base.end for c in drawn]
    counts = np.bincount(first, minlength=len(expected))
    common = expected > 5
    assert counts[~common].sum() <= expected[~common].sum() + 4 * expected[~common].sum() ** 0.5 + 1
    chi_square = ((counts - expected) ** 2 / expected)[common].sum()
    freedom = int(common.sum())
    assert freedom > 5 and chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_logprobs_agree_with_the_trainer(
    engine: VllmSampler, base: lm.LM, prompts: Prompts
) -> None:
    requests = [r for t in (1.0, 0.0, 0.6) for r in ask(prompts, t, each=4)]
    found = measure(base.model, requests, engine.sample(requests))
    assert found.tokens > 500
    gate(found, torch.float32, "vllm")


def test_no_temperature_that_vllm_would_change(engine: VllmSampler, prompts: Prompts) -> None:
    with pytest.raises(ConfigError, match="0.005"):
        engine.sample([Request(prompts[0], 1, 0.005)])
    assert engine.sample(ask(prompts[:1]))


# ---- the prefix cache --------------------------------------------------------------------------


def test_samples_and_heads_share_their_prefix(engine: VllmSampler) -> None:
    """Two items with a head of 64 tokens, asked for in turn, four samples each."""
    rng = np.random.default_rng(5)
    head = tuple(int(x) for x in rng.integers(3, 150, size=64))
    items = [head + tuple(int(x) for x in rng.integers(3, 150, size=40)) for _ in range(2)]
    cached, asked = engine.cached_tokens, engine.prompt_tokens
    engine.sample([Request(items[k % 2], k, 1.0) for k in range(8)])
    # whole blocks of 32: three of an item's 104 tokens, two of which the other item brings
    assert engine.prompt_tokens - asked == 8 * 104
    assert engine.cached_tokens - cached == 64 + 6 * 96


# ---- options -----------------------------------------------------------------------------------


def test_the_nucleus_and_its_logprobs(base: lm.LM, prompts: Prompts) -> None:
    drawn = sampler(lm.load(BASE, weights=False), top_p=0.5).sample(ask(prompts, each=4))
    for request, completion in zip(ask(prompts, each=4), drawn, strict=True):
        tokens = completion.ids + ((base.end,) if completion.finish == "stop" else ())
        with torch.no_grad():
            logits = base.model(torch.tensor([request.prompt + tokens])).logits[0]
        kept = nucleus(logits[len(request.prompt) - 1 : -1].log_softmax(-1), 0.5)
        expected = kept[range(len(tokens)), list(tokens)]
        np.testing.assert_allclose(completion.logprobs, expected, rtol=0, atol=1e-4)


def write_adapter(folder: Path, base: lm.LM, rank: int, scale: float) -> dict[str, torch.Tensor]:
    """PEFT's files for two projections of every layer; what they add to each weight."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(3)
    tensors, added = {}, {}
    for name, weight in base.model.named_parameters():
        if not name.endswith(("q_proj.weight", "down_proj.weight")):
            continue
        a = 0.3 * torch.randn(rank, weight.shape[1], generator=generator)
        b = 0.3 * torch.randn(weight.shape[0], rank, generator=generator)
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        added[name] = scale * b @ a
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": scale * rank,
        "target_modules": ["q_proj", "down_proj"], "bias": "none", "lora_dropout": 0.0,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return added


def test_an_adapter_is_added_to_the_weights(prompts: Prompts, tmp_path: Path) -> None:
    merged = lm.load(BASE)
    added = write_adapter(tmp_path / "adapter", merged, rank=4, scale=2.0)
    requests = ask(prompts, each=2)
    options = replace(CONFIG.vllm, adapter=str(tmp_path / "adapter"))
    completions = sampler(lm.load(BASE, weights=False), vllm=options).sample(requests)
    assert measure(merged.model, requests, completions).mean > 0.1
    with torch.no_grad():
        for name, value in merged.model.named_parameters():
            value += added.get(name, 0.0)
    gate(measure(merged.model, requests, completions), torch.float32, "vllm")


def test_an_adapter_gives_the_model_another_name(base: lm.LM, tmp_path: Path) -> None:
    write_adapter(tmp_path / "one", base, rank=4, scale=2.0)
    write_adapter(tmp_path / "two", base, rank=8, scale=2.0)

    def name(adapter: str, engine: str = "vllm") -> str:
        return adapted(base, replace(CONFIG, engine=engine, vllm=VllmConfig(adapter=adapter))).hash

    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert len({name(""), name(one), name(two)}) == 3
    assert name("") == name(one, engine="hf") == base.hash
    with pytest.raises(ConfigError, match="a model in training takes no adapter"):
        sampler(base, vllm=VllmConfig(adapter=one))


def test_an_adapter_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sampler.vllm.adapter: .* has no adapter_config.json"):
        sampler(lm.load(BASE, weights=False), vllm=VllmConfig(adapter=str(tmp_path)))


# ---- failures ----------------------------------------------------------------------------------


def test_an_error_leaves_no_request_behind(
    engine: VllmSampler, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    step: Callable[[], Any] = engine._engine.llm_engine.step

    def fails() -> None:
        step()
        raise RuntimeError("the engine broke")

    with monkeypatch.context() as patch:
        patch.setattr(engine._engine.llm_engine, "step", fails)
        with pytest.raises(RuntimeError, match="the engine broke"):
            engine.sample(ask(prompts))
    assert not engine._engine.llm_engine.has_unfinished_requests()
    assert len(engine.sample(ask(prompts[:2]))) == 2


def test_a_step_that_hangs_is_an_error(
    engine: VllmSampler, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_deadline", Deadline(0.2, "advice"))
        patch.setattr(engine._engine.llm_engine, "step", release.wait)
        with pytest.raises(StageStopped, match="an engine step did not end within 0.2 s"):
            engine.sample(ask(prompts))
        release.set()
    names = list(engine._engine.llm_engine.output_processor.request_states)
    engine._engine.llm_engine.abort_request(names, internal=True)


# ---- where texts end ---------------------------------------------------------------------------


def test_every_end_of_the_model_stops_it_and_no_id_that_is_none(
    base: lm.LM, prompts: Prompts, tmp_path: Path
) -> None:
    """Also with stop strings, for which the engine reads the tokenizer itself."""
    greedy = ask(prompts, temperature=0.0)
    plain = build(base, replace(CONFIG, engine="hf")).sample(greedy)
    counts = Counter(token for completion in plain for token in completion.ids[3:])
    (stated, _), (word, _) = counts.most_common(2)
    lm.save(base, tmp_path)
    made = json.loads((tmp_path / "generation_config.json").read_text())
    made["eos_token_id"] = [base.end, stated, 10**6]
    (tmp_path / "generation_config.json").write_text(json.dumps(made))
    spec = replace(BASE, source=str(tmp_path))
    string = base.tokenizer.decode([word])
    reference, hollow = lm.load(spec), lm.load(spec, weights=False)
    assert hollow.eos == reference.eos == {base.end, stated}
    for stop in ([], [string]):
        done = sampler(hollow, stop=stop).sample(greedy)
        same_rule = build(reference, replace(CONFIG, engine="hf", stop=stop)).sample(greedy)
        assert all(same(*pair) for pair in zip(done, same_rule, strict=True))
        assert [(c.end, c.text) for c in done] == [(c.end, c.text) for c in same_rule]
        assert {c.end for c in done} >= {stated}
        assert ("stop_string" in {c.finish for c in done}) is bool(stop)
        assert not any({stated, base.end} & set(c.ids) for c in done)
