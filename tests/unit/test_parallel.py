"""Two processes train as one does. The work is in parallel_world.py, which each process runs."""

from __future__ import annotations

import filecmp
import importlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import parallel_world
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from meeting import Meeting
from patience import PATIENCE
from torch import Tensor

from spct import lm
from spct.config import load as compose
from spct.grpo.loss import Settings, Totals, objective
from spct.metarm import model as metarm
from spct.schema import ModelConfig
from spct.training import parallel
from spct.training.deal import deal, passes, silent
from spct.training.groups import Group, micro_batches
from spct.training.precision import Precision
from spct.training.whole import save_pretrained, weights
from spct.training.world import World, joined

SCRIPT = parallel_world.__file__
MIXED = Precision(torch.float32, torch.bfloat16, torch.bfloat16)
# float32 sums in another order; Adam divides small gradients by themselves, hence the wider bound
GRADIENT, WEIGHT = 3e-6, 3e-6


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm().clamp(min=1e-12))


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(relative(one[name], other[name]) for name in one)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def start(meeting: Meeting, rank: int, *arguments: str | Path) -> subprocess.Popen[str]:
    """One process of two."""
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=meeting.environment(rank),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """Everything, as one process does it."""
    torch.set_num_threads(1)
    return parallel_world.everything(World(), folder)


