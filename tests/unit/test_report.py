"""The figure and the page: everything on them, nothing unescaped, the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_world import CFG, make_run

from spct import artifact
from spct.report import build
from spct.report.headline import control_differences, headline_block
from spct.report.ledgers import place
from spct.report.tables import (
    adaptive_tables,
    estimated,
    health_table,
    official_tables,
    surface_tables,
)
from spct.scaling import comparisons, curves
from spct.scaling.labels import spread
from spct.scaling.lines import by_policy, by_size
from spct.scaling.plot import draw
from spct.scaling.table import main_size, read_rows, sizes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report; its tables lie two folders up."""
    root = tmp_path_factory.mktemp("report")
    build.run(CFG, 0, **make_run(root), run="t", out=root / "reports/t")
    return root / "reports/t"


def tables(built: Path) -> tuple[list[Any], list[Any]]:
    return read_rows(built / "../../curves.csv"), read_rows(built / "../../comparisons.csv")


def test_the_page_holds_what_a_reader_needs(built: Path) -> None:
    page = (built / "report.html").read_text()
    for text in (
        "2 seeds (0, 1)",
        "toy_pairs 40, toy_single 40",
        "90 % intervals over items",
        "GRPO m",
        "random half",
        "+3.1",
        "2/2",
        "<th>wrong</th><th>&lt;b&gt;easy&lt;/b&gt;</th>",
        "<tr><td>m</td><td>0</td><td>9</td><td>0</td><td>0.0</td><td>5</td><td>4</td></tr>",
        "auc 0.7125",
        "subsets: 10",
        "Guided votes of base against plain votes of GRPO, both at k = 4: -2.3 points",
        "meta − random half",
        "Samples without scores leave a vote",
        "± 3.0",
        "2.8",
        "<th>readable samples</th>",
        "<tr><td>GRPO</td><td>99.0</td>",
        "toy_pairs hard",
        "+66.6",
        "95 % sure",
        "at 45.0 % of tokens",
        "worst k_meta",
        "harmless_pair (partial)",
        "rmb: partial, 7 of 9",
        "health/health-grpo-m.html",
        "+8.5",
        '<td class="text">btrm m</td><td class="text">one scalar</td><td>1</td>'
        '<td title="40 items">76.5 <small>74.5–78.5</small></td>',
        '<td class="text">pairrm m</td><td class="text">one scalar</td><td>1</td>'
        '<td>–</td><td class="text">–</td><td>0</td>'
        '<td class="text">40 of 40: &lt;one&gt;</td>',
    ):
        assert text in page, text
    assert "can be read" not in page and "gain over readable votes" not in page
    assert page.count("<svg") == 3  # the curves, what was selected, the meta RM's training
    assert "Look here" in page and "select m, seed 0: nothing was kept of 9" in page
    assert {path.name for path in built.iterdir()} == {
        "scaling.svg", "scaling.png", "report.html", "health",
        "curves.csv", "comparisons.csv", "surface.csv", "official.csv", "health.csv",
    }  # fmt: skip
    assert {path.name for path in (built / "health").glob("*.html")} == {
        "health-base-m.html", "health-grpo-m.html",
    }  # fmt: skip


def test_official_tables(built: Path) -> None:
    (table,) = official_tables(read_rows(built / "../../official.csv"))
    (line,) = table["lines"]
    assert (line["name"], line["method"], line["k"]) == ("GRPO m", "voting", 4)
    assert table["sections"] == ["helpful_pair", "harmless_pair (partial)"]
    assert [cell["accuracy"] for cell in line["cells"]] == [0.612, 0.533]
    assert all(cell["seed"] == "all" for cell in line["cells"])


def test_surface_tables(built: Path) -> None:
    rows = read_rows(built / "../../surface.csv")
    (table,) = surface_tables(rows, "toy_pairs")
    assert (table["name"], table["k_metas"]) == ("GRPO m, toy_pairs", [1, 2, 4])
    assert [line["k"] for line in table["lines"]] == [1, 2, 4]
    one, two, half, worst = table["lines"][1]["cells"]
    assert [one["accuracy"], two["accuracy"], worst["accuracy"]] == pytest.approx(
        [0.621, 0.622, 0.62]
    )
    assert half is None and all(row["seed"] == "all" for row in (one, two, worst))
    assert surface_tables(rows, "toy_single") == []


