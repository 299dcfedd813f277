"""Every family is sampled and trained by its own logits, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from family_world import WINDOW, config_of, lm_of, model_of, names, own_logprobs, wrapped_gemma3

from spct import lm
from spct.config import Slice
from spct.errors import ConfigError
from spct.records import Item, write_items
from spct.sampling import held as sampling_held
from spct.sampling import stages
from spct.sampling.base import Request, build
from spct.sampling.hf import HFSampler
from spct.sampling.native import NativeSampler
from spct.schema import ModelConfig, SamplerConfig
from spct.training import attention, held
from spct.training.choice import completion_logprobs
from spct.training.groups import Group

CONFIG = SamplerConfig("native", 6, 300, 4, 100, 1.0)
EQUAL = 1e-3  # nats, for float32
# Longer than a block of the native sampler, longer than every window, and very short.
PROMPTS = [tuple((3 + 7 * i + n) % 140 + 3 for i in range(n)) for n in (1, 5, 30, 150, 201)]


def sampling_gap(model: Any, engine: str, **settings: Any) -> float:
    """The largest difference to the model's own log-probs, in nats."""
    sampler = build(lm_of(model), replace(CONFIG, engine=engine, **settings))
    found = sampler.sample([Request(p, i + 1, 1.0) for i, p in enumerate(PROMPTS)])
    gaps = [
        own_logprobs(model, prompt, one.ids) - torch.tensor(one.logprobs[: len(one.ids)])
        for prompt, one in zip(PROMPTS, found, strict=True)
        if one.ids
    ]
    return float(torch.cat(gaps).abs().max())


def training_gap(model: Any) -> float:
    """The same of the log-probs in training, by whichever pass serves."""
    held.check(model, "a tiny model")
    one, five, thirty, long, _ = PROMPTS
    groups = [
        Group(five, (thirty, one, long[:20])),
        Group(long, (five, thirty, one)),
        Group(one, (thirty,)),
    ]
    own = [own_logprobs(model, group.prompt, c) for group in groups for c in group.completions]
    with torch.no_grad():
        ours = completion_logprobs(model, groups).logprobs
    return float((torch.cat(own) - ours).abs().max())


GAPS = {
    "native": lambda model: sampling_gap(model, "native"),
    "hf": lambda model: sampling_gap(model, "hf"),
    "training": training_gap,
}


@lru_cache
def tiny(name: str) -> Any:
    return model_of(wrapped_gemma3() if name == "gemma3_vision" else config_of(name))


@pytest.mark.parametrize(
    "name",
    ["llama", "granite", "cohere", "cohere2", "gemma2", "gemma3_vision", "hyperclovax", "gpt2"],
)
@pytest.mark.parametrize("use", list(GAPS))
def test_log_probs_are_the_models_own(name: str, use: str) -> None:
    assert GAPS[use](tiny(name)) < EQUAL


@pytest.mark.parametrize(
    ("name", "use", "cure"),
    [
        pytest.param("falcon_h1", "native", "sampler=hf", id="hybrid-native"),
        pytest.param("gpt_neo", "native", "sampler=hf", id="local-attention-native"),
        pytest.param("modernbert-decoder", "native", "sampler=hf", id="decoder-is-its-head"),
        pytest.param("bart", "hf", "sampler.batch_size=1", id="left-padding-hf"),
        pytest.param("bert", "hf", "another family|batch_size=1", id="bidirectional-hf"),
        pytest.param("bert", "training", "another family", id="bidirectional-training"),
    ],
)
def test_what_would_be_wrong_is_refused_by_name(name: str, use: str, cure: str) -> None:
    with pytest.raises(ConfigError, match=cure) as refused:
        GAPS[use](tiny(name))
    assert type(tiny(name)).__name__ in str(refused.value)


def test_a_sampler_is_held_as_what_it_is_whatever_the_settings_name() -> None:
    HFSampler(lm_of(tiny("falcon_h1")), replace(CONFIG, engine="native"))
    with pytest.raises(ConfigError, match="native cannot sample"):
        NativeSampler(lm_of(tiny("falcon_h1")), replace(CONFIG, engine="hf"))


