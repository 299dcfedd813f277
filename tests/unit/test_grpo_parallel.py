"""The GRPO stage on two processes: the command of the workflow, and grpo_world.py beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import KILLED_AFTER, SHARED_OUT, TOGETHER, World, lines
from meeting import Meeting
from patience import PATIENCE
from safetensors.torch import load_file
from test_parallel import environment, furthest

from spct import artifact, config, provenance
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo import dump, learn
from spct.grpo.trace import Seen, Trace
from spct.grpo.trainer import Trainer
from spct.records import read_items
from spct.sampling.base import Completion, Request
from spct.sampling.dealt import DealtSampler
from spct.schema import SamplerConfig
from spct.training.world import ALONE
from spct.training.world import World as Together

SCRIPT = sys.modules[World.__module__].__file__
# float32 sums in another order, through eight steps of Adam
WEIGHT, METRIC = 2e-5, 1e-3
APART = ("sampler_gap_mean", "sampler_gap_max")  # rounding itself
By = dict[str, list[dict[str, Any]]]  # by what processes do together, what each tells


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, talker_folder: Path, make_items: Callable[..., Any]
) -> World:
    items = make_items("pair", 4) + make_items("single", 4)
    return World(tmp_path_factory.mktemp("runs"), talker_folder, items)


@pytest.fixture(scope="module")
def one(world: World) -> Path:
    """The model folder of one process."""
    torch.set_num_threads(1)
    return world("one", *SHARED_OUT)


@pytest.fixture(scope="module")
def two(world: World) -> Path:
    """That of two, started as the workflow starts them."""
    out = world.folder / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "spct", "grpo", *world.words(*SHARED_OUT),
         "grpo.recompute=true", "seed=3", f"io.items={world.items}", f"io.out={out}"],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def told(world: World) -> By:
    """What each of two processes tells of what they do together (``grpo_world.TOGETHER``)."""
    return {name: _told(world, name) for name in TOGETHER}


def _told(world: World, name: str) -> list[dict[str, Any]]:
    meeting = Meeting()
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), name, str(world.folder), str(world.model)],
            env=meeting.environment(rank),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    return [json.loads((world.folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def same_run(one: Path, other: Path) -> None:
    """Equal to rounding: metrics, texts, alarms, weights, and which step was the best."""
    steps = [lines(folder / "metrics.jsonl") for folder in (one, other)]
    for ours, theirs in zip(*steps, strict=True):
        ours, theirs = ({k: v for k, v in e.items() if k not in APART} for e in (ours, theirs))
        assert theirs == pytest.approx(ours, rel=METRIC, abs=1e-6)
    assert (one / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert furthest(*weights) < WEIGHT
    manifests = [artifact.read_manifest(folder) for folder in (one, other)]
    for name in ("kept_step", "params"):
        assert manifests[0][name] == manifests[1][name]
    # the command line adds how the folder was made
    names = [
        {path.name for path in folder.iterdir()} - {provenance.NAME} for folder in (one, other)
    ]
    assert names[0] == names[1]


@pytest.mark.medium
def test_two_processes_train_as_one(world: World, one: Path, two: Path) -> None:
    same_run(one, two)
    start = load_file(world.model / "model.safetensors")
    assert furthest(start, load_file(one / "model.safetensors")) > 100 * WEIGHT
    assert not world.state("two").exists()


@pytest.mark.medium
@pytest.mark.parametrize("work", ["sampled", "learned"])
def test_each_does_its_share(told: By, work: str) -> None:
    counts = [each[work] for each in told["stopped"]]
    assert min(counts) > 0.3 * sum(counts)


@pytest.mark.medium
def test_two_that_were_killed_go_on(world: World, two: Path, told: By) -> None:
    assert [each["error"] for each in told["stopped"]] == ["Stop: "] * 2
    assert [each["error"] for each in told["continued"]] == [""] * 2
    same_run(two, world.folder / "by_two")


@pytest.mark.medium
def test_one_goes_on_where_two_were_killed(
    world: World, one: Path, told: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda t, s: taken.append(s) or step(t, s))
    same_run(one, world("by_one", *SHARED_OUT))
    assert taken[0] == KILLED_AFTER  # the state before it held all steps but the last


@pytest.mark.medium
def test_a_nan_of_one_stops_both_and_replays(world: World, told: By) -> None:
    first, second = (each["error"] for each in told["spoilt"])
    assert first == second and first.startswith("FloatingPointError: grpo: loss is nan")
    path = Path(first.rpartition(" ")[2])
    assert path == world.state("nan") / "failed-000001.pt"
    held = torch.load(path, weights_only=True)
    assert all(isinstance(each, torch.Tensor) for each in held["old"] + held["reference"])
    assert dump.replay(path).guilty == [(5, held["items"][5])]


# ---- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told(Together):
    """A process of two; the other one says ``other``."""

    size: int = 2
    other: Any = None

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other]


def test_a_trace_takes_in_what_others_saw() -> None:
    mine, theirs = (Seen(torch.ones(1), torch.ones(1)) for _ in range(2))
    trace = Trace([(), (), ()], seen=[mine, Seen(), Seen(old=torch.zeros(1))])
    trace.gather(Told(other={2: theirs}))
    assert trace.seen[0] is mine and trace.seen[2] is theirs and trace.seen[1] == Seen()


def test_an_error_of_another_process_is_told_with_its_rank() -> None:
    Told().agree(None)
    with pytest.raises(StageStopped, match=r"^process 1 stopped: OSError: no space$"):
        Told(other="OSError: no space").agree(None)
    with pytest.raises(ValueError, match="mine"):
        Told(other="OSError: no space").agree(ValueError("mine"))


def test_files_are_for_the_main_process() -> None:
    calls: list[int] = []
    assert Told(rank=0).on_main(lambda x: calls.append(x) or x + 1, 1) == 2
    assert Told(rank=1).on_main(calls.append, 2) is None
    with pytest.raises(OSError, match="disk"):
        Told(rank=0).on_main(_raises, OSError("disk"))
    assert calls == [1]


def _raises(error: Exception) -> None:
    raise error


def test_one_that_cannot_sample_stops_all(sampler_config: SamplerConfig) -> None:
    class Sampler:
        def sample(self, requests: Sequence[Request]) -> list[Completion]:
            raise torch.OutOfMemoryError("no room")

    asked = [Request((1, 2), seed=0, temperature=1.0)]
    with pytest.raises(torch.OutOfMemoryError):
        DealtSampler(Sampler(), sampler_config, Told()).sample(asked)
    told = Told(rank=1, other="OutOfMemoryError: no room")  # this one has nothing to sample
    with pytest.raises(StageStopped, match="no room"):
        DealtSampler(Sampler(), sampler_config, told).sample(asked)


@pytest.mark.medium
def test_several_processes_never_halve_and_draw_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that tried again alone would wait for the others for ever."""
    drawn: list[float] = []

    def update(*_: Any, **__: Any) -> Any:
        drawn.append(float(torch.rand(())))
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(learn, "update", update)
    cfg = Slice.of(config.load(world.words()), "grpo")
    trainer = Trainer(cfg, 3, read_items(world.items), "", world.folder, ALONE)
    for rank in range(2):
        trainer.learner.world = Together(rank, 2)
        with pytest.raises(StageStopped, match=r"lower grpo\.micro_tokens, now 512$"):
            trainer.step(0)
    assert len(set(drawn)) == 2