def test_adaptive_tables(built: Path) -> None:
    table = adaptive_tables(tables(built)[0])
    assert table["rules"] == ["cannot flip", "95 % sure"]
    (line,) = table["lines"]
    assert (line["name"], line["whole"]["tokens"]) == ("toy_pairs, GRPO", 80.0)
    assert [row["share"] for row in line["cells"]] == pytest.approx([0.9, 0.45])


def test_estimated_names_the_error_of_drawn_subsets(built: Path) -> None:
    rows = tables(built)[0]
    assert {entry["benchmark"]: entry["error"] for entry in estimated(rows)} == {
        "toy_pairs": 0.002, "toy_single": 0.002,
    }  # fmt: skip
    exact = [row for row in rows if row["method"] in ("voting", "adaptive_flip")]
    assert {entry["error"] for entry in estimated(exact)} == {0.0}


def test_health_table(built: Path) -> None:
    table = health_table(read_rows(built / "../../health.csv"), "m")
    base, grpo = table["lines"]
    assert (base["judge"], grpo["judge"], grpo["benchmark"]) == ("base", "GRPO", "toy_pairs")
    assert grpo["ok"]["value"] == 0.97 and grpo["bias"]["seed"] == "all" and grpo["ece"] is None
    assert table["pages"][1] == ("GRPO m", "health-grpo-m.html")


def test_content_is_escaped_and_nothing_is_fetched(built: Path) -> None:
    page = (built / "report.html").read_text()
    assert "<b>easy</b>" not in page and "&lt;b&gt;easy" in page
    assert "Scaling &lt;of&gt; rewards" in page
    assert "src=" not in page and page.count("<script") == 1 and "built-in" not in page


