"""GRPO killed anywhere goes on to the very bits of a run that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import Stop, World, dies, lines, result
from safetensors.torch import load_file

from spct.grpo.journal import Journal
from spct.grpo.trainer import Trainer
from spct.preempt import Preempted
from spct.records import Item
from spct.training.checkpoint import Checkpoint
from spct.training.optim import Optimizer

STEPS = 4
PLAIN = ()
REFILL = ("grpo.refill=2", "grpo.skip_dead=true")
VARIANTS = {
    "each step": PLAIN,
    "every other step": ("grpo.checkpoint_every=2",),
    "indivisible epochs": ("grpo.prompts_per_step=4",),
    "step longer than an epoch": ("grpo.prompts_per_step=7", "grpo.group_size=2"),
    "several updates": ("grpo.updates_per_rollout=2", "grpo.checkpoint_every=2"),
    "refill": REFILL,
    "swapped orders, no KL": ("grpo.swap_orders=true", "grpo.kl_coef=0"),
    "best of evaluations": ("grpo.eval_every=1", "grpo.eval_items=2", "grpo.keep=best"),
}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, talker_folder: Path,
    make_items: Callable[..., list[Item]],
) -> World:  # fmt: skip
    """Six items: two steps of three prompts are an epoch."""
    items = make_items("pair", 4) + make_items("single", 2)
    return World(tmp_path_factory.mktemp("runs"), talker_folder, items)


@pytest.fixture(scope="module")
def straight(world: World) -> Callable[..., dict[str, bytes]]:
    """The result of a run that was left alone, computed once for each list of overrides."""
    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def run(*overrides: str) -> dict[str, bytes]:
        if overrides not in known:
            torch.set_num_threads(1)
            known[overrides] = result(world(f"straight{len(known)}", *overrides))
        return known[overrides]

    return run


def _killed(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, at: int,
    *overrides: str, before: bool = False,
) -> str:  # fmt: skip
    """The name of a run that died."""
    shutil.rmtree(world.folder / "killed", ignore_errors=True)
    with monkeypatch.context() as patch:
        dies(patch, owner, name, at, before=before)
        with pytest.raises(Stop):
            world("killed", *overrides)
    assert not (world.folder / "killed").exists()
    return "killed"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at", range(STEPS))
def test_killed_after_any_step(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, variant: str, at: int
) -> None:
    overrides = VARIANTS[variant]
    name = _killed(world, monkeypatch, Trainer, "step", at, *overrides)
    out = world(name, *overrides)
    assert result(out) == straight(*overrides)
    assert not world.state(name).exists()
    timing = json.loads((out / "timing.json").read_text())
    assert [entry["step"] for entry in timing["steps"]] == list(range(STEPS))


def test_the_variants_do_what_they_are_here_for(world: World, straight: Callable) -> None:
    found = {name: straight(*overrides) for name, overrides in VARIANTS.items()}
    weights = {name: files["model.safetensors"] for name, files in found.items()}
    assert weights.pop("every other step") == weights["each step"]
    assert len(set(weights.values())) == len(weights)
    steps = {
        name: [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
        for name, files in found.items()
    }
    assert {step["extra_prompts"] for step in steps["refill"]} > {0.0}
    assert any(step["refilled_groups"] for step in steps["refill"])
    accuracies = [step["eval_accuracy"] for step in steps["best of evaluations"]]
    assert accuracies.index(max(accuracies)) < STEPS - 1  # else best is last
    assert any(step["clip_fraction"] for step in steps["several updates"])
    assert all("alarms.jsonl" in files for files in (found["each step"], found["refill"]))


PLACES = {
    "while sampling": (Trainer, "_roll_out", True),
    "between two updates of a rollout": (Optimizer, "step", False),
    "when metrics are written": (Journal, "record", False),
    "before a checkpoint": (Checkpoint, "save", True),
    "after a checkpoint": (Checkpoint, "save", False),
    "before the folder is sealed": (Journal, "publish", False),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", [0, 2])
def test_killed_at_any_place(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, place: str, at: int
) -> None:
    owner, function, before = PLACES[place]
    overrides = ("grpo.updates_per_rollout=2",)
    at = 0 if function == "publish" else at
    name = _killed(world, monkeypatch, owner, function, at, *overrides, before=before)
    assert result(world(name, *overrides)) == straight(*overrides)


@pytest.mark.parametrize("at", range(STEPS))
def test_asked_to_end_keeps_the_step_it_is_in(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Also where no checkpoint is due, and in the last step; the signal comes while sampling."""
    expected, rarely, name = straight(), "grpo.checkpoint_every=99", f"asked{at}"
    with monkeypatch.context() as patch:
        roll_out = Trainer._roll_out
        calls = iter(range(STEPS))

        def signalled(trainer: Trainer, *args: Any) -> Any:
            if next(calls) == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return roll_out(trainer, *args)

        patch.setattr(Trainer, "_roll_out", signalled)
        with pytest.raises(Preempted, match=f"ended by SIGTERM after {at + 1} steps"):
            world(name, rarely)
        assert next(calls, STEPS) == at + 1
    assert not (world.folder / name).exists()
    with monkeypatch.context() as patch:
        taken = []
        step = Trainer.step
        patch.setattr(Trainer, "step", lambda t, s: taken.append(s) or step(t, s))
        assert result(world(name, rarely)) == expected
    assert taken == list(range(at + 1, STEPS))


