from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spct.training import attention, choice, plain, shared
from spct.training.batching import Example
from spct.training.choice import choose, saving, served, verify
from spct.training.groups import Group, Read, grouped, micro_batches, padded_tokens, parts
from spct.training.logprobs import token_logprobs
from spct.training.parallel import _recompute

V = 97
SHAPE: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
HYBRID: dict[str, Any] = {
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE),
    "qwen2": lambda: transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**SHAPE, sliding_window=4),
    "gemma2": lambda: transformers.Gemma2Config(**SHAPE, **GEMMA, **HYBRID),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SHAPE, **GEMMA, **HYBRID),
    "mixtral": lambda: transformers.MixtralConfig(**SHAPE, sliding_window=4, num_local_experts=4),
    "cohere2": lambda: transformers.Cohere2Config(**SHAPE, **HYBRID),
    "phi3": lambda: transformers.Phi3Config(**SHAPE, sliding_window=4),
    "olmo3": lambda: transformers.Olmo3Config(**SHAPE, **HYBRID),
    "starcoder2": lambda: transformers.Starcoder2Config(**SHAPE, sliding_window=4),
    "granite": lambda: transformers.GraniteConfig(**SHAPE, logits_scaling=4.0),
    "qwen2_windowed": lambda: transformers.Qwen2Config(
        **SHAPE, use_sliding_window=True, max_window_layers=1, sliding_window=4
    ),
    "qwen3_windowed": lambda: transformers.Qwen3Config(
        **SHAPE, head_dim=8, use_sliding_window=True, max_window_layers=0, sliding_window=4
    ),
}


