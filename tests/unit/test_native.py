"""What is the native engine's own: bits that depend on the request alone, shared heads, refill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import lm, seeds
from spct.data import toy
from spct.judge.task import Judge
from spct.pretrain import tokenizer
from spct.records import Item
from spct.sampling.base import Completion, Request
from spct.sampling.graphs import Graphed
from spct.sampling.native import NativeSampler
from spct.sampling.prefix import BLOCK, Prefixes
from spct.sampling.slots import FEWEST, GRAIN, Slots, slots_for, width
from spct.schema import JudgeConfig, ModelConfig, SamplerConfig
from spct.training import attention
from spct.training.choice import completion_logprobs
from spct.training.groups import Group

Prompt = tuple[int, ...]
CONFIG = SamplerConfig("native", 24, 128, 5, 100, 1.0)
BASES = ("toy_s", "toy_m", "toy_l")
JUDGE_PROMPTS: dict[str, set[Prompt]] = {}


def random_prompts(*lengths: int) -> list[Prompt]:
    rng = np.random.default_rng(len(lengths))
    return [tuple(int(x) for x in rng.integers(3, 150, size=n)) for n in lengths]


def ask(prompts: list[Prompt], temperature: float = 1.0, each: int = 1) -> list[Request]:
    return [
        Request(prompt, 100 + i + 50 * j, temperature)
        for i, prompt in enumerate(prompts)
        for j in range(each)
    ]


def same(one: Completion, two: Completion, tolerance: float = 1e-5) -> bool:
    return (one.ids, one.finish) == (two.ids, two.finish) and np.allclose(
        one.logprobs, two.logprobs, rtol=0, atol=tolerance
    )


def greedy(model: lm.LM, prompt: Prompt, limit: int) -> Prompt:
    """What plain ``generate`` gives, without any sampler of ours, cut at the end of sequence."""
    output = model.model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=limit, min_new_tokens=0,
        eos_token_id=model.end, pad_token_id=model.pad,
    )  # fmt: skip
    ids = output[0, len(prompt) :].tolist()
    return tuple(ids[: ids.index(model.end)] if model.end in ids else ids)


# ---- a function of the request -----------------------------------------------------------------


@lru_cache
def shipped(name: str) -> tuple[lm.LM, list[Request], list[Completion]]:
    """A shipped base, requests of many lengths and kinds, and their completions in one list."""
    model = lm.load(ModelConfig(name, f"builtin:{name}", None, "float32", False))
    judge = Judge.build(JudgeConfig("toy.jinja", "self", "random", 1, 10, "verdict"), [])
    prompts = []
    for number, kind in enumerate(("single", "pair", "pair", "best_of_4")):
        item = toy.make_item(seeds.rng("native", number), kind, f"toy_{kind}", str(number))
        prompts += [model.encode_prompt(judge.prompt(item, order)) for order in orders(item)]
    JUDGE_PROMPTS[name] = set(prompts)
    head = random_prompts(2 * BLOCK + 9)[0]
    prompts += random_prompts(1, 2, GRAIN - 9, BLOCK + 1, 180, 30)
    prompts += [head, head[: BLOCK + 3], (*head[:200], *prompts[0]), head[: 2 * BLOCK]]
    asked = [
        Request(prompt, 10 * i + j, heat)
        for i, prompt in enumerate(prompts)
        for j, heat in enumerate((1.0, 0.0, 2.0))
    ]
    return model, asked, NativeSampler(model, CONFIG).sample(asked)


def orders(item: Item) -> list[list[int]]:
    return [list(range(item.n))] + [list(range(item.n))[::-1]] * (item.n > 1)


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_completion_is_a_function_of_its_request(name: str, data: st.DataObject) -> None:
    """Tier ``cpu``: any part of the list, in any order, with repeats, gives the same bits."""
    model, asked, expected = shipped(name)
    part = data.draw(st.lists(st.sampled_from(range(len(asked))), min_size=1, max_size=20))
    found = NativeSampler(model, CONFIG).sample([asked[i] for i in part])
    assert found == [expected[i] for i in part]


@pytest.mark.medium
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(
    "change", [{"batch_size": 1}, {"batch_size": 64}, {"max_prompt_tokens": 9}]
)
def test_other_shapes_give_the_same_text(name: str, change: dict) -> None:
    """One row alone is the case in which a CPU really takes another kernel."""
    model, asked, expected = shipped(name)
    found = NativeSampler(model, replace(CONFIG, **change)).sample(asked)
    for request, one, two in zip(asked, found, expected, strict=True):
        usual = request.prompt in JUDGE_PROMPTS[name] and request.temperature <= 1
        assert same(one, two, 1e-5 if usual else 1e-4)  # long prompts of random tokens round more


@contextmanager
def forward_shapes(model: lm.LM) -> Iterator[set[tuple]]:
    """Shapes of the tokens and masks of every forward pass inside."""
    shapes: set[tuple] = set()

    def note(module: object, args: tuple, kwargs: dict) -> None:
        shapes.add((tuple(kwargs["input_ids"].shape), tuple(kwargs["attention_mask"].shape)))

    hook = model.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    hook.remove()


def test_shapes_are_a_function_of_the_request() -> None:
    """This is why bits are: no forward pass has a shape that one of the requests alone has not."""
    model, asked, _ = shipped("toy_s")
    sampler = NativeSampler(model, CONFIG)
    with forward_shapes(model) as together:
        sampler.sample(asked)
    with forward_shapes(model) as alone:
        for request in asked:
            sampler.sample([request])
    assert together == alone
    decoding = {mask for ids, mask in together if ids[1] == 1}
    assert {mask[0] for mask in decoding} == {CONFIG.batch_size}
    assert {mask[-1] for mask in decoding} == {64, 128, 192, 256, 320}


@pytest.mark.medium
@pytest.mark.parametrize("name", BASES)
def test_bits_do_not_depend_on_the_number_of_slots(name: str) -> None:
    """As a list ends its slots get fewer; a short list has few from the start."""
    model, asked, _ = shipped(name)
    many = [replace(request, seed=request.seed + 1000 * j) for request in asked for j in range(4)]
    sampler = NativeSampler(model, replace(CONFIG, batch_size=128))
    with forward_shapes(model) as shapes:
        whole = sampler.sample(many)
    assert {ids[0] for ids, _ in shapes if ids[1] == 1} == {32, 64, 128}
    for start in range(0, len(many), 17):
        assert sampler.sample(many[start : start + 3]) == whole[start : start + 3]


@given(st.integers(0, 600), st.integers(1, 600))
def test_slots_are_halves_that_suffice(load: int, batch_size: int) -> None:
    count = slots_for(load, batch_size)
    assert batch_size % count == 0 and (count >= min(load, batch_size))
    assert count == batch_size or count >= FEWEST
    assert count % 2 or count < 2 * FEWEST or count // 2 < load  # no fewer would do


@given(st.integers(1, 100_000))
def test_widths_are_few_and_near(tokens: int) -> None:
    assert tokens <= width(tokens) <= max(1.25 * tokens, tokens + GRAIN - 1)
    assert width(width(tokens)) == width(tokens) >= width(tokens - 1)


def test_an_empty_prompt_is_refused(tiny: lm.LM) -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        NativeSampler(tiny, CONFIG).sample([Request((), 1, 1.0)])


# ---- shared heads and refill -------------------------------------------------------------------


def test_a_head_is_computed_once(tiny: lm.LM) -> None:
    """Three prompts over one head of two blocks, twice each: five blocks, and none kept."""
    head, *ends = random_prompts(2 * BLOCK, 5, 20, 50)
    prompts = [(*head, *end) for end in ends]
    computed = []
    with torch.inference_mode():
        prefixes = Prefixes(tiny, 1, [prompt for prompt in prompts for _ in range(2)])
        level = prefixes._level
        prefixes._level = lambda chains, size: (computed.extend(chains), level(chains, size))  # type: ignore[method-assign]
        taken = [prefixes.take(prompt) for prompt in prompts for _ in range(2)]
    assert len(computed) == 5
    assert not prefixes.blocks
    assert all(blocks[:2] == taken[0][:2] for blocks in taken)
    assert [block.start for block in taken[0]] == [0, BLOCK, 2 * BLOCK]
    assert [sum(b.layers[0][0].shape[1] for b in blocks) for blocks in taken[::2]] == [
        len(prompt) - 1 for prompt in prompts
    ]


def test_nobody_waits_for_the_longest(
    talker: lm.LM, judge: Judge, make_items: Callable[..., list[Item]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two slots: one long row, and short ones passing it by."""
    [item] = make_items("pair", 1)
    prompt = talker.encode_prompt(judge.prompt(item, [0, 1]))
    config = replace(CONFIG, batch_size=2, max_new_tokens=40)
    pool = [Request(prompt, seed, 1.0 + seed % 3) for seed in range(60)]
    made = [len(c.logprobs) for c in NativeSampler(talker, config).sample(pool)]
    ranked = sorted(range(60), key=made.__getitem__)
    chosen = [pool[ranked[-1]], *(pool[i] for i in ranked[:4])]
    steps = []
    step = Slots.step
    monkeypatch.setattr(Slots, "step", lambda self: steps.append(self.width) or step(self))
    NativeSampler(talker, config).sample(chosen)
    longest, short = made[ranked[-1]], sum(made[i] for i in ranked[:4])
    assert longest > short
    assert len(steps) == longest  # waves of two would take at least the last pair's steps more


