"""The supervised loop: resumed bit for bit, and the same on two processes as on one.

What two processes do is in supervised_world.py, which each of them runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import supervised_world
import torch
from judged_rows import GENERAL, kept_rows, rows_of
from meeting import Meeting
from patience import PATIENCE
from safetensors.torch import load_file
from torch import Tensor, nn

from spct import artifact, config, lm
from spct.data.general import write_general
from spct.errors import ConfigError, StageStopped
from spct.judge.task import Judge
from spct.preempt import Preempted
from spct.records import Item, read_bank, read_items, write_bank, write_items
from spct.rft import train as rft
from spct.schema import ModelConfig, OptimConfig
from spct.tracking import MetricsLog, read_metrics
from spct.training import choice, shared
from spct.training.batching import Example
from spct.training.checkpoint import Checkpoint
from spct.training.choice import completion_logprobs
from spct.training.precision import Precision
from spct.training.steps import Pass, compose, dealt
from spct.training.supervised import Shares, fit
from spct.training.world import World

EXAMPLES = [
    Example((5, 6, 7), (8, 9, 1)),
    Example((10,), (11,)),
    Example(tuple(range(20, 40)), tuple(range(40, 52))),
    Example((5, 6, 7), (3, 4, 12, 13, 1)),
    Example((60, 61), (62, 63, 64, 65, 1)),
    Example((5, 6, 7), (2,)),
    Example(tuple(range(20, 40)), (66, 1)),
    Example(tuple(range(70, 80)), (14, 1)),
]
STEPS = 5
FLOAT = Precision(torch.float32, torch.float32, torch.float32)


@dataclass
class Spec:
    optim: OptimConfig
    epochs: float = 1.0
    batch_tokens: int = 26
    micro_tokens: int = 60
    recompute: bool = False
    checkpoint_every: int = 1


class Stop(Exception):
    """Stands in for a kill."""


Weights = dict[str, Tensor]


def state(model: nn.Module) -> Weights:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: Weights, two: Weights) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def furthest(one: Weights, two: Weights) -> float:
    assert one.keys() == two.keys()
    return max(float((one[n] - two[n]).norm() / one[n].norm().clamp(min=1e-12)) for n in one)


def train(
    model: lm.LM, out: Path, spec: Spec, *, die_at: int = -1, nan_at: int = -1, asked_at: int = -1,
    identity: str = "me", seed: int = 0, precision: Precision = FLOAT,
) -> tuple[Weights, list[str], int]:  # fmt: skip
    """Weights, metric lines and the number of passes that this call took."""
    steps = compose(EXAMPLES, spec.epochs, spec.batch_tokens, seed)
    taken = 0

    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        nonlocal taken
        if die_at >= 0 and chosen == steps[die_at]:
            raise Stop
        if asked_at >= 0 and chosen == steps[asked_at]:
            os.kill(os.getpid(), signal.SIGTERM)
        taken += 1
        total = sum(len(EXAMPLES[i].completion) for i in chosen)
        loss = -completion_logprobs(model, one.groups).logprobs.sum() / total
        bad = nan_at >= 0 and chosen == steps[nan_at]
        return {
            "loss": loss * (float("nan") if bad else 1.0),
            "examples": torch.tensor(float(len(one.places))),
        }

    checkpoint = Checkpoint(out, {"who": identity})
    log = MetricsLog(checkpoint.folder / "metrics.jsonl")
    fit(
        "t", model.model, EXAMPLES, loss_of, spec, checkpoint, log,
        seed=seed, world=World(), precision=precision,
    )  # fmt: skip
    return state(model.model), log.path.read_text().splitlines(), taken


@pytest.fixture
def fresh(tiny_folder: Path) -> Callable[..., lm.LM]:
    def make(dropout: float = 0.0) -> lm.LM:
        made = lm.load(ModelConfig("tiny", str(tiny_folder), None, "float32", False))
        for layer in made.model.get_decoder().layers:
            layer.self_attn.attention_dropout = dropout
        return made

    return make


Fresh = Callable[..., lm.LM]


def test_the_examples_make_five_steps(optim_config: OptimConfig) -> None:
    spec = Spec(optim_config)
    steps = compose(EXAMPLES, spec.epochs, spec.batch_tokens, 0)
    assert len(steps) == STEPS == len({tuple(step) for step in steps})


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize(("die_at", "every"), [(0, 1), (1, 1), (3, 1), (4, 1), (3, 2), (4, 4)])
def test_training_goes_on_bit_for_bit(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig, name: str, die_at: int, every: int,
    dropout: float,
) -> None:  # fmt: skip
    spec = Spec(replace(optim_config, name=name), checkpoint_every=every)
    weights, lines, taken = train(fresh(dropout), tmp_path / "a", spec)
    assert taken == STEPS and len(lines) == STEPS
    assert not same(weights, state(fresh().model))
    torch.manual_seed(die_at)  # whatever was drawn before
    with pytest.raises(Stop):
        train(fresh(dropout), tmp_path / "b", spec, die_at=die_at)
    again, relines, retaken = train(fresh(dropout), tmp_path / "b", spec)
    assert same(weights, again)
    assert relines == lines
    assert retaken == STEPS - die_at // every * every


@pytest.mark.parametrize("at", range(STEPS))
def test_asked_to_end_keeps_the_step_it_is_in(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig, at: int,
) -> None:  # fmt: skip
    """Also where no checkpoint is due, and in the last step."""
    spec = Spec(optim_config, checkpoint_every=99)
    weights, lines, _ = train(fresh(), tmp_path / "a", spec)
    with pytest.raises(Preempted, match=f"ended by SIGTERM after {at + 1} steps"):
        train(fresh(), tmp_path / "b", spec, asked_at=at)
    again, relines, retaken = train(fresh(), tmp_path / "b", spec)
    assert same(weights, again) and relines == lines
    assert retaken == STEPS - at - 1


def test_dropout_is_drawn_by_seed(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spct.training.supervised.compose", lambda *a: [list(range(8))])
    runs = [
        train(fresh(dropout), tmp_path / str(i), Spec(optim_config), seed=seed)[0]
        for i, (dropout, seed) in enumerate([(0.0, 1), (0.2, 1), (0.2, 1), (0.2, 2)])
    ]
    assert same(runs[1], runs[2])
    assert not same(runs[0], runs[1]) and not same(runs[1], runs[3])


@pytest.mark.parametrize(
    ("recompute", "sharing"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_passes_of_a_step_add_up(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig, monkeypatch: pytest.MonkeyPatch,
    recompute: bool, sharing: bool,
) -> None:  # fmt: skip
    """Cut into passes or not, prompts shared or not, activations kept or not: one result."""
    used = []
    inner = shared.completion_states
    watched = lambda *a, **k: used.append(1) or inner(*a, **k)  # noqa: E731
    monkeypatch.setattr(shared, "completion_states", watched)
    spec = Spec(optim_config, epochs=3, batch_tokens=200)
    monkeypatch.setattr(choice, "LEAST_TOKENS", 10**6)
    weights, lines, taken = train(fresh(), tmp_path / "whole", replace(spec, micro_tokens=200))
    monkeypatch.setattr(choice, "LEAST_TOKENS", 0 if sharing else 10**6)
    used.clear()
    cut = replace(spec, micro_tokens=45, recompute=recompute)
    parts, relines, more = train(fresh(), tmp_path / "cut", cut)
    assert taken == len(lines) == len(relines) < more
    assert (len(used) > 1) == sharing  # one is the check of the model
    assert furthest(weights, parts) < 1e-5
    for one, two in zip(map(json.loads, lines), map(json.loads, relines), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    assert sum(json.loads(line)["examples"] for line in lines) == 3 * len(EXAMPLES)


def test_a_foreign_state_is_ignored(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig
) -> None:
    spec = Spec(optim_config)
    weights, lines, _ = train(fresh(), tmp_path / "a", spec)
    with pytest.raises(Stop):
        train(fresh(), tmp_path / "b", spec, die_at=3, identity="somebody else")
    again, relines, taken = train(fresh(), tmp_path / "b", spec)
    assert taken == STEPS
    assert same(weights, again) and relines == lines


def test_nan_stops_at_its_step_and_touches_no_weight(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig
) -> None:
    model, stopped = fresh(), fresh()
    with pytest.raises(FloatingPointError, match="t: loss is nan at step 2"):
        train(model, tmp_path / "b", Spec(optim_config), nan_at=2)
    with pytest.raises(Stop):
        train(stopped, tmp_path / "c", Spec(optim_config), die_at=2)
    assert same(state(model.model), state(stopped.model))


def test_epochs_of_no_step_are_refused(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig
) -> None:
    """Once the base was written as if it had been trained."""
    with pytest.raises(StageStopped, match=r"t: 0\.01 epochs of 8 examples are no step; raise ep"):
        train(fresh(), tmp_path / "a", Spec(optim_config, epochs=0.01))


def test_out_of_memory_names_the_setting(
    fresh: Fresh, tmp_path: Path, optim_config: OptimConfig
) -> None:
    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        raise torch.OutOfMemoryError("no room")

    checkpoint = Checkpoint(tmp_path / "out", {})
    with pytest.raises(StageStopped, match="out of memory at step 0; lower micro_tokens, now 60"):
        fit(
            "t", fresh().model, EXAMPLES, loss_of, Spec(optim_config), checkpoint,
            MetricsLog(tmp_path / "log"), seed=0, world=World(), precision=FLOAT,
        )  # fmt: skip


@pytest.mark.parametrize("stage", ["rft", "metarm"])
@pytest.mark.parametrize("key", ["batch_tokens", "micro_tokens"])
def test_a_bound_of_no_token_is_refused(stage: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{stage}.{key}: 0 is not 1 or more"):
        config.load([f"{stage}.{key}=0"])


@pytest.fixture
def no_group() -> Iterator[None]:
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_mixed_precision_learns_nearly_the_same_and_resumes_bit_for_bit(
    no_group: None, fresh: Fresh, tmp_path: Path, optim_config: OptimConfig
) -> None:
    """As on a GPU: float32 weights, bfloat16 passes."""
    spec, mixed = (
        Spec(optim_config, epochs=2),
        Precision(torch.float32, torch.bfloat16, torch.bfloat16),
    )
    exact, lines, _ = train(fresh(), tmp_path / "exact", spec)
    rough, relines, _ = train(fresh(), tmp_path / "mixed", spec, precision=mixed)
    for one, two in zip(map(json.loads, lines), map(json.loads, relines), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.02)
    whole = {name: value.full_tensor() for name, value in rough.items()}
    assert all(value.dtype == torch.float32 for value in whole.values())
    assert 0 < furthest(exact, whole) < 0.1
    with pytest.raises(Stop):
        train(fresh(), tmp_path / "b", spec, die_at=3, precision=mixed)
    again, _, _ = train(fresh(), tmp_path / "b", spec, precision=mixed)
    assert same(whole, {name: value.full_tensor() for name, value in again.items()})


# ---- two processes -------------------------------------------------------------------------------

# float32 sums in another order; Adam divides small gradients by themselves, hence the wider bound
WEIGHT = 3e-5


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, judge: Judge,
    make_items: Callable[..., list[Item]], talker_folder: Path,
) -> Path:  # fmt: skip
    """What one process makes of the inputs, beside them."""
    folder = tmp_path_factory.mktemp("supervised")
    pool = make_items("pair", 12) + make_items("single", 4)
    write_items(folder / "items.parquet", pool)
    write_bank(folder / "rows.parquet", kept_rows(judge, pool))
    write_general(folder / "general.parquet", GENERAL)
    facts = {"policy": "base", "size": "toy_s", "params": 5, "stage": "judge", "seed": 3}
    write_bank(folder / "bank.parquet", rows_of(judge, pool), **facts)
    torch.set_num_threads(1)
    supervised_world.everything(folder, talker_folder, 1)
    return folder


@pytest.fixture(scope="module")
def both(folder: Path, talker_folder: Path) -> Path:
    """The same folder when two processes have done all of it too, and a third run in part."""
    meeting = Meeting()
    processes = [
        subprocess.Popen(
            [sys.executable, supervised_world.__file__, str(folder), str(talker_folder)],
            env=meeting.environment(rank),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    return folder


def assert_equal_training(one: Path, two: Path) -> None:
    """Metrics by step, weights, and what the folders hold, to rounding."""
    assert artifact.check_dir(two).keys() == artifact.check_dir(one).keys()
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())
    steps = [read_metrics(path / "metrics.jsonl") for path in (one, two)]
    assert len(steps[0]) > 5
    for first, second in zip(*steps, strict=True):
        assert second == pytest.approx(first, rel=1e-4, abs=1e-6)
    weights = [load_file(path / "model.safetensors") for path in (one, two)]
    assert furthest(*weights) < WEIGHT
    assert not two.with_name(f"{two.name}.state").exists()


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["rft", "metarm"])
def test_two_processes_learn_what_one_does(both: Path, talker_folder: Path, stage: str) -> None:
    assert_equal_training(both / f"{stage}-1", both / f"{stage}-2")
    before = load_file(talker_folder / "model.safetensors")
    after = load_file(both / f"{stage}-2" / "model.safetensors")
    assert furthest(before, {name: after[name] for name in before}) > 100 * WEIGHT


@pytest.mark.medium
def test_held_out_scores_are_gathered(both: Path) -> None:
    one, two = (json.loads((both / f"metarm-{n}" / "eval.json").read_text()) for n in (1, 2))
    assert one["judgements"] > 10 and "auc" in one
    assert two == {
        **one,
        **{name: pytest.approx(one[name], abs=0.05) for name in one if "auc" in name},
    }


@pytest.mark.medium
def test_a_bank_scored_by_two_is_that_of_one(both: Path) -> None:
    one, two = (list(read_bank(both / f"scored-{n}.parquet")) for n in (1, 2))
    scores = [(a.meta_score, b.meta_score) for a, b in zip(one, two, strict=True)]
    for first, second in scores:
        assert (first is None) == (second is None)
        assert first is None or second == pytest.approx(first, abs=1e-5)
    assert len({first for first, _ in scores}) > 20


@pytest.mark.medium
def test_a_state_of_two_processes_is_continued_by_one(
    both: Path, talker_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (left,) = (both / "killed.state").glob("state-*.pt")
    assert left.name == "state-000003.pt"
    supervised_world.fine_tune(both, talker_folder, "killed")
    assert "continues from step 3" in capsys.readouterr().err
    assert_equal_training(both / "rft-1", both / "killed")


def test_the_runs_hold_idle_passes_and_steps_of_several(folder: Path, talker_folder: Path) -> None:
    """Else the equalities above would say nothing of them."""
    cfg = supervised_world.slice_of("rft", talker_folder)
    model = lm.load(cfg.model)
    judge = Judge.build(cfg.judge)
    files = [folder / f"{name}.parquet" for name in ("items", "rows", "general")]
    data = rft.examples(model, judge, *files, general_share=cfg.rft.general_share, seed=3)
    steps = compose(data, cfg.rft.epochs, cfg.rft.batch_tokens, 0)
    every = [
        [dealt(data, step, cfg.rft.micro_tokens, World(rank, 2), shared=True) for rank in (0, 1)]
        for step in steps
    ]
    assert any(len(first) > 1 for first, _ in every)
    assert any(one.idle for pair in every for own in pair for one in own)
    assert len(read_items(files[0])) == 16