def build(name: str, seed: int = 0) -> Any:
    """A tiny model at random weights, large enough for attention to be far from uniform."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    return model


@cache
def built(name: str) -> Any:
    return build(name)


def tokens(count: int, seed: int) -> tuple[int, ...]:
    source = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(1, V, (count,), generator=source).tolist())


def make(shape: Sequence[tuple[int, Sequence[int]]]) -> list[Group]:
    """``[(prompt length, completion lengths)]`` as groups of distinct random tokens."""
    return [
        Group(tokens(p, 100 * i), tuple(tokens(n, 100 * i + j + 1) for j, n in enumerate(lengths)))
        for i, (p, lengths) in enumerate(shape)
    ]


SHAPES = {
    "uneven": [(9, (1, 7, 3)), (3, (2,)), (6, (1,)), (2, (5, 0, 4)), (4, ())],
    "even": [(6, (5, 5, 5)), (6, (5, 5, 5))],
    "one_group": [(11, (6, 2, 6))],
    "all_of_length_1": [(8, (1, 1)), (5, (1,))],
}


@dataclasses.dataclass
class Result:
    states: Tensor
    loss: Tensor
    grad: Tensor  # all parameters, flat


def run(forward: Any, model: nn.Module, groups: Sequence[Group], read: Read = "before") -> Result:
    """States, a loss that weighs every token differently, and its gradient."""
    states = forward(model, groups, read=read)
    targets = plain.targets(groups, states.device)
    values = token_logprobs(model, states, targets, temperature=0.9, chunk=5).logprobs
    loss = -(values * torch.linspace(0.5, 1.5, len(values), device=values.device)).mean()
    trainable = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, trainable, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(trainable, grads, strict=True)]
    return Result(states.detach(), loss.detach(), torch.cat([g.flatten() for g in flat]))


def assert_same(one: Result, other: Result) -> None:
    torch.testing.assert_close(one.states, other.states, rtol=1e-4, atol=2e-5)
    assert float((one.loss - other.loss).abs() / one.loss.abs()) < 1e-5
    gap = (one.grad - other.grad).norm() / one.grad.norm()
    assert float(gap) < 1e-5
    cosine = torch.nn.functional.cosine_similarity(one.grad, other.grad, dim=0)
    assert float(cosine) > 0.99999


# ---- the shared pass against the plain one -----------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CONFIGS)
def test_shared_equals_plain(name: str, shape: str) -> None:
    """States, loss and gradient; windows of 4 are shorter than most prompts."""
    model, groups = built(name), make(SHAPES[shape])
    slow = run(plain.completion_states, model, groups)
    assert_same(slow, run(shared.completion_states, model, groups))
    assert len(slow.states) == sum(sum(group.lengths) for group in groups)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 6), max_size=4)),
        min_size=1,
        max_size=4,
    ).filter(lambda shape: any(any(lengths) for _, lengths in shape)),
    st.sampled_from(["before", "at"]),
)
def test_shared_equals_plain_for_any_shape(shape: list[tuple[int, list[int]]], read: Read) -> None:
    model, groups = built("qwen2_windowed"), make(shape)
    slow, fast = (run(module.completion_states, model, groups, read) for module in (plain, shared))
    assert_same(slow, fast)


def test_states_are_those_of_each_sequence_alone() -> None:
    """Plain and shared against one unpadded pass per sequence, for both ways to read."""
    model, groups = built("gemma3"), make(SHAPES["uneven"])
    for read, shift in (("before", 1), ("at", 0)):
        expected = []
        for group in groups:
            for completion in filter(None, group.completions):
                ids = torch.tensor([group.prompt + completion])
                hidden = model.get_decoder()(input_ids=ids).last_hidden_state[0]
                first = len(group.prompt) - shift
                expected.append(hidden[first : first + len(completion)])
        for module in (plain, shared):
            states = module.completion_states(model, groups, read=read)
            torch.testing.assert_close(states, torch.cat(expected), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_activation_checkpointing_composes(name: str) -> None:
    model, groups = build(name), make(SHAPES["uneven"])
    expected = run(plain.completion_states, model, groups)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model.get_decoder().layers[0].mlp.register_forward_pre_hook(count)
    model.train()
    assert_same(expected, run(shared.completion_states, model, groups))
    assert calls == 2  # the layer ran again in the backward pass


def test_lora() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    spec = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0)
    model = peft.get_peft_model(build("qwen2"), spec).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    groups = make(SHAPES["uneven"])
    slow, fast = (run(module.completion_states, model, groups) for module in (plain, shared))
    assert_same(slow, fast)
    assert verify(model) is None
    assert choose(model, make([(200, (3, 3))])) is shared.completion_states
    with model.disable_adapter():  # the reference of a LoRA policy is the policy without adapter
        base = [module.completion_states(model, groups) for module in (plain, shared)]
    torch.testing.assert_close(base[0], base[1], rtol=1e-4, atol=2e-5)
    assert not torch.allclose(base[0], slow.states, atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_sampling_and_saving_are_untouched(name: str, tmp_path: Any) -> None:
    model = build(name)
    prompt = torch.tensor([tokens(9, 1)])
    before = model.generate(prompt, max_new_tokens=8, do_sample=False)
    model.save_pretrained(tmp_path / "before")
    shared.completion_states(model, make(SHAPES["even"]))
    assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False), before)
    model.save_pretrained(tmp_path / "after")
    for file in (tmp_path / "before").iterdir():
        assert file.read_bytes() == (tmp_path / "after" / file.name).read_bytes()


def test_prompt_tokens_pass_once() -> None:
    model, groups = build("llama"), make([(20, (4, 4, 4)), (5, (1,))])
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0]))
    shared.completion_states(model, groups)
    assert [ids.shape for ids in seen] == [(1, 20 + 3 * 3 + 5)]  # last tokens need not pass
    plain.completion_states(model, groups)
    assert seen[1].shape == (4, 24)


def test_the_last_feed_forward_block_sees_the_tokens_read_alone() -> None:
    """Only in a shared pass, and not where activations are computed again."""
    model, seen = build("llama"), []
    blocks = [layer.mlp for layer in model.get_decoder().layers]
    for block in blocks:
        block.gate_proj.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[1]))
    groups = make([(9, [4, 6]), (5, [3])])
    passed = 9 + 5 + 3 + 5 + 2  # the last token of a completion does not pass
    shared.completion_states(model, groups)
    assert seen == [passed, 2 + 3 + 5 + 2]
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)
    seen.clear()
    model.train()
    _recompute(model)
    shared.completion_states(model, groups).sum().backward()
    assert seen[:2] == [passed, passed] and set(seen[2:]) == {passed}


def test_the_last_layer_attends_for_the_prompt_tokens_read_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a prompt whose states nobody reads but the last, the last query alone is computed."""
    widths, kernel = [], attention._Kernel.__call__

    def watched(self: Any, query: Tensor, *others: Any) -> Tensor:
        widths.append(query.shape[2])
        return kernel(self, query, *others)

    monkeypatch.setattr(attention._Kernel, "__call__", watched)
    groups = make([(9, [4, 6])])
    states = shared.completion_states(built("llama"), groups)
    assert widths == [9, 1]  # by layer; completions join by a kernel of their own
    assert states.shape[0] == 10


@pytest.mark.parametrize("module", [plain, shared])
def test_refuses_what_cannot_be_read(module: Any) -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        module.completion_states(built("llama"), [Group((), ((1, 2),))])
    with pytest.raises(ValueError, match="no completion token"):
        module.completion_states(built("llama"), [Group((1, 2), ((), ()))])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONFIGS)