def test_rows_that_finish_early_leave_without_a_trace(
    talker: lm.LM, judge: Judge, make_items: Callable[..., list[Item]],
    sampler_config: SamplerConfig,
) -> None:  # fmt: skip
    """Judgements end at different steps, so slots are refilled; temperature 3 keeps a few long."""
    pool = make_items("single", 4) + make_items("pair", 4) + make_items("best_of_4", 2)
    asked = [
        Request(talker.encode_prompt(judge.prompt(item, list(range(item.n)))), 10 * i + j, heat)
        for i, item in enumerate(pool)
        for j, heat in enumerate((1.0, 1.0, 0.0, 3.0))
    ]
    one, two = (
        NativeSampler(talker, replace(sampler_config, batch_size=size)).sample(asked)
        for size in (40, 1)
    )
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    lengths = sorted(len(c.logprobs) for c in one)
    assert lengths[len(lengths) // 2] < 12 and lengths[-1] == 24


# ---- CUDA graphs, as far as a CPU can tell -----------------------------------------------------


class _Graph:
    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


def test_a_graph_is_recorded_once_for_each_view(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = {256: (_Graph(), torch.ones(1)), 512: (_Graph(), torch.zeros(1))}
    recorded = []
    monkeypatch.setattr(
        Graphed, "_record", lambda self, view: recorded.append(view) or graphs[view]
    )
    step = Graphed(lambda view: pytest.fail("ran outside its graph"))
    assert [float(step(view)) for view in (256, 256, 512, 256)] == [1.0, 1.0, 0.0, 1.0]
    assert recorded == [256, 512]
    assert [graphs[view][0].replays for view in (256, 512)] == [3, 1]


def test_a_model_that_cannot_be_recorded_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Graphed, view: int) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Graphed, "_record", refuse)
    step = Graphed(lambda view: torch.tensor(view))
    assert [int(step(view)) for view in (256, 512)] == [256, 512]
    assert capsys.readouterr().err.count("not permitted") == 1