@pytest.fixture(scope="module")
def together(folder: Path, alone: dict[str, Any]) -> dict[str, Any]:
    """The same by two processes, which also find what the one has left."""
    meeting = Meeting()
    processes = [start(meeting, rank, folder) for rank in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    result: dict[str, Any] = torch.load(folder / "result.pt", weights_only=False)
    assert result["size"] == 2
    return result


ADAMW = [name for name, case in parallel_world.CASES.items() if case.optim == "adamw"]


@pytest.mark.medium
@pytest.mark.parametrize("name", ADAMW)
def test_loss_and_metrics_are_those_of_one_process(
    name: str, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    for one, two in zip(alone[name], together[name], strict=True):
        assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-5, abs=1e-7)
        assert one["metrics"]["kl"] > 0 and one["metrics"]["clipped"] >= 0


@pytest.mark.medium
@pytest.mark.parametrize("name", ADAMW)
def test_gradients_and_weights_are_those_of_one_process(
    name: str, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    first = alone[name][0]["weights"]
    for one, two in zip(alone[name], together[name], strict=True):
        assert furthest(one["gradients"], two["gradients"]) < GRADIENT
        assert furthest(one["weights"], two["weights"]) < WEIGHT
    assert furthest(first, one["weights"]) > 100 * WEIGHT  # it did move


@pytest.mark.medium
def test_muon_steps_with_sharded_matrices(alone: dict[str, Any], together: dict[str, Any]) -> None:
    """Its Newton-Schulz iteration is in bfloat16, so it agrees to the rounding of that."""
    start, one = (alone["muon"][step]["weights"] for step in (0, 2))
    two = together["muon"][2]["weights"]
    for name in one:
        moved, theirs = one[name] - start[name], two[name] - together["muon"][0]["weights"][name]
        assert relative(moved, theirs) < 0.05


@pytest.mark.medium
def test_the_cases_hold_uneven_and_idle_processes(together: dict[str, Any]) -> None:
    """Else the equalities above would say nothing of idle passes."""
    assert any(0 in own for own in together["sequence"][0]["passes"])
    assert [sum(own) for own in together["idle_rank"][0]["passes"]] == [1, 0]
    for name in parallel_world.CASES:
        first, second = together[name][0]["passes"]
        assert len(first) == len(second)
        assert sum(first) + sum(second) == len(parallel_world.CASES[name].groups)


@pytest.mark.medium
def test_the_same_weights_write_the_same_texts(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    assert together["samples_0"] == alone["samples_0"]  # log-probs too, bit for bit
    ids = [[one["ids"] for one in result["samples_2"]] for result in (alone, together)]
    assert ids[0] == ids[1]
    assert len(set(map(tuple, ids[0]))) > 5


@pytest.mark.medium
def test_a_state_continues_on_another_number_of_processes(
    folder: Path, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    straight = alone["sequence"][2]
    assert sorted(together["continued"]) == ["state-of-1", "state-of-2"]
    by_one = parallel_world.continued(World(), folder / "state-of-2.pt")
    for two in (*together["continued"].values(), by_one):
        assert two["metrics"] == pytest.approx(straight["metrics"], rel=1e-5, abs=1e-7)
        assert furthest(straight["weights"], two["weights"]) < WEIGHT
    same = together["continued"]["state-of-2"]
    assert furthest(together["sequence"][2]["weights"], same["weights"]) == 0.0


@pytest.mark.medium
def test_the_model_folder_is_that_of_one_process(
    folder: Path, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    one, two = folder / "model-of-1", folder / "model-of-2"
    names = sorted(path.name for path in one.iterdir())
    assert "model.safetensors" in names
    assert filecmp.cmpfiles(one, two, names, shallow=False) == (names, [], [])
    model = transformers.AutoModelForCausalLM.from_pretrained(two)
    expected = parallel_world.new_model("llama", 1).state_dict()
    assert furthest(expected, model.state_dict()) == 0.0


@pytest.mark.medium
def test_what_processes_tell_each_other(together: dict[str, Any]) -> None:
    talk = together["talk"]
    assert talk["ranks"] == [0, 1]
    assert talk["from_main"] == ["rank 0", "rank 0"]
    assert talk["totals"] == [{"loss": pytest.approx(0.3), "ratio_max": 1.0}] * 2


@pytest.mark.medium
def test_an_error_of_all_is_raised_by_all(together: dict[str, Any]) -> None:
    first, second = together["talk"]["errors"]
    assert first == second
    names, other, norm = first
    assert "only_1" in names and "another model" in other
    assert norm.startswith("gradient norm is nan")  # the NaN was in one process's batch


@pytest.mark.medium
def test_one_that_raises_ends_all_with_its_message(folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, SCRIPT, str(folder), "raise"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert "rank 1 of 2: ValueError: no reward for item 17" in done.stderr


def test_one_that_never_comes_is_not_waited_for_beyond_the_deadline(folder: Path) -> None:
    meeting = Meeting()
    waiting, late = (start(meeting, rank, folder, "wait") for rank in range(2))
    try:
        output, _ = waiting.communicate(timeout=PATIENCE)
        assert late.poll() is None
    finally:
        late.kill()
        late.communicate()
    assert waiting.returncode != 0
    assert "rank 0 of 2: RuntimeError" in output


def test_the_deadline_is_handed_to_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def group(backend: str, timeout: timedelta) -> None:
        raise InterruptedError(timeout)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", group)
    with pytest.raises(InterruptedError) as given, joined(timedelta(minutes=7)):
        pass
    assert given.value.args == (timedelta(minutes=7),)


# ---- one process ---------------------------------------------------------------------------------


def test_a_world_of_one_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as world:
        assert (world.rank, world.size, world.main) == (0, 1, True)
        assert world.gather("x") == ["x"] and world.from_main("x") == "x"
        assert world.totals({"loss": 2.0, "ratio_max": 3.0}) == {"loss": 2.0, "ratio_max": 3.0}
        model = parallel_world.new_model("llama", 1)
        parallel.shard(model, world, Precision.of("float32", world.device))
    assert not parallel.sharded(model)
    assert not torch.distributed.is_initialized()


@pytest.fixture
def no_group() -> Iterator[None]:
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_mixed_precision_keeps_float32_weights(no_group: None, tmp_path: Path) -> None:
    ids = torch.arange(2, 22).reshape(2, 10)

    def loss(model: Any) -> Tensor:
        logits = model(input_ids=ids, use_cache=False).logits
        seen.append(logits.dtype)
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    seen: list[torch.dtype] = []
    mixed, exact = (parallel_world.new_model("llama", 1) for _ in range(2))
    world = World()
    parallel.shard(mixed, world, MIXED)
    for last in (False, True):
        value = parallel.through(mixed, loss)
        parallel.backward(mixed, value, world, last=last)
        loss(exact).backward()
    assert seen[0] == torch.bfloat16
    for ours, plain in zip(mixed.parameters(), exact.parameters(), strict=True):
        assert ours.dtype == torch.float32 and ours.grad is not None and plain.grad is not None
        assert ours.grad.dtype == torch.float32
        assert relative(plain.grad, ours.grad.full_tensor()) < 0.05
    norm = float(torch.nn.utils.clip_grad_norm_(exact.parameters(), 0.1))
    assert parallel.clip(mixed.parameters(), 0.1) == pytest.approx(norm, rel=0.02)
    assert parallel.clip(mixed.parameters(), 1.0) == pytest.approx(0.1, rel=1e-4)
    with parallel.unsharded(mixed):
        assert mixed.dtype == torch.bfloat16
    save_pretrained(mixed, tmp_path, weights(mixed, world), MIXED)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16 and type(loaded) is transformers.LlamaForCausalLM
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_a_pass_that_raised_can_be_repeated(no_group: None) -> None:
    model, world = parallel_world.new_model("llama", 1), World()
    parallel.shard(model, world, MIXED)

    def states(model: Any) -> Tensor:
        hidden: Tensor = model.get_decoder()(input_ids=torch.arange(2, 9)[None]).last_hidden_state
        return hidden

    def breaks(model: Any) -> Tensor:
        states(model)
        raise torch.OutOfMemoryError("no room")

    with torch.no_grad():
        before = parallel.through(model, states)
    with pytest.raises(torch.OutOfMemoryError):
        parallel.through(model, breaks)
    parallel.recover(model)
    again = parallel.through(model, states)
    assert torch.equal(before, again)
    parallel.backward(model, again.float().sum(), world, last=True)
    assert all(p.grad is not None for p in parallel.decoder_layers(model)[0].parameters())


@pytest.mark.parametrize("before", ["a pass without gradient", "sampling"])
def test_a_step_is_never_hidden_by_weights_gathered_before(no_group: None, before: str) -> None:
    model, world = parallel_world.new_model("llama", 1), World()
    parallel.shard(model, world, MIXED)
    parameters = list(model.parameters())  # as an optimiser holds them

    def head(model: Any) -> Tensor:
        weight: Tensor = model.get_output_embeddings().weight
        return weight.detach().clone()

    with torch.no_grad():
        if before == "sampling":
            with parallel.unsharded(model):
                old = head(model)
        else:
            old = parallel.through(model, head)
        for parameter in parameters:
            parameter.add_(1.0)
        assert torch.allclose(parallel.through(model, head), old + 1, atol=0.02)


def test_weights_of_another_dtype_are_refused() -> None:
    model = parallel_world.new_model("llama", 1).to(torch.bfloat16)
    with pytest.raises(ValueError, match="load them as torch.float32"):
        parallel.shard(model, World(), MIXED)


def test_layers_that_are_not_found_are_named() -> None:
    model = parallel_world.new_model("llama", 1)
    model.get_decoder().layers.append(torch.nn.Identity())
    with pytest.raises(ValueError, match="LlamaModel has no list of its 2 layers"):
        parallel.decoder_layers(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bfloat16_is_mixed_on_a_gpu_alone(dtype: str) -> None:
    on_cpu, on_gpu = (Precision.of(dtype, torch.device(name)) for name in ("cpu", "cuda"))
    assert not on_cpu.mixed
    assert on_gpu.mixed == (dtype == "bfloat16") and on_gpu.weights == torch.float32
    assert on_gpu.saved == on_cpu.saved


# ---- who does what -------------------------------------------------------------------------------

costs = st.lists(st.integers(1, 100), max_size=5)


@given(costs=costs, hands=st.integers(1, 3))
def test_dealing_is_whole_and_nearly_as_even_as_can_be(costs: list[int], hands: int) -> None:
    dealt = deal(costs, hands)
    assert sorted(i for hand in dealt for i in hand) == list(range(len(costs)))
    assert all(hand == sorted(hand) for hand in dealt)

    def dearest(owners: Sequence[int]) -> int:
        return max(sum(c for c, o in zip(costs, owners, strict=True) if o == h) for h in every)

    every = range(hands)
    best = min(map(dearest, itertools.product(every, repeat=len(costs))))
    dearest_hand = max(sum(costs[i] for i in hand) for hand in dealt)
    assert dearest_hand <= (4 / 3 - 1 / (3 * hands)) * best + 1e-9


lengths = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=9)


@given(lengths=lengths, size=st.integers(1, 4), budget=st.integers(1, 80))
def test_every_process_has_as_many_passes(lengths: list[list[int]], size: int, budget: int) -> None:
    groups = [Group((1,) * (i + 1), tuple((2,) * n for n in ns)) for i, ns in enumerate(lengths)]
    own = [passes(groups, budget, World(rank, size)) for rank in range(size)]
    assert len({len(one) for one in own}) == 1
    assert sorted(i for one in own for batch in one for i in batch) == list(range(len(groups)))
    assert any(one[-1] for one in own)  # no pass that is idle for all
    if size == 1:
        assert own[0] == micro_batches(groups, budget)


def test_an_idle_pass_counts_for_nothing_and_reaches_the_weights() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    gains, owner = torch.tensor([1.0]), torch.tensor([0, 0])
    terms = objective(logprobs, logprobs.detach(), None, gains, owner, Settings(0.0), Totals(1, 2))
    nothing = silent(terms)
    assert terms.loss != 0 and nothing.loss == 0 and nothing.ratio_max == 0
    assert nothing.weight is None
    nothing.loss.backward()
    assert torch.equal(logprobs.grad, torch.zeros(2))


# ---- where weights are read to -------------------------------------------------------------------


class Seen(Exception):
    """The place a stage asked for."""


TRAINERS: dict[str, Callable[[Any], object]] = {
    "spct.rft.train": lambda run: run(**dict.fromkeys(("items", "rows", "general", "out"))),
    "spct.metarm.train": lambda run: run(items=None, banks=[], out=None),
    "spct.baselines.train": lambda run: run(items=None, name="btrm", out=None),
    "spct.grpo.train": lambda run: run(items=None, out=Path("out")),
}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("stage", TRAINERS)
def test_whole_weights_need_not_fit_one_of_several_devices(
    stage: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, place: torch.device, **__: Any) -> None:
        raise Seen(place.type)

    module = importlib.import_module(stage)
    world = World(0, size, torch.device("cuda"))
    monkeypatch.setattr(module, "joined", lambda: nullcontext(world))
    monkeypatch.setattr(module, "read_items", lambda _: [], raising=False)
    monkeypatch.setattr("spct.lm.load", load)
    monkeypatch.setattr("spct.metarm.model.load", load)
    run = partial(module.run, compose(["experiment=smoke"]), 0)
    with pytest.raises(Seen, match="cuda" if size == 1 else "cpu"):
        TRAINERS[stage](run)


def test_weights_go_where_they_are_told(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm, "device", lambda: torch.device("meta"))
    config = ModelConfig("tiny", str(tiny_folder), None, "float32", False)
    for load in (lm.load, metarm.load):
        assert load(config).model.device.type == "meta"
        assert load(config, place=torch.device("cpu")).model.device.type == "cpu"