def test_shared_equals_plain_on_a_gpu(name: str) -> None:
    model, groups = build(name).to("cuda"), make(SHAPES["uneven"])
    slow, fast = (run(module.completion_states, model, groups) for module in (plain, shared))
    assert off(fast.states, slow.states) < 1e-4 and off(fast.grad, slow.grad) < 1e-4
    assert off(fast.loss, slow.loss) < 1e-5
    assert verify(model) is None


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", CONFIGS)
def test_in_bfloat16_it_is_as_near_to_float32_as_plain(name: str, place: str) -> None:
    """States, loss and gradient; each path rounds in its own order."""
    groups = make(SHAPES["uneven"])
    exact = run(plain.completion_states, build(name).to(place), groups)
    rounded = build(name).to(place, torch.bfloat16)
    slow, fast = (run(module.completion_states, rounded, groups) for module in (plain, shared))
    for part, least in (("states", 1e-3), ("grad", 1e-3), ("loss", 1e-3)):
        wanted = getattr(exact, part)
        plainly, shared_off = (off(getattr(one, part).float(), wanted) for one in (slow, fast))
        assert plainly < 0.1
        assert shared_off < 1.5 * plainly + least, part


def off(one: Tensor, other: Tensor) -> float:
    """The norm of the difference, relative to the other."""
    return float((one - other).norm() / other.norm())


# ---- families and choice -----------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_families_are_served_and_verified(name: str) -> None:
    assert served(CONFIGS[name]()) is None
    assert verify(built(name)) is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.T5Config(), "encoder-decoder"),
        (transformers.Qwen3NextConfig(), "linear_attention"),
        (transformers.Gemma2Config(use_bidirectional_attention=True), "future"),
        (transformers.FalconConfig(alibi=True), "ALiBi"),
        (transformers.Gemma3nTextConfig(), "share keys"),
        (transformers.GptOssConfig(), "sliding window not tested"),
    ],
)
def test_unservable_families_are_named(config: Any, reason: str) -> None:
    assert reason in str(served(config))


def test_a_family_without_attention_by_name_falls_back(capsys: pytest.CaptureFixture[str]) -> None:
    config = transformers.BloomConfig(vocab_size=V, hidden_size=32, n_head=4, n_layer=1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    groups = make([(200, (3, 3))])
    assert choose(model, groups) is choose(model, groups) is plain.completion_states
    said = capsys.readouterr().err
    assert said.count("prompts are not shared") == 1
    assert "does not choose its attention by name" in said


def test_flash_kernels_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(ValueError, match="load the model with sdpa or eager"):
        shared.completion_states(model, make(SHAPES["even"]))


def test_an_unknown_attention_argument_is_refused() -> None:
    """Attention sinks, say; an argument known but not given is no reason."""
    model, groups = build("llama"), make(SHAPES["even"])
    assert torch.isfinite(shared.completion_states(model, groups)).all()
    forward = model.get_decoder().layers[0].self_attn.forward
    model.get_decoder().layers[0].self_attn.forward = lambda **k: forward(**k, s_aux=None)
    shared.completion_states(model, groups)
    model.get_decoder().layers[0].self_attn.forward = lambda **k: forward(**k, s_aux=1.0)
    with pytest.raises(NotImplementedError, match="s_aux"):
        shared.completion_states(model, groups)
    assert "s_aux" in str(verify(model))


def test_verify_finds_a_wrong_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """States slightly off, then gradients alone."""
    model, right = build("llama"), shared.completion_states
    monkeypatch.setattr(shared, "completion_states", lambda m, g: right(m, g) * 1.01)
    assert "differ" in str(verify(model))

    def half(model: nn.Module, groups: Sequence[Group]) -> Tensor:
        states = right(model, groups)
        return (states + states.detach()) / 2

    monkeypatch.setattr(shared, "completion_states", half)
    assert "differ" in str(verify(model))
    monkeypatch.setattr(shared, "completion_states", lambda m, g: right(m, g) * float("nan"))
    assert "differ" in str(verify(model))


def test_verify_leaves_no_trace() -> None:
    model = build("llama").train()
    state = torch.get_rng_state()
    assert verify(model, "cpu") is None
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert verify(model.requires_grad_(False)) is None  # a frozen reference: states alone
    with pytest.raises(ValueError, match="not on cuda"):
        verify(model, "cuda")


def test_choice_follows_the_shape() -> None:
    model = build("llama")
    assert saving(make([(10, (5, 5)), (4, (1,))])) == pytest.approx(45 / 25)
    assert choose(model, make([(100, (5, 5, 5))])) is shared.completion_states
    assert choose(model, make([(95, (5, 5, 5))])) is shared.completion_states
    assert choose(model, make([(94, (5, 5, 5))])) is plain.completion_states  # 297 tokens
    assert choose(model, make([(200, (5,)), (200, (5,))])) is plain.completion_states
    assert choose(model, make([(200, (5,)), (30, (4,))])) is shared.completion_states  # padding
    few = make([(12, (150, 150))])
    assert saving(few) < choice.LEAST_SAVING
    assert choose(model, few) is plain.completion_states


def test_completion_logprobs_equal_the_models_own() -> None:
    """Through both passes, against the whole model on each sequence alone."""
    model = build("gemma2")
    for shape in ([(150, (5, 3, 1))], [(4, (5, 3, 1))]):
        groups = make(shape)
        expected = []
        for group in groups:
            for completion in group.completions:
                logits = model(torch.tensor([group.prompt + completion])).logits[0] / 0.7
                table = logits.log_softmax(-1)[len(group.prompt) - 1 : -1]
                expected.append(table.gather(1, torch.tensor(completion)[:, None])[:, 0])
        found = choice.completion_logprobs(model, groups, 0.7, chunk=4)
        torch.testing.assert_close(found.logprobs, torch.cat(expected), rtol=1e-4, atol=2e-5)
        assert found.entropy.shape == found.logprobs.shape == (9,)


# ---- groups ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([(1,), (2, 3), (2,)]), st.integers(0, 9)), max_size=20))
def test_grouped_keeps_every_example(raw: list[tuple[tuple[int, ...], int]]) -> None:
    examples = [Example(prompt, tokens(n, i)) for i, (prompt, n) in enumerate(raw)]
    groups, places = grouped(examples)
    assert len({group.prompt for group in groups}) == len(groups)
    assert sum(len(group.completions) for group in groups) == len(examples) == len(set(places))
    for example, (g, c) in zip(examples, places, strict=True):
        assert (groups[g].prompt, groups[g].completions[c]) == (example.prompt, example.completion)


SHAPES_OF_GROUPS = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(0, 12), min_size=1, max_size=6)), max_size=12
)


