"""Names from data as names of MLflow: taken, each its own, and readable back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from test_tracking import RUN, make_results, mirror, runs_of

from spct import artifact
from spct.mirror_curves import view
from spct.mirror_run import NAME_LENGTH, Mirror, original, safe
from spct.scaling.curves import COLUMNS
from spct.tracking import NAMES, MetricsLog, _push

ODD = (
    "math/",
    "code//python",
    "./tools",
    "C++",
    "C##",
    "..",
    "a/../b",
    "/",
    "",
    " x ",
    "a:b",
    "é%$",
)
# Many short names of the characters that matter, and any text at all.
TEXTS = st.text(alphabet="ab_x2BhFé./ :+#\n\\", max_size=12) | st.text(max_size=300)


def taken(name: str) -> None:
    validation._validate_metric_name(name)
    validation._validate_param_name(name)
    validation._validate_tag_name(name)
    validation._validate_length_limit("name", validation.MAX_ENTITY_KEY_LENGTH, name)


@given(TEXTS)
def test_every_name_is_taken_and_leads_back(name: str) -> None:
    shown = safe(name)
    taken(shown)
    if len(shown) < NAME_LENGTH - 20 or len(name) < 20:
        assert original(shown) == name


@given(TEXTS, TEXTS)
def test_two_names_stay_two(one: str, other: str) -> None:
    assert (safe(one) == safe(other)) == (one == other)


@given(TEXTS)
def test_a_name_never_takes_the_place_of_another(name: str) -> None:
    """Not even if it is written like the escape of one, or like one that was cut."""
    for one in (name, name + "d" * 300):
        shown = safe(one)
        assert shown == one or safe(shown) != shown


def test_ordinary_names_stay() -> None:
    for name in ("chat", "Chat Hard", "math/algebra", "code-x86", "grpo.lr", "max_xl", "数学"):
        assert safe(f"reward/{name}") == f"reward/{name}"


def test_names_by_hand() -> None:
    assert [safe(f"reward/{name}") for name in ODD[:5]] == [
        "reward/math_x2F_",
        "reward/code/_x2F_python",
        "reward/_x2E_/tools",
        "reward/C_x2B__x2B_",
        "reward/C_x23__x23_",
    ]


def test_a_long_name_is_cut_and_says_so() -> None:
    one, other = (safe(f"reward/{'d' * 300}{end}") for end in ("", "x"))
    assert one != other and len(one) <= NAME_LENGTH and one.startswith("reward/ddd")
    with pytest.raises(ValueError, match=r"names\.json"):
        original(one)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run whose domains and benchmarks have names of every kind, mirrored into real MLflow."""
    root = tmp_path_factory.mktemp("names")
    make_results(root)
    folder = root / "results" / RUN
    with artifact.atomic_dir(folder / "seed0/grpo/m", stage="grpo") as model:
        log = MetricsLog(model / "metrics.jsonl")
        domains = [*ODD, "d" * 400, "d" * 401]
        log.write(0, {f"reward/{name}": i for i, name in enumerate(domains)})
        alarms = [{"step": 0, "domain": name, "text": "fell"} for name in ("e" * 9000, "C++")]
        artifact.write_text(model / "alarms.jsonl", "".join(json.dumps(a) + "\n" for a in alarms))
    rows = []
    for name in ("toy_pairs", "C++", "C##", "math/"):
        row = dict.fromkeys(COLUMNS, 0.0) | {"run": RUN, "seed": "0", "policy": "grpo"}
        row |= {"size": "m", "benchmark": name, "subset": "all", "method": "voting"}
        rows.append(row | {"k": 1, "k_meta": 1, "items": 5, "accuracy": 0.5 + len(rows) / 10})
    artifact.write_csv(folder / "curves.csv", COLUMNS, rows)
    (folder / "config/rollout.yaml").write_text("data: {benchmarks: {C++: 3, 'C##': 4}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        yield root, mirror(root), domains


def test_every_domain_is_mirrored_under_its_own_name(tracker: Any) -> None:
    root, told, domains = tracker
    assert told["synced"], told
    run = runs_of(root)["grpo m seed 0"]
    for value, name in enumerate(domains):
        assert run.data.metrics[safe(f"reward/{name}")] == value
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    names = json.loads(Path(client.download_artifacts(run.info.run_id, NAMES)).read_text())
    assert names[safe(f"reward/{'d' * 400}")] == f"reward/{'d' * 400}"
    assert names["reward/C_x2B__x2B_"] == "reward/C++" and "reward/a:b" in names.values()


def test_benchmarks_and_parameters_too(tracker: Any) -> None:
    root, _, _ = tracker
    found = runs_of(root)
    metrics = found[f"{RUN}: GRPO m"].data.metrics
    shown = {original(name): value for name, value in metrics.items() if name[:8] == "accuracy"}
    assert shown == {
        "accuracy/toy_pairs/voting": 0.5,
        "accuracy/C++/voting": 0.6,
        "accuracy/C##/voting": 0.7,
        "accuracy/math//voting": 0.8,
    }
    params = {original(name): value for name, value in found[RUN].data.params.items()}
    assert (params["data.benchmarks.C++"], params["data.benchmarks.C##"]) == ("3", "4")
    charts = json.loads(view(root / "results" / RUN))["compareRunCharts"]
    drawn = {key for chart in charts for key in chart["selectedMetricKeys"]}
    assert drawn <= metrics.keys() and len(drawn) == 4


def test_a_run_of_ordinary_names_has_no_table_of_names(tracker: Any) -> None:
    root, _, _ = tracker
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    with pytest.raises((MlflowException, OSError)):
        client.download_artifacts(runs_of(root)["select m seed 0"].info.run_id, NAMES)


def test_a_second_sync_leaves_them_alone(tracker: Any) -> None:
    root, told, _ = tracker
    assert mirror(root)["written"] == 0
    assert told["written"] > 0


def test_a_run_with_a_quote_in_its_name_is_mirrored_once(tmp_path: Path) -> None:
    """Its tag was asked for without the quote, so that every sync wrote it anew."""
    where = f"sqlite:///{tmp_path}/mlflow.db", "spct"
    for run in ("r'q", "r_q"):
        one = Mirror(key=f"{run}/k", name=run, content="c", time_ms=1, tags={})
        assert [_push(run, one, [], "", *where)["written"] for _ in range(2)] == [1, 0]