def test_same_rows_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    rows, _ = tables(built)
    draw(rows, tmp_path / "a.svg", tmp_path / "a.png", level=0.9)
    assert (tmp_path / "a.svg").read_bytes() == (built / "scaling.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (built / "scaling.png").read_bytes()


def test_one_line_says_where_things_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.run(CFG, 0, **make_run(tmp_path, n_seeds=1), run="t", out=tmp_path / "r")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert all(text in out for text in ("scaling.png", "report.html", "mlflow"))
    assert "1 seed (0)" in (tmp_path / "r/report.html").read_text()


def test_what_is_missing_or_empty_is_said(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    gone = {**paths, "ledgers": [tmp_path / "gone.json"]}
    with pytest.raises(artifact.BrokenArtifact, match=r"gone\.json is missing"):
        build.run(CFG, 0, **gone, run="t", out=tmp_path / "r")
    with pytest.raises(artifact.BrokenArtifact, match="run the curves stage"):
        build.run(CFG, 0, **{**paths, "curves": tmp_path / "no.csv"}, run="t", out=tmp_path / "r")
    with pytest.raises(ValueError, match="no voting rows"):
        draw([], tmp_path / "a.svg", tmp_path / "a.png")


def test_curves_on_the_figure(built: Path) -> None:
    rows = [row for row in tables(built)[0] if row["seed"] == "all"]
    pairs = [row for row in rows if row["benchmark"] == "toy_pairs"]
    lines = by_policy(pairs)
    names = ["base", "RFT", "GRPO", "base + meta RM", "GRPO + meta RM"]
    assert [line.label for line in lines] == names
    colors = {line.label: line.color for line in lines}
    assert colors["base"] == colors["base + meta RM"] != colors["GRPO + meta RM"]
    assert [line.guided for line in lines] == [False] * 3 + [True] * 2
    assert [line.label for line in by_size(pairs)] == ["RFT s", "RFT m", "GRPO m"]
    everywhere = [*pairs, *[{**row, "size": "s"} for row in pairs if row["policy"] == "grpo"]]
    assert [line.label for line in by_size(everywhere)] == ["GRPO s", "GRPO m"]
    assert sizes(rows) == ["s", "m"]


def test_main_size(built: Path) -> None:
    """Guided votes decide; without any, policies, then samples, then the bigger model."""
    rows, _ = tables(built)
    twins = [{**row, "size": "s"} for row in rows if row["policy"] == "grpo"]
    sided = [row for row in [*rows, *twins] if row["size"] == "m" or row["method"] == "voting"]
    assert main_size(sided) == main_size(sided[::-1]) == "m"
    without = [row for row in rows if row["method"] == "voting"]
    assert main_size(without) == "m"
    tied = [row for row in without if row["policy"] != "grpo"]
    assert main_size(tied) == main_size(tied[::-1]) == "m"
    assert main_size([row for row in tied if row["size"] == "s" or row["k"] < 4]) == "s"
    assert main_size([]) == ""


def test_headline_block(built: Path) -> None:
    block = headline_block(*tables(built))
    assert (block["benchmark"], block["size"], block["few"], block["many"]) == (
        "toy_pairs", "m", 1, 4,
    )  # fmt: skip
    base, rft, grpo = block["lines"]
    assert grpo["few"]["accuracy"] == pytest.approx(0.69)
    assert grpo["many"]["accuracy"] == pytest.approx(0.78)
    assert grpo["gain"]["difference"] == pytest.approx(0.09)
    assert grpo["added"]["difference"] == pytest.approx(0.044)
    assert base["over_grpo"]["difference"] == pytest.approx(-0.023)
    assert rft["guided"] is rft["added"] is grpo["over_grpo"] is None


def test_control_differences(built: Path) -> None:
    table = control_differences(tables(built)[1])
    assert table["k"] == 4 and len(table["lines"]) == 1
    (line,) = table["lines"]
    assert (line["benchmark"], line["policy"]) == ("toy_pairs", "GRPO m")
    plain, margin, half = line["cells"]
    assert margin is None and half["difference"] == pytest.approx(0.057)
    assert plain["difference"] == pytest.approx(0.044)


def test_no_meta_rm_no_columns_for_it(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    plain = [row for row in read_rows(paths["curves"]) if row["method"] in ("voting", "greedy")]
    artifact.write_csv(paths["curves"], curves.COLUMNS, plain)
    artifact.write_csv(paths["comparisons"], comparisons.COLUMNS, [])
    build.run(CFG, 0, **paths, run="t", out=tmp_path / "r")
    page = (tmp_path / "r/report.html").read_text()
    assert "gain from voting" in page and "meta RM" not in page


def test_tables_that_differ_from_their_manifest(tmp_path: Path) -> None:
    curves_csv = make_run(tmp_path)["curves"]
    curves_csv.write_text(curves_csv.read_text().replace("0.57", "0.97"))
    message = r"curves\.csv differs from its manifest.*delete .*curves\.csv and run the curves"
    with pytest.raises(artifact.BrokenArtifact, match=message):
        read_rows(curves_csv)
    curves_csv.with_name("curves.csv.manifest.json").unlink()
    with pytest.raises(artifact.BrokenArtifact, match=r"curves\.csv\.manifest\.json is missing"):
        read_rows(curves_csv)


def test_place_of_files() -> None:
    at = place(Path("results/t/seed3/judge/grpo-toy_m/0.parquet"))
    assert at == {"stage": "judge", "slot": "grpo-toy_m", "seed": "3"}
    assert place(Path("results/t/seed3/data/ledger.json"))["stage"] == "prepare"
    assert json.dumps(place(Path("elsewhere.json")))


def test_labels_are_moved_apart() -> None:
    assert spread([0.5, 0.9], 0.1) == [0.5, 0.9]
    assert spread([0.5, 0.5, 0.52], 0.1) == pytest.approx([0.40667, 0.50667, 0.60667], abs=1e-4)
    assert spread([], 0.1) == []