@given(SHAPES_OF_GROUPS, st.integers(1, 120), st.booleans())
def test_micro_batches_fit_and_hold_everything(
    shape: list[tuple[int, list[int]]], bound: int, shared: bool
) -> None:
    groups = make(shape)
    cut, places = parts(groups, bound, shared=shared)
    for number, group in enumerate(groups):
        mine = [(first, part) for part, (g, first) in zip(cut, places, strict=True) if g == number]
        assert all(part.prompt == group.prompt for _, part in mine)
        assert sum((part.completions for _, part in mine), ()) == group.completions
        sizes = [len(part.completions) for _, part in mine]
        assert [first for first, _ in mine] == [sum(sizes[:i]) for i in range(len(sizes))]
        assert max(sizes) - min(sizes) <= 1
    batches = micro_batches(cut, bound, shared=shared)
    assert sorted(i for batch in batches for i in batch) == list(range(len(cut)))
    assert batches == micro_batches(cut, bound, shared=shared)
    for batch in batches:
        total = padded_tokens([cut[i] for i in batch], shared=shared)
        assert total <= bound or (len(batch) == 1 and len(cut[batch[0]].completions) == 1)


def test_padded_tokens_count_prompts_once() -> None:
    groups = make([(10, (3, 5)), (4, (2,))])
    assert padded_tokens(groups) == 2 * 10 + 3 * 5
    assert padded_tokens(groups, shared=False) == 3 * (10 + 5)


def test_a_group_is_cut_only_as_far_as_needed() -> None:
    (group,) = make([(10, (5, 5, 5, 5))])
    assert parts([group], 30)[1] == [(0, 0)]
    assert parts([group], 20)[1] == [(0, 0), (0, 2)]
    assert parts([group], 19)[1] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert len(parts([group], 30, shared=False)[0]) == 2


def test_similar_lengths_go_together() -> None:
    groups = make([(40, (4,)), (5, (4,)), (41, (4,)), (6, (4,))])
    assert micro_batches(groups, 90) == [[1, 3], [0, 2]]
    assert micro_batches(groups, 89) == [[1, 3], [0], [2]]


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    script = Path(__file__).parents[2] / "benchmarks/shared_prefix.py"
    done = subprocess.run(
        [sys.executable, str(script), "--small"], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("| small (20, 6, 4) |") == 1
    assert "| chunks of 32 |" in done.stdout
