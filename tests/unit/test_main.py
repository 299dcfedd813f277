"""The command line: arguments, and one clear line for what the user can mend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from spct import stages
from spct.__main__ import main
from spct.arguments import io_arguments
from spct.config import ConfigError, Slice, dump, load, view
from spct.scaling.banks import BankError
from spct.stages import STAGES

SEEN: dict[str, object] = {}


def stage(
    cfg: Slice,
    seed: int,
    *,
    items: Path,
    banks: list[Path],
    shard: int = 0,
    init: Path | None = None,
) -> None:
    SEEN.update(cfg=cfg, seed=seed, items=items, banks=banks, shard=shard, init=init)


@pytest.fixture(autouse=True)
def fake_grpo(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(stages.Stage, "load", lambda self: stage)


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    code = main(args)
    return code, capsys.readouterr().err


def test_by_hand_with_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(
        capsys, "grpo", "experiment=smoke", "grpo.lr=1e-5", "seed=3",
        "io.items=a=b", "io.banks=x", "io.banks=y", "io.shard=2", "io.init=",
    )  # fmt: skip
    assert code == 0
    assert SEEN["cfg"].grpo.lr == 1e-5  # type: ignore[attr-defined]
    assert (SEEN["seed"], SEEN["items"], SEEN["shard"]) == (3, Path("a=b"), 2)
    assert SEEN["banks"] == [Path("x"), Path("y")]
    assert SEEN["init"] is None


def test_with_a_frozen_slice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frozen = tmp_path / "grpo.yaml"
    frozen.write_text(dump(view(load(["grpo.steps=7"]), "grpo")))
    args = ("grpo", "--config", str(frozen), "io.items=a", "io.banks=x")
    assert run(capsys, *args)[0] == 0
    assert SEEN["cfg"].grpo.steps == 7  # type: ignore[attr-defined]
    code, message = run(capsys, *args, "grpo.steps=8")
    assert code == 2
    assert "is frozen, so 'grpo.steps=8' cannot change it" in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gpro"], "no stage or command 'gpro'"),
        (["grpo", "grpo.lrr=1"], "grpo.lrr: no such key"),
        (["grpo", "io.items=a"], "stage grpo needs io.banks"),
        (["grpo", "io.itmes=a"], "stage grpo has no io.itmes; it has io.items"),
        (["grpo", "io.items=a", "io.items=b", "io.banks=c"], "io.items is given 2 times"),
        (["grpo", "seed=one"], "seed: 'one' is not a whole number"),
        (["grpo", "--config", "no/such.yaml"], "no/such.yaml"),
        (["grpo", "--fast"], "no option '--fast'"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    code, err = run(capsys, *args)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_help_lists_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in STAGES)


def test_io_arguments_come_from_annotations() -> None:
    def by_text(cfg: Slice, seed: int, *, out: Path, many: Sequence[str] = ()) -> None: ...

    assert io_arguments("x", by_text, {"out": ["o"], "many": ["a"]}) == {
        "out": Path("o"),
        "many": ["a"],
    }
    with pytest.raises(ConfigError, match=r"needs io\.out"):
        io_arguments("x", by_text, {})


def test_what_the_curves_cannot_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cfg: Slice, seed: int) -> None:
        raise BankError("0.parquet: item a lacks sample 3")

    monkeypatch.setattr(stages.Stage, "load", lambda self: broken)
    assert run(capsys, "curves") == (2, "spct: 0.parquet: item a lacks sample 3\n")