def test_the_cures_are_right() -> None:
    assert sampling_gap(tiny("falcon_h1"), "hf") < EQUAL
    assert training_gap(tiny("falcon_h1")) < EQUAL
    assert sampling_gap(tiny("bart"), "hf", batch_size=1) < EQUAL


@pytest.mark.parametrize(
    "factor", [pytest.param(8.0, id="scaled"), pytest.param(1.05, id="barely scaled")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("use", ["native", "training"])
def test_an_unknown_family_cannot_slip_through(factor: float, use: str, dtype: torch.dtype) -> None:
    class Scaled(transformers.LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * factor
            return output

    torch.manual_seed(0)
    model = Scaled(config_of("llama")).eval().to(dtype)
    with pytest.raises(ConfigError, match="Scaled"):
        GAPS[use](model)


def test_a_soft_cap_that_a_wrapped_family_ignores_is_refused() -> None:
    """Gemma3ForConditionalGeneration applies none, whatever its text configuration says."""
    model = model_of(wrapped_gemma3(final_logit_softcapping=2.0))
    with pytest.raises(ConfigError, match="Gemma3ForConditionalGeneration"):
        sampling_gap(model, "native")
    with pytest.raises(ConfigError, match="Gemma3ForConditionalGeneration"):
        training_gap(model)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        pytest.param("gpt_neo", {"window_size": 256}, "log-probs", id="window-in-reach"),
        pytest.param("doge", {"keep_window_size": 2048}, "keep_window_size", id="window-beyond"),
        pytest.param("mistral", {"window_size": 4096}, "window_size", id="unknown-window"),
        pytest.param("llama", {"index_topk": 8}, "index", id="indexed"),
    ],
)
def test_what_only_longer_texts_show_is_refused(name: str, more: Any, told: str) -> None:
    config = config_of(name)
    for key, value in more.items():
        setattr(config, key, value)
    config.max_position_embeddings = 4096
    with pytest.raises(ConfigError, match=told):
        build(lm_of(model_of(config)), CONFIG)


def test_texts_that_would_stretch_positions_are_refused() -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config = config_of("phi3")
    config.original_max_position_embeddings = 256
    config.rope_parameters = {
        "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0,
        "original_max_position_embeddings": 256, **factors,
    }  # fmt: skip
    model = model_of(config)
    for engine in ("native", "hf"):
        with pytest.raises(ConfigError, match=r"longrope.*256"):
            build(lm_of(model), replace(CONFIG, engine=engine))
    held.check(model, "phi", longest=256)
    with pytest.raises(ConfigError, match=r"longrope.*257"):
        held.check(model, "phi", longest=257)


def test_a_model_is_looked_at_once_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(config_of("llama")).train()
    state = torch.get_rng_state()
    build(lm_of(model), CONFIG)
    held.check(model, "llama")
    assert model.training and torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr(held, "logits", None)
    build(lm_of(model), CONFIG)
    held.check(model, "llama")


def test_bfloat16_rounds_and_is_let_pass() -> None:
    for name in ("llama", "gemma2", "granite"):
        model = model_of(config_of(name)).to(torch.bfloat16)
        held.check(model, name)
        build(lm_of(model), CONFIG)


def test_the_judge_stage_refuses_before_it_samples(
    slice_of: Callable[..., Slice], make_items: Callable[..., list[Item]], tmp_path: Path
) -> None:
    (tmp_path / "hybrid").mkdir()
    spec = folder_of(tiny("falcon_h1"), tmp_path / "hybrid")
    items, out = tmp_path / "items.parquet", tmp_path / "bank.parquet"
    write_items(items, make_items("pair", 1), seed=0)
    cfg = slice_of("judge", f"model.source={spec.source}", "bench.k_max=1", "bench.shards=1")
    with pytest.raises(ConfigError, match="native cannot sample .*FalconH1ForCausalLM"):
        stages.judge(cfg, 0, items=items, shard=0, policy="base", out=out)
    assert not list(tmp_path.glob("bank.parquet*/**/*.parquet")) and not out.exists()


# ---- the reference -----------------------------------------------------------------------------


def folder_of(model: Any, folder: Path) -> ModelConfig:
    model.save_pretrained(folder)
    lm_of(model).tokenizer.save_pretrained(folder)
    return ModelConfig("tiny", str(folder), None, "float32", False)


def test_a_soft_cap_on_attention_is_never_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers before 5.21: Gemma 2 takes sdpa, and sdpa knows no cap."""
    sdpa = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def dropping(*args: Any, softcap: float | None = None, **kwargs: Any) -> Any:
        return sdpa(*args, **kwargs)

    monkeypatch.setitem(transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS, "sdpa", dropping)
    monkeypatch.setattr(transformers.Gemma2PreTrainedModel, "_supports_sdpa", True)
    attention._sdpa_caps.cache_clear()
    spec = folder_of(tiny("gemma2"), tmp_path)
    loaded = lm.load(spec).model
    eager = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    gap = own_logprobs(loaded, PROMPTS[2], PROMPTS[1]) - own_logprobs(eager, PROMPTS[2], PROMPTS[1])
    assert float(gap.abs().max()) < EQUAL
    assert training_gap(loaded) < EQUAL
    attention._sdpa_caps.cache_clear()


def test_other_families_keep_the_attention_of_transformers() -> None:
    assert attention.implementation(config_of("llama")) == {}
    assert attention.implementation(wrapped_gemma3()) == {}
    capped = wrapped_gemma3(attn_logit_softcapping=5.0)
    assert attention.implementation(capped) == attention.implementation(config_of("gemma2"))


def test_a_model_that_is_no_causal_one_is_named(tmp_path: Path) -> None:
    transformers.Qwen2_5_VLConfig().save_pretrained(tmp_path)
    lm_of(None).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.source.*no causal language model"):
        lm.load(ModelConfig("vl", str(tmp_path), None, "float32", False))


# ---- all of them -------------------------------------------------------------------------------

PARTS = 4
MOST_PARAMETERS = 15e6
SLOW = {"nemotron_h"}  # a minute of loops without its kernels
ROUNDED = 5e-3  # nats, for scans cut into chunks
KNOWN = {
    "cohere", "cohere2", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4",
    "gpt2", "gpt_neox", "gpt_oss", "granite", "granitemoe", "llama", "mistral", "mixtral",
    "nemotron", "olmo", "olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "smollm3", "stablelm", "starcoder2",
}  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("part", range(PARTS), ids=[f"part {i}" for i in range(PARTS)])
def test_every_family_is_equal_or_refused(part: int) -> None:
    """A walk over all that transformers loads as a causal model and that can be built small."""
    wrong, served, built = [], set(), 0
    walked = names()[part::PARTS]
    for name in sorted(set(walked) - SLOW):
        try:
            with torch.device("meta"):
                config = config_of(name)
                hollow = transformers.AutoModelForCausalLM.from_config(config)
            if sum(p.numel() for p in hollow.parameters()) > MOST_PARAMETERS:
                continue
            model = model_of(config)
        except Exception:  # whatever a family says to sizes that are not its own
            continue
        built += 1
        gaps = {}
        for use, measure in GAPS.items():
            try:
                gaps[use] = measure(model)
            except ConfigError:
                continue
        wrong += [f"{name} {use}: {gap:.3g} nats" for use, gap in gaps.items() if not gap < ROUNDED]
        served |= {name} if set(gaps) == set(GAPS) else set()
    assert not wrong
    assert served >= (KNOWN | sampling_held.WINDOWED) & set(walked)
    assert built > len(walked) // 2


def test_the_windows_of_the_walk_are_shorter_than_its_texts() -> None:
    for name in sorted(sampling_held.WINDOWED & set(names())):
        assert config_of(name).sliding_window == WINDOW < len(PROMPTS[2])
