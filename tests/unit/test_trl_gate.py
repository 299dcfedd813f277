"""Our update against TRL's GRPOTrainer, as ``benchmarks/grpo_gate.py`` runs it, smaller."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from spct.grpo.presets import PRESETS

FOLDER = Path(__file__).parents[2] / "benchmarks"
needs_trl = pytest.mark.skipif(
    find_spec("trl") is None, reason="TRL is not installed; it is in the extra `gate`"
)


def _load(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


gate, cells, blocks, tables = (
    _load(name) for name in ("grpo_gate", "grpo_cells", "grpo_blocks", "grpo_tables")
)
gate.quiet()
NAMED = {case.name: case for case in gate.CASES}
SIZE = {"steps": 3, "hidden": 32, "layers": 1}
CELL = cells.Cell("small", 100, 4, 4)


# ---- the gate ------------------------------------------------------------------------------------


@pytest.mark.medium
@needs_trl
@pytest.mark.parametrize("case", gate.CASES, ids=list(NAMED))
def test_our_update_is_that_of_trl(case: Any) -> None:
    row = gate.compare("qwen2", case, **SIZE)
    assert row.passed, gate.line(row)
    assert (row.clipped > 0.05) == (row.case.updates == 2)
    # several micro-batches, each with policy passes and, with a KL term, one of the reference
    kinds = case.updates + (case.ours.kl_coef > 0)
    assert row.passes >= 2 * SIZE["steps"] * kinds


@pytest.mark.medium
@needs_trl
@pytest.mark.parametrize("name", ["grpo beta 0.04", "dapo beta 0.04", "dr_grpo beta 0.04"])
def test_another_family(name: str) -> None:
    row = gate.compare("llama", NAMED[name], **SIZE)
    assert row.passed, gate.line(row)


@pytest.mark.medium
@needs_trl
@pytest.mark.parametrize(
    ("name", "ours", "more"),
    [
        ("grpo beta 0.04", {"aggregation": "token"}, {}),
        ("dapo beta 0.04", {"aggregation": "sequence"}, {}),
        ("dr_grpo beta 0.04", {}, {"length": 25}),
        ("grpo beta 0.04", {"kl_estimator": "k2"}, {}),
        ("grpo beta 0.04", {"kl_coef": 0.0401}, {}),
        ("grpo beta 0.04", {"std": "population"}, {}),
        ("grpo beta 0.04", {"std_eps": 0.0}, {}),
        ("grpo beta 0.04, 2 updates, clip-higher", {"clip_high": 0.1}, {}),
        ("dapo beta 0.04, TRL's default KL = our k2", {"kl_estimator": "k3"}, {}),
        ("dapo beta 0.04, token_truncate at 1.2", {"importance_cap": 1.3}, {}),
        ("grpo beta 0.04", {"micro_tokens": 1}, {}),  # right, but one completion a pass: not shared
    ],
)
def test_another_setting_does_not_pass(name: str, ours: dict, more: dict) -> None:
    case = NAMED[name]
    wrong = replace(case, ours=replace(case.ours, **ours), **more)
    assert not gate.compare("qwen2", wrong, **SIZE).passed


@pytest.mark.medium
@needs_trl
def test_the_preset_has_its_defaults() -> None:
    import trl

    fields = trl.GRPOConfig.__dataclass_fields__
    preset = PRESETS["trl"].values
    same = {
        "group_size": "num_generations",
        "temperature": "temperature",
        "clip_low": "epsilon",
        "kl_coef": "beta",
        "updates_per_rollout": "num_iterations",
    }
    for ours, theirs in same.items():
        assert preset[ours] == fields[theirs].default, theirs
    assert {
        "epsilon_high": None, "loss_type": "dapo", "scale_rewards": "group",
        "use_bias_correction_kl": True, "vllm_importance_sampling_mode": "sequence_mask",
        "vllm_importance_sampling_clip_max": 3.0, "use_vllm": False,
    }.items() <= {name: field.default for name, field in fields.items()}.items()  # fmt: skip


# ---- the timing beside it ------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Any]:
    threads = torch.get_num_threads()
    yield blocks.Place("cpu", "float32", 8)
    torch.set_num_threads(threads)


@pytest.mark.medium
@needs_trl
@pytest.mark.parametrize("shipped", [False, True])
def test_both_sides_do_the_same_work(place: Any, shipped: bool) -> None:
    plan = blocks.Plan(0, 2, 0, 1)
    mine = blocks.run("ours", CELL, place, plan)
    theirs = blocks.run("trl", CELL, place, plan, micro=2, shipped=shipped)
    for found in (mine, theirs):
        assert {phase: len(each) for phase, each in found["seconds"].items()} == {
            "update": 2,
            "end": 1,
        }
        assert found["sampled"] == [CELL.tokens]  # nothing ended early
    assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert min(map(abs, mine["losses"])) > 1e-3  # something was compared
    assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


@pytest.mark.medium
@needs_trl
def test_the_pilot_tries_every_size(place: Any) -> None:
    cell = replace(CELL, prompt=20, groups=2)
    found = blocks.run("pilot", cell, place, blocks.Plan(), shipped=False)
    assert set(found["tried"]) == {1, 2, 4, 8}
    assert found["micro"] in found["tried"]


def test_a_plan_leaves_out_what_is_not_asked_for() -> None:
    steps = blocks.Plan(1, 2, 1, 1).steps()
    assert steps == [
        ("update", False), ("update", True), ("update", True), ("end", False), ("end", True),
    ]  # fmt: skip
    assert {phase for phase, _ in blocks.Plan(1, 0, 1, 1).steps()} == {"end"}
    assert {phase for phase, _ in blocks.Plan(1, 2, 1, 0).steps()} == {"update"}


def test_running_out_of_memory_is_a_result(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1e15 bytes")

    monkeypatch.setattr(blocks, "ours", full)
    assert blocks.run("ours", CELL, place, blocks.Plan()) == {"error": "out of memory"}
    monkeypatch.setattr(blocks, "ours", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        blocks.run("ours", CELL, place, blocks.Plan())


def test_flops_are_those_of_the_products() -> None:
    """Counted by hand for the small model, one group of one token each."""
    cell = replace(CELL, prompt=1, completion=1, members=1)
    attention = 32 * 32 * 2 + 2 * 32 * 16 + 32 + 2 * 16  # q, o; k, v; their biases
    inner = 2 * (attention + 3 * 32 * 64 + 2 * 32) + 32
    looks = 1 / 2 + 1 + 1 / 2
    forward = 2 * (2 * inner + 128 * 32) + 4 * 2 * 32 * looks
    assert cell.flops() == pytest.approx(4 * forward)  # policy 3, reference 1
    assert replace(cell, groups=3).flops() == pytest.approx(12 * forward)
    frozen = replace(cell, model="small-lora").flops()
    assert forward * 3 < frozen < forward * 4


def test_it_needs_no_workflow_packages() -> None:
    """The machine with the GPU has neither."""
    check = "import sys, grpo_vs_trl; print({'hydra', 'omegaconf', 'mlflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_both_sides_draw_the_same_rollouts() -> None:
    first, second = CELL.rounds(2)
    assert CELL.rounds(1) == [first]
    assert first != second
    assert {len(set(turn.rewards)) for turn in (first, second)} == {2}  # no dead group


def _row(losses: list[float], norm: float = 1.0) -> dict[str, Any]:
    def block(
        seconds: list[float], losses: list[float], mib: float, norm: float = 1.0
    ) -> dict[str, Any]:
        return {
            "seconds": {"update": seconds, "end": []}, "mib": {"update": mib},
            "losses": losses, "grad_norm": norm,
        }  # fmt: skip

    return {
        "cell": vars(CELL), "errors": {}, "pilot": {"micro": 2}, "rate": 1e9, "flops": 1e9,
        "blocks": {
            "trl": [block([4.0], [1.0], 90.0), block([6.0], [1.0], 100.0)],
            "ours": [block([2.0, 2.0], losses, 50.0, norm)],
        },
    }  # fmt: skip


def test_the_table_has_medians_and_peaks() -> None:
    text = tables.tables([_row([1.0001])], "float32")
    line = next(line for line in text.splitlines() if "small" in line)
    for part in ("5 (4–6), 2 a pass", "2.50×", "3 → 8", "20% → 50%", "100 → 50"):
        assert part in line
    assert "End to end" not in text


@pytest.mark.parametrize("row", [_row([1.01]), _row([1.0], norm=1.01)])
def test_other_results_are_not_compared(row: dict[str, Any]) -> None:
    line = tables.tables([row], "float32").splitlines()[4]
    assert "not compared" in line
    assert "×" not in line


def test_a_side_that_did_not_run_says_why() -> None:
    row = _row([1.0])
    row["blocks"]["trl"] = []
    row["errors"] = {"trl": "out of memory"}
    line = tables.tables([row], "float32").splitlines()[4]
    assert "| out of memory, 2 a pass | 2 (2–2) | – | – → 8 |" in line
