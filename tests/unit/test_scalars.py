"""Rows of models that score without writing: accuracy, ROC-AUC, or the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_curves import make_items, make_run, measure, pick

from spct.artifact import read_manifest
from spct.baselines import rows
from spct.baselines.rows import ONE_RESPONSE, TOO_LONG, Scored
from spct.config import ConfigError
from spct.errors import BankError
from spct.metarm.auc import auc
from spct.runs import Node, Runs
from spct.scaling.scalars import Points, note

Outcome = tuple[list[dict[str, str]], list[dict[str, str]]]


def scores(pairwise: bool, seed: int = 0) -> list[Scored]:
    """Right on every other item of several responses; a tie on each third pair."""
    draw, found = np.random.default_rng(5), []
    for at, item in enumerate(make_items(seed)):
        if item.n == 1:
            lean = float(item.label.value[0]) + draw.normal()
            row = (
                Scored(item.id, None, ONE_RESPONSE) if pairwise else Scored(item.id, [lean], "", 9)
            )
        else:
            best = item.label.value if at % 2 == 0 else (item.label.value + 1) % item.n
            values = [float(i == best) - 2.5 for i in range(item.n)]
            row = Scored(item.id, [0.5] * 2 if item.n == 2 and at % 3 == 0 else values, "", 10)
        found.append(row)
    return found


def twice_read(found: list[Scored]) -> list[Scored]:
    return [replace(row, sample=sample) for row in found for sample in range(2)]


def write(
    root: Path, name: str, found: list[Scored], *, seed: int = 0, size: str = "m",
    method: str = rows.SCALAR,
) -> Path:  # fmt: skip
    path = root / f"{name}-{method}-{size}-{seed}.parquet"
    rows.write(path, found, method=method, seed=seed, policy=name, size=size, params=1000)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Outcome]:
    root = tmp_path_factory.mktemp("run")
    paths = make_run(root)
    tables = [
        write(root, "btrm", scores(False)),
        write(root, "pairrm", scores(True)),
        write(root, "rm", scores(False), size="other"),
    ]
    paths["scores"] = tables
    return root, paths, measure(root, paths)


def test_accuracy_and_ties_are_those_of_one_vote(run: Any) -> None:
    _, _, (found, _) = run
    (pairs,) = pick(found, policy="btrm", benchmark="toy_pairs", subset="all")
    expected = [0.5 if at % 3 == 0 else float(at % 2 == 0) for at in range(30)]
    assert float(pairs["accuracy"]) == pytest.approx(np.mean(expected))
    assert float(pairs["tie_rate"]) == pytest.approx(10 / 30)
    assert float(pairs["low"]) < float(pairs["accuracy"]) < float(pairs["high"])
    assert (pairs["method"], pairs["k"], pairs["metric"]) == ("scalar", "1", "accuracy")
    assert float(pairs["tokens"]) == 0 and float(pairs["flops"]) == 2 * 1000 * 10
    (four,) = pick(found, policy="pairrm", benchmark="toy_best_of_4", subset="all")
    assert float(four["accuracy"]) == 0.5 and four["note"] == ""


def test_one_response_has_a_roc_auc_or_a_reason(run: Any) -> None:
    _, _, (found, _) = run
    (single,) = pick(found, policy="btrm", benchmark="toy_single")
    items = [item for item in make_items(0) if item.n == 1]
    signal = {row.item_id: row.scores for row in scores(False)}
    expected = auc([signal[i.id][0] for i in items], [i.label.value[0] for i in items])  # type: ignore[index]
    assert single["metric"] == "roc_auc" and float(single["accuracy"]) == pytest.approx(expected)
    assert float(single["low"]) < expected < float(single["high"])
    (refused,) = pick(found, policy="pairrm", benchmark="toy_single")
    assert refused["note"] == f"30 of 30: {ONE_RESPONSE}" and refused["items"] == "0"
    assert refused["accuracy"] == refused["low"] == refused["metric"] == refused["flops"] == ""


def test_votes_are_compared_with_baselines_of_one_metric_alone(run: Any) -> None:
    _, _, (found, pairs) = run
    for other, size in (("btrm", "m"), ("pairrm", "m"), ("rm", "other")):
        here = [row for row in pairs if row["b"] == f"{other}/{size} scalar@1"]
        assert {row["a"] for row in here} == {"grpo/m voting@8", "grpo/m meta_voting@8"}
        assert {row["benchmark"] for row in here} == {"toy_pairs", "toy_best_of_4"}
    (gap,) = pick(pairs, name="grpo plain @8 - btrm, m", benchmark="toy_pairs", subset="all")
    at = {"benchmark": "toy_pairs", "subset": "all"}
    (ours,) = pick(found, policy="grpo", method="voting", k="8", **at)
    (theirs,) = pick(found, policy="btrm", **at)
    assert float(gap["difference"]) == pytest.approx(
        float(ours["accuracy"]) - float(theirs["accuracy"]), abs=1e-5
    )
    assert float(gap["low"]) < float(gap["difference"]) < float(gap["high"])


def test_the_table_names_the_scores_behind_it(run: Any) -> None:
    root, paths, _ = run
    told = read_manifest(root / "curves.csv")["sources"]["scores"]
    assert {(entry["policy"], entry["path"]) for entry in told} == {
        (path.name.partition("-")[0], str(path)) for path in paths["scores"]
    }


def test_some_items_refused_leave_the_rest_and_no_paired_difference(
    run: Any, tmp_path: Path
) -> None:
    _, paths, _ = run
    some = scores(False)
    some[0] = replace(some[0], scores=None, refused=TOO_LONG)
    found, pairs = measure(tmp_path, {**paths, "scores": [write(tmp_path, "btrm", some)]})
    (row,) = pick(found, policy="btrm", benchmark="toy_pairs", subset="all")
    assert row["items"] == "29" and row["note"] == f"1 of 30: {TOO_LONG}"
    compared = {(r["benchmark"], r["subset"]) for r in pairs if r["b"].startswith("btrm")}
    assert compared == {("toy_pairs", "easy"), ("toy_best_of_4", "all")}


# ---- means over samples --------------------------------------------------------------------------

N = 6


def critiqued(seed: int = 0, *, pairwise: bool = False) -> list[Scored]:
    """Six noisy scalars a response; of item 0 the samples 1 and 4 cannot be read, of item 1 none
    can."""
    draw, found = np.random.default_rng(11), []
    for at, item in enumerate(make_items(seed)):
        for sample in range(N):
            values = draw.normal(size=item.n)
            best = int(item.label.value) if item.n > 1 else 0
            values[best] += 0.6 * (item.n > 1 or float(item.label.value[0]))
            gone = (at == 0 and sample in (1, 4)) or at == 1
            gone = gone or (pairwise and item.n != 2)
            found.append(
                Scored(
                    item.id,
                    None if gone else values.tolist(),
                    "unread" if gone else "",
                    tokens=7,
                    sample=sample,
                    prompt_tokens=100,
                    completion_tokens=10 + sample,
                )
            )
    return found


@pytest.fixture(scope="module")
def means(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    _, paths, _ = run
    root = tmp_path_factory.mktemp("means")
    tables = [
        write(root, "cloud", critiqued(), method=rows.MEAN_SCALAR),
        write(root, "grpo", critiqued(pairwise=True), method=rows.TOKEN_PROB),
        write(root, "btrm", scores(False)),
    ]
    return measure(root, {**paths, "scores": tables})


def by_hand(n: int, k: int) -> list[float]:
    """The expected credit of the mean over every k-subset of the samples, item by item."""
    found: dict[str, list[Scored]] = {}
    for row in critiqued():
        found.setdefault(row.item_id, []).append(row)
    result = []
    for item in make_items(0):
        own = found[item.id]
        if item.n != n or all(row.scores is None for row in own):
            continue
        credits = []
        for chosen in combinations(own, k):
            read = [row.scores for row in chosen if row.scores is not None]
            totals = np.mean(read, axis=0) if read else np.zeros(n)
            top = totals == totals.max()
            credits.append(top[item.label.value] / top.sum())
        result.append(float(np.mean(credits)))
    return result


@pytest.mark.parametrize(("benchmark", "n"), [("toy_pairs", 2), ("toy_best_of_4", 4)])
def test_a_mean_of_k_is_the_expectation_over_all_k_subsets(
    means: Outcome, benchmark: str, n: int
) -> None:
    at = {"policy": "cloud", "method": "mean_scalar", "benchmark": benchmark, "subset": "all"}
    mine = pick(means[0], **at)
    assert [row["k"] for row in mine] == [row["k_meta"] for row in mine]
    assert [int(row["k"]) for row in mine] == [k for k in (1, 2, 4, 8) if k <= N]
    for row in mine:
        k = int(row["k"])
        assert float(row["accuracy"]) == pytest.approx(np.mean(by_hand(n, k)), abs=1e-6)
        assert float(row["low"]) < float(row["accuracy"]) < float(row["high"])
        assert row["metric"] == "accuracy" and float(row["mc_se"]) == 0
        assert float(row["tokens"]) == pytest.approx(k * 12.5)
        assert float(row["flops"]) == pytest.approx(2 * 1000 * (100 + k * (12.5 + 7)))


def test_unread_samples_are_left_out_and_told(means: Outcome) -> None:
    (row,) = pick(means[0], policy="cloud", benchmark="toy_pairs", subset="all", k="4")
    assert row["note"] == "1 of 30: unread" and row["items"] == "29"
    assert float(row["invalid_rate"]) == pytest.approx(2 / N / 29, rel=1e-4)


def test_a_choice_has_a_prompt_for_each_order(means: Outcome) -> None:
    at = {"policy": "grpo", "method": "token_prob", "benchmark": "toy_pairs", "subset": "all"}
    for row in pick(means[0], **at):
        k = int(row["k"])
        assert float(row["flops"]) == pytest.approx(2000 * (min(k, 2) * 100 + k * (12.5 + 7)))
    (four,) = pick(means[0], **{**at, "benchmark": "toy_best_of_4"}, k="1")
    assert four["items"] == "0" and four["note"].endswith("unread")


def test_means_have_the_roc_auc_of_single_responses(means: Outcome) -> None:
    singles = [item for item in make_items(0) if item.n == 1]
    values: dict[str, list[float]] = {item.id: [] for item in singles}
    for row in critiqued():
        if row.item_id in values and row.scores is not None:
            values[row.item_id].append(row.scores[0])
    right = [bool(item.label.value[0]) for item in singles]
    rounds = {k: (range(N) if k < N else range(1)) for k in (1, 2, 4)}
    for k, starts in rounds.items():
        draws = [
            auc([np.mean([values[i.id][(j + s) % N] for j in range(k)]) for i in singles], right)
            for s in starts
        ]
        (row,) = pick(means[0], policy="cloud", benchmark="toy_single", k=str(k))
        assert row["metric"] == "roc_auc"
        assert float(row["accuracy"]) == pytest.approx(np.mean(draws))


def test_votes_are_compared_with_the_most_critiques(means: Outcome) -> None:
    names = {row["name"] for row in means[1] if row["benchmark"] == "toy_pairs"}
    assert {
        "grpo plain @8 - btrm, m",
        "grpo plain @8 - cloud @4, m",
        "grpo plain @8 - grpo token_prob @4, m",
    } <= names
    assert not any("cloud @1" in name or "cloud @2" in name for name in names)


def test_tables_that_do_not_fit_are_refused(run: Any, tmp_path: Path) -> None:
    _, paths, _ = run
    good = scores(False)
    wrong = {
        "has no row": good[1:],
        "is not in": [*good, Scored("stray", [1.0])],
        "3 scores for 2 responses": [replace(good[0], scores=[1.0] * 3), *good[1:]],
        "has not the samples 0 to 1": [*good, replace(good[0], sample=1)],
        "2 samples of a model that is read once": twice_read(good),
    }
    for message, found in wrong.items():
        table = write(tmp_path, "btrm", found)
        with pytest.raises(BankError, match=message):
            measure(tmp_path, {**paths, "scores": [table]})
    twice = [write(tmp_path, "btrm", good), tmp_path / "again.parquet"]
    twice[1].write_bytes(twice[0].read_bytes())
    with pytest.raises(BankError, match="both hold"):
        measure(tmp_path, {**paths, "scores": twice})
    with pytest.raises(BankError, match="no items of seed 7"):
        measure(tmp_path, {**paths, "scores": [write(tmp_path, "btrm", good, seed=7)]})


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.booleans(), st.integers(0, 3)), min_size=1, max_size=9
    )
)
def test_the_auc_counts_items_by_their_weights(found: list[tuple[int, bool, int]]) -> None:
    """Against whole copies of the items; ties count half."""
    score, right = np.array([float(s) for s, _, _ in found]), np.array([r for _, r, _ in found])
    copies = [(s, r) for s, r, weight in found for _ in range(weight)]
    weights = np.array([[w for _, _, w in found], [1] * len(found)], dtype=float)
    values = Points(score[:, None], right).auc(weights)
    plain = auc([s for s, _ in copies], [r for _, r in copies])
    assert values[0] == pytest.approx(plain, nan_ok=True)
    assert values[1] == pytest.approx(auc(score.tolist(), right.tolist()), nan_ok=True)
    turned = np.arange(len(found))[::-1]
    again = Points(score[:, None], right).take(turned).auc(weights[:, ::-1])
    assert again == pytest.approx(values, nan_ok=True)


def test_a_note_counts_by_reason() -> None:
    assert note(["", "b", "a", "b"], 4) == "1 of 4: a; 2 of 4: b"
    assert note(["", ""], 2) == ""


# ---- in the workflow ---------------------------------------------------------------------------


def test_baselines_share_all_of_tiny() -> None:
    runs = Runs("tiny_baselines")
    assert {runs.home("tiny_baselines", node) for node in runs.work("tiny_baselines")} == {"tiny"}
    assert set(runs.work("tiny_baselines")) - set(runs.work("tiny")) == {
        Node(stage, "toy_m", name)
        for stage in ("baseline", "baseline_score") for name in ("btrm", "pairrm", "cloud")
    }  # fmt: skip
    lists = runs.collect("tiny_baselines")
    folder = "results/tiny/seed0"
    assert lists["scores"] == [
        f"{folder}/baseline_score/{name}-toy_m/scores.parquet"
        for name in ("btrm", "pairrm", "cloud")
    ]
    assert runs.baseline("tiny_baselines", 0, "btrm", "toy_m") == [f"{folder}/baseline/btrm-toy_m"]
    assert not Runs("tiny").collect("tiny")["scores"]


def test_baselines_learn_from_the_items_of_rl() -> None:
    runs = Runs("tiny_baselines", "plan.weak=toy_s")
    (run,) = runs.targets
    baseline = Node("baseline", "toy_m", "btrm")
    assert runs.upstream(run, baseline) == [Node("prepare"), Node("difficulty")]
    assert runs.home(run, baseline) == run.replace("tiny_baselines", "tiny")
    assert runs.upstream("tiny", baseline) == [Node("prepare")]


def test_a_trained_reward_model_is_scored_and_not_trained() -> None:
    runs = Runs("tiny", "plan.reward_models=[smollm2]")
    (run,) = runs.targets
    mine = [node for node in runs.work(run) if node.stage.startswith("baseline")]
    assert mine == [Node("baseline_score", "smollm2", "rm")]
    assert runs.baseline(run, 0, "rm", "smollm2") == []
    assert "smollm2" in runs.frozen(run, "smollm2/baseline_score")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan.baselines=[dpo]", "plan.baselines: 'dpo' is not one of btrm, pairrm"),
        ("baseline.dev_share=1", "baseline.dev_share"),
        ("baseline.micro_tokens=0", "baseline.micro_tokens"),
        ("plan.reward_models=[nowhere]", "nowhere"),
    ],
)
def test_mistakes_are_named(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Runs("tiny", words)


def test_an_llm_judge_is_a_chain_of_its_own_with_the_probabilities_of_its_choices() -> None:
    runs = Runs("tiny_llm_judge")
    homes = {runs.home("tiny_llm_judge", node) for node in runs.work("tiny_llm_judge")}
    assert homes == {"tiny_llm_judge"}
    mine = [node for node in runs.work("tiny_llm_judge") if node.stage == "token_prob"]
    assert mine == [Node("token_prob", "toy_m", name) for name in ("base", "rft", "grpo")]
    assert runs.upstream("tiny_llm_judge", mine[2]) == [Node("judge", "toy_m", "grpo")]
    assert runs.collect("tiny_llm_judge")["scores"] == [
        f"results/tiny_llm_judge/seed0/token_prob/{name}-toy_m/scores.parquet"
        for name in ("base", "rft", "grpo")
    ]
    assert not any(node.stage == "token_prob" for node in Runs("tiny").work("tiny"))
