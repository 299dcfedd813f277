"""A classifier and an endpoint of anybody become rows beside ours, by a file of conf/model each."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint_world import served
from test_baselines import CHAT

from spct import config
from spct.baselines import score
from spct.config import Slice
from spct.metarm import model as scalar
from spct.records import Item, write_items
from spct.runs import Node, Runs
from spct.sampling import stages
from spct.scaling import curves

CLASSIFIER = (
    "name: my_rm\nsource: {source}\nrevision: null\ndtype: float32\ntrust_remote_code: false\n"
)
ENDPOINT = """# @package _global_
model:
  {{name: my_api, source: "endpoint:any", revision: null, dtype: float32, trust_remote_code: false}}
sampler: {{engine: openai, part_samples: 256, openai: {{base_url: "{url}", concurrency: 2}}}}
"""
ASKED = [
    "plan.main=toy_s", "plan.policies=[base]", "plan.metarm=''", "plan.guided=[]",
    "plan.sizes=[my_api]", "plan.reward_models=[my_rm]", "bench.k_max=2", "scaling.ks=[1,2]",
    "scaling.bootstrap=20", "scaling.max_repeats=1.0", "sampler.max_new_tokens=30",
]  # fmt: skip


@pytest.fixture
def trained(slice_of: Callable[..., Slice], tmp_path: Path) -> Path:
    """A classifier as TRL's RewardTrainer leaves it, at random weights."""
    rm = scalar.load(slice_of("baseline").model)
    torch.manual_seed(0)
    torch.nn.init.normal_(rm.model.score.weight)
    rm.text.tokenizer.chat_template = CHAT
    rm.model.save_pretrained(tmp_path / "rm")
    rm.text.tokenizer.save_pretrained(tmp_path / "rm")
    return tmp_path / "rm"


def test_both_are_rows_by_config_alone(
    trained: Path, make_items: Callable[..., list[Item]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(config.conf_dir(), tmp_path / "conf")
    models, items = tmp_path / "conf" / "model", tmp_path / "items.parquet"
    (models / "my_rm.yaml").write_text(CLASSIFIER.format(source=trained))
    write_items(items, make_items("pair", 6), seed=0)
    monkeypatch.setenv("SPCT_CONF", str(tmp_path / "conf"))
    with served() as server:
        (models / "my_api.yaml").write_text(ENDPOINT.format(url=server.url))
        runs = Runs("tiny", ASKED)
        (run,) = runs.targets
        made: dict[str, list[Path]] = {"banks": [], "scores": []}
        for node in [*runs.judged(run), *runs.scored(run)]:
            cfg, out = frozen(runs, run, node, tmp_path), tmp_path / runs.at(run, 0, node)
            if node.stage == "judge":
                made["banks"].append(out / "0.parquet")
                stages.judge(
                    cfg, 0, items=items, shard=0, policy=node.policy, out=made["banks"][-1]
                )
            else:
                made["scores"].append(out / "scores.parquet")
                score.run(cfg, 0, items=items, name=node.policy, out=made["scores"][-1])
    rows = {
        (row["policy"], row["size"], row["method"]): row
        for row in drawn(runs, run, items, made, tmp_path)
    }
    for key in (
        ("base", "toy_s", "voting"),
        ("base", "my_api", "voting"),
        ("rm", "my_rm", "scalar"),
    ):
        assert 0 <= float(rows[key]["accuracy"]) <= 1 and rows[key]["items"] == "6", key
    assert rows["base", "my_api", "voting"]["flops"] == "" != rows["rm", "my_rm", "scalar"]["flops"]


def frozen(runs: Runs, run: str, node: Node, root: Path) -> Slice:
    path = root / "slice.yaml"
    path.write_text(runs.frozen(run, f"{node.size}/{node.stage}"))
    return Slice.read(path, node.stage)


def drawn(runs: Runs, run: str, items: Path, made: dict[str, list[Path]], root: Path) -> list[Any]:
    path = root / "slice.yaml"
    path.write_text(runs.frozen(run, "curves"))
    names = ("out", "out_comparisons", "out_surface", "out_official")
    files: dict[str, Any] = {name: root / f"{name}.csv" for name in names}
    curves.run(Slice.read(path, "curves"), 0, items=[items], run=run, **made, **files)
    with files["out"].open() as handle:
        return [row for row in csv.DictReader(handle) if row["k"] in ("1", "2")]