def test_grouped_heads_read_their_keys_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step, whatever the release of transformers; the bits are those of the newest."""
    model = lm.load(ModelConfig("toy_m", "builtin:toy_m", None, "float32", False))
    shape, real = model.model.config, attention._packs
    assert shape.num_key_value_heads < shape.num_attention_heads
    requests, asked = ask(random_prompts(40, 17), each=2), []

    def watched(query: torch.Tensor, *others: Any) -> bool:
        asked.append((query.shape[2], real(query, *others)))
        return asked[-1][1]

    monkeypatch.setattr(attention, "_packs", watched)
    packed = NativeSampler(model, CONFIG).sample(requests)
    assert {took for queries, took in asked if queries == 1} == {True}
    assert {took for queries, took in asked if queries > 1} == {False}
    monkeypatch.setattr(attention, "_packs", lambda *_: False)
    assert NativeSampler(model, CONFIG).sample(requests) == packed


def test_a_model_that_names_no_attention_is_sampled_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests, found = ask(random_prompts(9, 5)), []
    for refused in (False, True):
        model = lm.load(ModelConfig("toy_m", "builtin:toy_m", None, "float32", False))
        if refused:
            monkeypatch.setattr(type(model.model.model), "set_attn_implementation", lambda *_: None)
        found.append(NativeSampler(model, CONFIG).sample(requests))
        assert (model.model.config._attn_implementation == "sdpa") is refused
    assert found[0] == found[1]


@pytest.mark.gpu
@pytest.mark.parametrize("limit", [24, 300])
def test_on_a_gpu_greedy_is_plain_generate(limit: int) -> None:
    model = lm.load(ModelConfig("toy_m", "builtin:toy_m", None, "float32", False))
    model.model.cuda()
    prompts = random_prompts(3, 17, 40, 130, 9)
    config = replace(CONFIG, max_new_tokens=min(limit, 300), batch_size=3)
    found = NativeSampler(model, config).sample(ask(prompts, temperature=0.0))
    for prompt, completion in zip(prompts, found, strict=True):
        output = model.model.generate(
            torch.tensor([prompt], device="cuda"), do_sample=False, max_new_tokens=limit,
            eos_token_id=model.end, pad_token_id=model.pad,
        )  # fmt: skip
        ids = output[0, len(prompt) :].tolist()
        assert list(completion.ids) == (ids[: ids.index(model.end)] if model.end in ids else ids)


# ---- other families ----------------------------------------------------------------------------

SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 256, "bos_token_id": None,
}  # fmt: skip
WINDOW = {"sliding_window": 12}
FAMILIES: dict[str, tuple[str, dict]] = {
    "qwen2": ("Qwen2", {}),
    "qwen2 window": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 1, **WINDOW}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral window": ("Mistral", WINDOW),
    "gemma2": ("Gemma2", {"final_logit_softcapping": 0.05, "query_pre_attn_scalar": 32, **WINDOW}),
    "gemma3": ("Gemma3Text", {"query_pre_attn_scalar": 32, **WINDOW}),
    "gemma3 cap": ("Gemma3Text", {"final_logit_softcapping": 0.05, **WINDOW}),
}


def family(name: str, dtype: torch.dtype = torch.float32) -> lm.LM:
    kind, change = FAMILIES[name]
    coder = tokenizer.build()
    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(
        **(SHAPE | change), vocab_size=len(coder), attn_implementation="eager",
        eos_token_id=coder.eos_token_id, pad_token_id=coder.pad_token_id,
    )  # fmt: skip
    classes = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    model = classes[type(config)](config).to(dtype).eval()
    with torch.no_grad():  # initial weights this small would make every layer nearly the identity
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    return lm.LM(model, coder, name)


@pytest.mark.parametrize("name", FAMILIES)
def test_native_knows_the_family(name: str, sampler_config: SamplerConfig) -> None:
    """Prompts shorter and longer than a block, two with a head in common, and than the window."""
    model, prompts = family(name), random_prompts(3, 17, 40, 9, 9, 25, 4, 31)
    head = random_prompts(190)[0]
    prompts += [head, (*head[:150], *prompts[2])]
    completions = NativeSampler(model, sampler_config).sample(ask(prompts, temperature=0.0))
    assert [c.ids for c in completions] == [greedy(model, prompt, 24) for prompt in prompts]
    with torch.no_grad():
        for prompt, completion in zip(prompts, completions, strict=True):
            tokens = completion.ids + ((model.end,) if completion.finish == "stop" else ())
            logits = model.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1)[range(len(tokens)), list(tokens)]
            np.testing.assert_allclose(completion.logprobs, expected, rtol=0, atol=1e-5)
            forced = completion_logprobs(model.model, [Group(prompt, (tokens,))])
            np.testing.assert_allclose(forced.logprobs, expected, rtol=0, atol=1e-5)


def test_native_runs_in_bfloat16(sampler_config: SamplerConfig) -> None:
    model = family("qwen3", torch.bfloat16)
    for completion in NativeSampler(model, sampler_config).sample(ask(random_prompts(3, 17, 140))):
        assert np.isfinite(completion.logprobs).all()
