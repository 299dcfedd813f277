"""Tiny models, items and slices that several tests share. All of it is random and seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spct import artifact, config, lm, seeds
from spct.config import Slice
from spct.data import toy
from spct.judge.task import Judge
from spct.pretrain.train import SizeConfig, new_model
from spct.records import Item
from spct.schema import JudgeConfig, ModelConfig, OptimConfig, SamplerConfig
from spct.training.choice import completion_logprobs
from spct.training.groups import grouped
from spct.training.optim import Optimizer

pytest_plugins = ("suite_ids", "suite_order", "suite_skips", "suite_surroundings")
TINY = SizeConfig(hidden=32, layers=2, heads=1, kv_heads=1, mlp=64)
ADAMW = OptimConfig("adamw", 1e-2, 0.02, 0.0, warmup_steps=2, final_lr=0.1, max_grad_norm=1.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tier ``cpu``: bits are promised for one compute thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_items(kind: str, count: int, seed: int = 0) -> list[Item]:
    return [
        toy.make_item(seeds.rng(seed, "test", kind, i), kind, f"toy_{kind}", f"{kind}-{i}")
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def items() -> list[Item]:
    """Three pairs, two of four responses, two single ones."""
    return draw_items("pair", 3) + draw_items("best_of_4", 2) + draw_items("single", 2)


@pytest.fixture(scope="session")
def make_items() -> Callable[..., list[Item]]:
    return draw_items


@pytest.fixture(scope="session")
def judge_config() -> JudgeConfig:
    return JudgeConfig("toy.jinja", "self", "random", 1, 10, "verdict")


@pytest.fixture(scope="session")
def judge(judge_config: JudgeConfig) -> Judge:
    return Judge.build(judge_config, ["<pad>", "</s>", "<unk>"])


@pytest.fixture(scope="session")
def sampler_config() -> SamplerConfig:
    return SamplerConfig("native", 24, 128, 8, 100, 1.0)


@pytest.fixture(scope="session")
def optim_config() -> OptimConfig:
    return ADAMW


def sealed(model: lm.LM, folder: Path) -> Path:
    with artifact.atomic_dir(folder, stage="bases", params=model.params) as aside:
        lm.save(model, aside)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed folder with a tiny Llama at random weights."""
    return sealed(new_model(TINY, seed=1), tmp_path_factory.mktemp("models") / "tiny")


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig("tiny", str(folder), None, "float32", False)


@pytest.fixture
def tiny(tiny_folder: Path) -> lm.LM:
    return lm.load(model_config(tiny_folder))


@pytest.fixture(scope="session")
def talker_folder(tmp_path_factory: pytest.TempPathFactory, judge: Judge) -> Path:
    """A sealed tiny Llama that boxes readable but random scores: half of them are right."""
    model = new_model(TINY, seed=2)
    rng = np.random.default_rng(3)
    pool = draw_items("pair", 24, seed=5) + draw_items("single", 12, seed=5)
    examples = []
    for item in pool:
        low, high = (0, 1) if item.n == 1 else (1, 10)
        for _ in range(4):
            scores = ", ".join(str(x) for x in rng.integers(low, high + 1, size=item.n))
            prompt = judge.prompt(item, list(range(item.n)))
            examples.append(model.example(prompt, f"Scores: \\boxed{{{scores}}}"))
    optimizer = Optimizer(model.model, ADAMW, total_steps=90)
    for step in range(90):
        groups, _ = grouped([examples[i] for i in rng.integers(0, len(examples), size=16)])
        (-completion_logprobs(model.model, groups).logprobs.mean()).backward()
        optimizer.step(step)
    return sealed(model, tmp_path_factory.mktemp("models") / "talker")


@pytest.fixture
def talker(talker_folder: Path) -> lm.LM:
    return lm.load(model_config(talker_folder))


@pytest.fixture
def slice_of(talker_folder: Path) -> Callable[..., Slice]:
    """``slice_of("grpo", "grpo.steps=3")``: a stage's slice, with the talker as its base."""

    def make(stage: str, *overrides: str) -> Slice:
        ours = ["model=toy_s", f"model.source={talker_folder}", "sampler.max_new_tokens=10"]
        return Slice.of(config.load([*ours, *overrides]), stage)

    return make