def test_killed_again_and_again(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    for _ in range(STEPS):
        with monkeypatch.context() as patch:
            dies(patch, Journal, "record", 1)  # one step is kept, the next is lost
            step = Trainer.step
            patch.setattr(Trainer, "step", lambda t, s, f=step: taken.append(s) or f(t, s))
            try:
                world("again")
            except Stop:
                continue
            break
    assert taken == [0, 1, 1, 2, 2, 3, 3]
    assert result(world.folder / "again") == straight()


@pytest.mark.parametrize(("every", "older", "newest"), [(1, 4, 5), (2, 2, 4)])
def test_a_truncated_newest_state_gives_way(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, every: int, older: int,
    newest: int, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    overrides = ("grpo.steps=6", f"grpo.checkpoint_every={every}")
    name = _killed(world, monkeypatch, Trainer, "step", 5, *overrides)
    states = sorted(world.state(name).glob("state-*.pt"))
    assert [path.stem for path in states] == [f"state-{older:06d}", f"state-{newest:06d}"]
    states[-1].write_bytes(states[-1].read_bytes()[:-500])
    again = result(world(name, *overrides))
    told = capsys.readouterr().err
    assert f"{states[-1]} cannot be read" in told and f"continues from step {older}" in told
    assert again == straight(*overrides)


@pytest.mark.medium
def test_sigkill_in_the_middle_of_a_checkpoint(world: World, straight: Callable) -> None:
    """A real kill, half the second state written: no handler runs, nothing is tidied up."""
    code = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from spct import config\n"
        "from spct.config import Slice\n"
        "from spct.grpo import train\n"
        "torch.set_num_threads(1)\n"
        "write, count = torch.save, 0\n"
        "def save(content, path):\n"
        "    global count\n"
        "    write(content, path)\n"
        "    count += 1\n"
        "    if count == 2:\n"
        "        os.truncate(path, os.path.getsize(path) // 2)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = save\n"
        "items, out, *words = sys.argv[1:]\n"
        "cfg = Slice.of(config.load(words), 'grpo')\n"
        "train.run(cfg, 3, items=Path(items), out=Path(out))\n"
    )
    out = world.folder / "sigkill"
    command = [sys.executable, "-c", code, str(world.items), str(out), *world.words()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(path.name.partition(".pt")[0] for path in world.state("sigkill").glob("*state-*"))
    assert left == [".state-000002", "state-000001"]
    assert result(world("sigkill")) == straight()


def test_a_lost_or_foreign_log_is_restored(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics come with the state, whatever has become of the file beside it."""
    name = _killed(world, monkeypatch, Trainer, "step", 2)
    (world.state(name) / "metrics.jsonl").write_text('{"step": 0, "loss": 3}\n{"st')
    assert result(world(name)) == straight()


def test_dropout_is_drawn_anew_at_every_step_and_equal_on_resuming(
    world: World, straight: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "dropping"
    shutil.copytree(world.model, folder, ignore=shutil.ignore_patterns("manifest.json"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.2}))
    overrides = (f"model.source={folder}", "grpo.kl_coef=0")
    torch.manual_seed(1)
    alone = result(world("dropping", *overrides))
    assert alone["model.safetensors"] != straight("grpo.kl_coef=0")["model.safetensors"]
    torch.manual_seed(2)
    name = _killed(world, monkeypatch, Trainer, "step", 2, *overrides)
    torch.manual_seed(3)
    assert result(world(name, *overrides)) == alone


@pytest.mark.gpu
@pytest.mark.parametrize("at", [0, 2])
def test_on_a_gpu_a_killed_run_ends_beside_one_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Kernels add in an order of their own there, so only nearly to the same weights."""
    alone = load_file(world(f"alone{at}") / "model.safetensors")
    start = load_file(world.model / "model.safetensors")
    out = world(_killed(world, monkeypatch, Trainer, "step", at))
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == list(range(STEPS))
    again = load_file(out / "model.safetensors")
    for name, weight in alone.items():
        moved = float((weight - start[name]).norm())
        assert float((again[name] - weight).norm()) <= 0.01 * moved + 1e-6, name


def test_a_run_without_states_equals_one_with(world: World, straight: Callable) -> None:
    often, never = straight(), result(world("never", "grpo.checkpoint_every=100"))
    assert often == never


def test_seconds_stand_apart(world: World) -> None:
    out = world("timed", "grpo.eval_every=2", "grpo.eval_items=2")
    timing = json.loads((out / "timing.json").read_text())
    assert [entry["step"] for entry in timing["steps"]] == list(range(STEPS))
    phases = {"rollout", "reward", "reference", "update", "checkpoint", "eval"}
    assert all(
        phases | {"share_of_bound", "learned_tokens_per_s"} <= set(e) for e in timing["steps"]
    )
    assert [entry["eval"] > 0 for entry in timing["steps"]] == [False, True, False, True]
    assert [entry["checkpoint"] > 0 for entry in timing["steps"]] == [True, True, True, False]
    for phase in phases:
        assert timing[phase] == pytest.approx(sum(entry[phase] for entry in timing["steps"]))
    assert timing["matmul_flops_per_s"] > 0
    named = {name for entry in lines(out / "metrics.jsonl") for name in entry}
    assert not named & (phases - {"reward"} | {"share_of_bound"})
