"""``spct diff``: what differs between two runs is named, once, and what is equal is said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact, provenance
from spct.__main__ import main
from spct.compare import Point, compare
from spct.diff import text
from spct.errors import ConfigError
from spct.scaling.curves import COLUMNS

SIZES = ("s", "m")


def row(accuracy: float, **more: Any) -> dict[str, Any]:
    base = {
        **{"run": "x", "seed": "0", "policy": "grpo", "size": "m", "benchmark": "toy_pairs"},
        **{"subset": "all", "method": "voting", "k": 4, "k_meta": 4, "items": 50},
        **{"accuracy": accuracy, "low": accuracy - 0.03, "high": accuracy + 0.03},
    }
    return {**dict.fromkeys(COLUMNS, 0.0), **base, **more}


def made(torch: str) -> dict[str, Any]:
    return {
        **{"code": {"version": "0", "commit": None, "fingerprint": "f"}, "tier": "cpu"},
        **{"packages": {"torch": torch}, "hardware": {"processor": "Z80"}},
        **{"started": "then", "outputs": {}, "seconds": 1.0},
    }


def make(
    results: Path,
    name: str,
    rows: list[dict[str, Any]],
    *,
    lr: float = 0.1,
    weights: str = "1",
    torch: str = "2.0",
    home: str = "",
    **slices: dict[str, Any],
) -> Path:
    """A finished run: RFT of its base (or its own), GRPO of its own, curves."""
    folder = results / name
    work = [
        {"stage": "rft", "folder": "rft/m", "home": home or name, "slice": "m/rft"},
        {"stage": "grpo", "folder": "grpo/m", "home": name, "slice": "m/grpo"},
    ]
    run = {"experiment": name, "base": "", "overrides": [], "seeds": [0], "work": work}
    optim = {"optim": {"lr": lr}, "betas": [0.9, 0.99]}
    frozen = {
        **{f"{size}/{stage}": {"model": {"name": size}, stage: optim}
           for size in SIZES for stage in ("rft", "grpo")},
        "run": run,
        **slices,
    }  # fmt: skip
    for slice_name, value in frozen.items():
        path = folder / f"config/{slice_name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(value))
    for stage in ("rft", "grpo"):
        with artifact.atomic_dir(folder / f"seed0/{stage}/m", stage=stage) as aside:
            (aside / "weights").write_text(weights if stage == "grpo" else "0")
        artifact.write_json(provenance.beside(folder / f"seed0/{stage}/m"), made(torch))
    artifact.write_csv(folder / "curves.csv", COLUMNS, rows)
    return folder


def test_a_run_and_its_copy_differ_in_nothing(tmp_path: Path) -> None:
    rows = [row(0.7)]
    a, b = make(tmp_path / "1", "t", rows), make(tmp_path / "2", "t", rows)
    found = compare(a, b)
    assert found.settings == () and found.circumstances == () and found.only == ((), ())
    assert found.tables_equal and found.work["different"] == ()
    said = "\n".join(text(found))
    assert "all slices are equal" in said and "curves.csv is the same file" in said


def test_a_key_is_named_once_with_all_its_slices(tmp_path: Path) -> None:
    a = make(tmp_path, "a", [row(0.7)])
    b = make(tmp_path, "b", [row(0.7)], lr=0.2, blind={"scaling": {"ks": [1]}})
    found = compare(a, b)
    by_key = {setting.key: setting for setting in found.settings}
    assert set(by_key) == {"grpo.optim.lr", "rft.optim.lr", "experiment"}
    assert (by_key["grpo.optim.lr"].a, by_key["grpo.optim.lr"].b) == (0.1, 0.2)
    assert by_key["grpo.optim.lr"].slices == ("m/grpo",)
    assert found.only == ((), ("blind",))
    said = "\n".join(text(found))
    assert "  rft.optim.lr: 0.1 → 0.2  [m/rft]" in said and "slices of b alone: blind" in said


def test_a_key_that_one_lacks_is_absent(tmp_path: Path) -> None:
    a = make(tmp_path, "a", [row(0.7)], curves={"scaling": {"ks": [1], "level": 0.9}})
    b = make(tmp_path, "b", [row(0.7)], curves={"scaling": {"ks": [1]}})
    (setting,) = [s for s in compare(a, b).settings if s.key == "scaling.level"]
    assert (setting.a, setting.b) == (0.9, "(absent)")


def test_work_by_content(tmp_path: Path) -> None:
    a = make(tmp_path, "a", [row(0.7)])
    b = make(tmp_path, "b", [row(0.7)], weights="2", home="a")
    c = make(tmp_path, "c", [row(0.7)])
    assert compare(a, b).work["shared"] == ("rft m seed 0",)
    assert compare(a, b).work["different"] == ("grpo m seed 0",)
    assert compare(a, c).work["equal"] == ("rft m seed 0", "grpo m seed 0")
    assert "made twice, equal content hashes (2): rft m" in "\n".join(text(compare(a, c)))


def test_versions(tmp_path: Path) -> None:
    a = make(tmp_path, "a", [row(0.7)], torch="2.0")
    b = make(tmp_path, "b", [row(0.7)], torch="2.1")
    (setting,) = compare(a, b).circumstances
    assert (setting.key, setting.a, setting.b) == ("packages.torch", "2.0", "2.1")


def test_results_are_matched_and_the_largest_comes_first(tmp_path: Path) -> None:
    greedy = {"method": "greedy", "k": 1, "k_meta": 1}
    rows_a = [row(0.7), row(0.5, k=1), row(0.6, **greedy), row(0.4, policy="base")]
    rows_b = [row(0.8), row(0.48, k=1), row(0.6, **greedy), row(0.3, size="s"), row(0.9, k=8)]
    found = compare(make(tmp_path, "a", rows_a), make(tmp_path, "b", rows_b))
    assert [round(100 * point.difference, 6) for point in found.points] == [10.0, -2.0, 0.0]
    assert found.unmatched == (1, 2)
    first = found.points[0]
    assert first.name == "toy_pairs  grpo/m voting@4" and first.apart
    assert not found.points[1].apart and not found.tables_equal
    lines = list(text(found))
    (line,) = [line for line in lines if "voting@4" in line]
    assert line.split() == [
        "+10.0", "toy_pairs", "grpo/m", "voting@4", "70.0", "(67.0–73.0)", "→", "80.0",
        "(77.0–83.0)", "intervals", "apart",
    ]  # fmt: skip
    assert "  3 rows of both, 1 of them equal; 1 of a alone, 2 of b alone" in lines
    assert sum("voting@" in line for line in text(found, 1)) == 1
    assert "  … 1 more (--all)" in list(text(found, 1))


def test_pooled_seeds_stand_for_a_run(tmp_path: Path) -> None:
    rows = [row(0.2), row(0.4, seed="1"), row(0.3, seed="all")]
    found = compare(make(tmp_path, "a", rows), make(tmp_path, "b", [row(0.35)]))
    (point,) = found.points
    assert point.difference == pytest.approx(0.05)


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_apart_is_symmetric_and_means_that_no_value_is_in_both(ends: tuple[float, ...]) -> None:
    (low, high), (lower, upper) = sorted(ends[:2]), sorted(ends[2:])
    one, other = (low, low, high), (lower, lower, upper)
    forth, back = (Point("x", *pair, (1, 1)) for pair in ((one, other), (other, one)))
    assert forth.apart == back.apart == (max(low, lower) > min(high, upper))
    assert forth.difference == -back.difference


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    whole = make(tmp_path, "a", [row(0.7)])
    with pytest.raises(ConfigError, match=r"gone is missing; name a finished run"):
        compare(whole, tmp_path / "gone")
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match=r"b has no curves\.csv yet; finish the run"):
        compare(whole, tmp_path / "b")
    (whole / "config/run.yaml").unlink()
    with pytest.raises(artifact.BrokenArtifact, match="run.yaml is missing; run Snakemake"):
        compare(whole, whole)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "a", [row(0.7)])
    make(tmp_path, "b", [row(0.8)])
    words = ["diff", "a", "b", "--results", str(tmp_path)]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("a → b\n\nSettings\n")
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["points"][0]["apart"] is True and told["runs"] == ["a", "b"]
    assert main(["diff", "a", "nothing", "--results", str(tmp_path)]) == 2
    assert "nothing is missing" in capsys.readouterr().err
