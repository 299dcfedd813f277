from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spct import artifact, lm
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.judge.task import Judge, Task, tasks
from spct.records import Item, Sample, read_bank, write_bank, write_items
from spct.sampling import base, stages
from spct.sampling.base import Completion, Request
from spct.sampling.fill import fill, roll_out
from spct.sampling.limits import prompt_limit
from spct.sampling.native import NativeSampler
from spct.schema import OpenAIConfig, SamplerConfig


class Filler:
    """Fills one bank, counting the requests that reach the sampler."""

    def __init__(self, model: lm.LM, judge: Judge, config: SamplerConfig, items: list[Item]):
        self.model, self.judge, self.config, self.items = model, judge, config, items
        self.requests = 0
        self.calls_left = 10**6
        self.failure: type[BaseException] = KeyboardInterrupt

    def make(self, item: Item) -> list[Task]:
        return tasks(self.judge, item, "sample", 3, seed=9, temperature=1.0)

    def __call__(self, out: Path, **identity: Any) -> str:
        fill(
            out, self.model, self.config, self.judge, self.items, self.make,
            name="t", stage_seed=9, temperature=1.0, identity={"seed": 9, **identity},
            policy="base",
        )  # fmt: skip
        return artifact.content_hash(out)


@pytest.fixture
def filler(
    talker: lm.LM, judge: Judge, items: list[Item], sampler_config: SamplerConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> Filler:  # fmt: skip
    filler = Filler(
        talker, judge, replace(sampler_config, max_new_tokens=10, part_samples=6), items
    )
    plain = NativeSampler.sample

    def counted(self: NativeSampler, requests: list) -> list:
        if filler.calls_left == 0:
            raise filler.failure
        filler.calls_left -= 1
        filler.requests += len(requests)
        return plain(self, requests)

    monkeypatch.setattr(NativeSampler, "sample", counted)
    return filler


def test_rows_are_whole_and_in_order(filler: Filler, tmp_path: Path) -> None:
    out = tmp_path / "0.parquet"
    filler(out)
    rows = list(read_bank(out))
    assert [row.key for row in rows] == [
        (i.id, "sample", s) for i in filler.items for s in range(3)
    ]
    assert {row.model for row in rows} == {filler.model.hash}
    assert sum(row.outcome == "ok" for row in rows) > len(rows) / 3
    for row in rows:
        assert (row.scores is not None) == (row.outcome == "ok")
        assert row.completion_tokens == len(filler.model.tokenizer.encode(row.text)) + (
            row.finish == "stop"
        )
    manifest = artifact.read_manifest(out)
    assert (manifest["policy"], manifest["params"]) == ("base", filler.model.params)
    assert manifest["template"] == filler.judge.template.hash
    assert not (tmp_path / "0.parquet.parts").exists()
    timing = json.loads((tmp_path / "0.parquet.timing.json").read_text())
    assert timing["samples"] == 21
    assert timing["completion_tokens"] == sum(row.completion_tokens for row in rows)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_broken_off_shard_goes_on_where_it_stood(
    filler: Filler, tmp_path: Path, failure: type[BaseException]
) -> None:
    undisturbed = filler(tmp_path / "whole.parquet")
    out = tmp_path / "0.parquet"
    filler.requests, filler.calls_left, filler.failure = 0, 2, failure
    with pytest.raises(failure):
        filler(out)
    assert filler.requests == 12 and not out.exists()
    filler.calls_left = 10**6
    assert filler(out) == undisturbed
    assert filler.requests == 21


@pytest.mark.parametrize("change", ["identity", "model", "template"])
def test_parts_of_other_work_are_thrown_away(filler: Filler, tmp_path: Path, change: str) -> None:
    out = tmp_path / "0.parquet"
    filler.calls_left = 2
    with pytest.raises(KeyboardInterrupt):
        filler(out)
    filler.requests, filler.calls_left = 0, 10**6
    if change == "model":
        filler.model.hash = "another"
    if change == "template":
        template = replace(filler.judge.template, hash="another")
        filler.judge = replace(filler.judge, template=template)
    filler(out, **({"limit": 5} if change == "identity" else {}))
    assert filler.requests == 21


def test_the_size_of_parts_and_batches_changes_no_text(
    filler: Filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(out: Path) -> list[tuple]:
        return [(r.key, r.seed, r.order, r.text, r.scores) for r in read_bank(out)]

    filler(tmp_path / "a.parquet")
    filler.config = replace(filler.config, batch_size=3, part_samples=1000)
    filler(tmp_path / "b.parquet")
    assert facts(tmp_path / "a.parquet") == facts(tmp_path / "b.parquet")


def test_a_shard_without_items_is_an_empty_bank(filler: Filler, tmp_path: Path) -> None:
    filler.items = []
    filler(tmp_path / "0.parquet")
    assert list(read_bank(tmp_path / "0.parquet")) == []


def test_long_prompts_become_rows_among_the_others(filler: Filler) -> None:
    config = replace(filler.config, max_prompt_tokens=24)
    wanted = [task for item in filler.items for task in filler.make(item)]
    sampler = NativeSampler(filler.model, config)
    rollouts = roll_out(filler.model, sampler, config, filler.judge, wanted)
    assert [r.task for r in rollouts] == wanted
    long = [r for r in rollouts if len(r.prompt) > 24]
    assert 0 < len(long) < len(rollouts)
    for rollout in rollouts:
        assert rollout.row.prompt_tokens == len(rollout.prompt)
        assert (rollout.completion is None) == (rollout.row.outcome == "prompt_too_long")
        assert (rollout.completion is None) == (rollout in long)
    whole = roll_out(filler.model, sampler, filler.config, filler.judge, wanted)
    for one, two in zip(rollouts, whole, strict=True):
        assert one.completion is None or one.row.text == two.row.text


@pytest.mark.parametrize(("context", "limit"), [(None, 128), (70, 46), (1000, 128)])
def test_the_limit_of_a_prompt(
    talker: lm.LM, sampler_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch,
    context: int | None, limit: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(lm.LM, "context", context)
    assert prompt_limit(talker, sampler_config) == limit
    monkeypatch.setattr(lm.LM, "context", 24)
    with pytest.raises(ConfigError, match=r"sampler\.max_new_tokens: 24 leave no room .* of 24"):
        prompt_limit(talker, sampler_config)


def test_a_short_context_is_told_before_anything_is_sampled(
    filler: Filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(lm.LM, "context", 38)  # 28 for the prompt: singles and some pairs fit
    filler.judge = replace(filler.judge, config=replace(filler.judge.config, max_too_long=0.9))
    said: list[str] = []
    plain = NativeSampler.sample

    def sample(self: NativeSampler, requests: list) -> list:
        said.append(capsys.readouterr().err)
        return plain(self, requests)

    monkeypatch.setattr(NativeSampler, "sample", sample)
    filler(tmp_path / "0.parquet")
    rows = list(read_bank(tmp_path / "0.parquet"))
    long = [row for row in rows if row.outcome == "prompt_too_long"]
    names = list(dict.fromkeys(row.item_id for row in long))
    assert 0 < len(long) < len(rows) and min(row.prompt_tokens for row in long) > 28
    assert max(row.prompt_tokens for row in rows if row not in long) <= 28
    assert f"t: {len(long)} of 21 prompts, of {len(names)} items, exceed 28 tokens" in said[0]
    assert f"become prompt_too_long: {', '.join(names[:5])}" in said[0]
    assert filler.requests == len(rows) - len(long)


# ---- an engine that fails ----------------------------------------------------------------------


class Moody:
    """Fails the requests of some seeds, in the place of the native engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bad: set[int] = set()
        self.asked: list[int] = []
        plain = NativeSampler.sample

        def sample(sampler: NativeSampler, requests: list[Request]) -> list[Completion]:
            self.asked += [request.seed for request in requests]
            done = plain(sampler, requests)
            lost = Completion((), (), "error", error="out of luck")
            pairs = zip(requests, done, strict=True)
            return [lost if request.seed in self.bad else one for request, one in pairs]

        monkeypatch.setattr(NativeSampler, "sample", sample)


@pytest.fixture
def moody(filler: Filler, monkeypatch: pytest.MonkeyPatch) -> Moody:
    return Moody(monkeypatch)


def test_samples_that_an_engine_failed_are_asked_for_again_alone(
    filler: Filler, moody: Moody, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = filler(tmp_path / "whole.parquet")
    every = list(moody.asked)
    moody.bad = {every[2], every[11]}
    out = tmp_path / "0.parquet"
    for asked in (every, [every[2], every[11]]):
        moody.asked.clear()
        with pytest.raises(StageStopped, match=r"t: the engine failed 2 of 21 samples \(pair-0 sa"):
            filler(out)
        assert moody.asked == asked
    parts = [list(read_bank(path)) for path in sorted(Path(f"{out}.parts").glob("*.parquet"))]
    failed = [row for row in sum(parts, []) if row.outcome == "engine_error"]
    assert [row.seed for row in failed] == [every[2], every[11]] and not out.exists()
    moody.bad.clear()
    moody.asked.clear()
    assert filler(out) == undisturbed
    assert moody.asked == [every[2], every[11]]
    assert capsys.readouterr().err.count("stands") == 4  # two of four parts, in both reruns


def test_a_share_of_failures_may_stay(filler: Filler, moody: Moody, tmp_path: Path) -> None:
    filler(tmp_path / "whole.parquet")
    moody.bad = set(moody.asked[:4])
    filler.config = replace(filler.config, max_errors=4 / 21 - 1e-9)
    with pytest.raises(StageStopped, match="4 of 21"):
        filler(tmp_path / "0.parquet")
    filler.config = replace(filler.config, max_errors=4 / 21)
    filler(tmp_path / "0.parquet")
    rows = list(read_bank(tmp_path / "0.parquet"))
    assert [row.outcome for row in rows].count("engine_error") == 4 and len(rows) == 21


@pytest.mark.parametrize(("down", "asked"), [(21, 18), (6, 21)])
def test_an_engine_that_is_down_is_left_alone(
    filler: Filler, moody: Moody, tmp_path: Path, down: int, asked: int
) -> None:
    """Three whole parts of six in a row are enough; one failed part among good ones is not."""
    filler(tmp_path / "whole.parquet")
    moody.bad = set(moody.asked[:down])
    moody.asked.clear()
    with pytest.raises(StageStopped, match="the engine failed"):
        filler(tmp_path / "0.parquet")
    assert len(moody.asked) == asked


def test_a_part_of_other_rows_is_named(filler: Filler, tmp_path: Path) -> None:
    out = tmp_path / "0.parquet"
    filler.calls_left = 1
    with pytest.raises(KeyboardInterrupt):
        filler(out)
    part = Path(f"{out}.parts/0.parquet")
    rows = list(read_bank(part))
    write_bank(part, [*rows[:-1], replace(rows[-1], sample=9, outcome="engine_error")])
    filler.calls_left = 10**6
    with pytest.raises(artifact.BrokenArtifact, match=r"0\.parquet holds other rows than its part"):
        filler(out)


def test_patience_budget_and_errors_let_pass_are_no_part_of_what_is_wanted(
    sampler_config: SamplerConfig,
) -> None:
    wanted = base.wanted(sampler_config)
    calm = OpenAIConfig(key_env="K", concurrency=9, timeout=1, max_retries=0, backoff=9, budget=9)
    assert base.wanted(replace(sampler_config, max_errors=0.5, openai=calm)) == wanted
    for change in ({"api": "completions"}, {"extra": {"top_k": 1}}, {"logprobs": True}):
        other = replace(sampler_config, openai=OpenAIConfig(**change))
        assert base.wanted(other) != wanted
    assert base.wanted(replace(sampler_config, top_p=0.5)) != wanted


# ---- stages ------------------------------------------------------------------------------------


@pytest.fixture
def items_file(items: list[Item], tmp_path: Path) -> Path:
    write_items(tmp_path / "items.parquet", items)
    return tmp_path / "items.parquet"


def kinds(rows: list[Sample], item: str) -> list[tuple[str, int]]:
    return [(row.kind, row.sample) for row in rows if row.item_id == item]


def test_rollout_hints_where_there_is_a_best(
    slice_of: Callable[..., Slice], items_file: Path, tmp_path: Path
) -> None:
    cfg = slice_of("rollout", "rollout.n_rft=2", "rollout.shards=2")
    outs = [tmp_path / f"{shard}.parquet" for shard in (0, 1)]
    for shard, out in enumerate(outs):
        stages.rollout(cfg, 3, items=items_file, shard=shard, out=out)
    rows = list(read_bank(outs))
    assert kinds(rows, "pair-0") == [("sample", 0), ("sample", 1), ("hinted", 0)]
    assert kinds(rows, "best_of_4-1") == [("sample", 0), ("sample", 1), ("hinted", 0)]
    assert kinds(rows, "single-1") == [("sample", 0), ("sample", 1)]
    hinted = [row.prompt_tokens for row in rows if row.kind == "hinted"]
    plain = [row.prompt_tokens for row in rows if row.kind == "sample" and row.sample == 0]
    assert hinted == [tokens + 2 for tokens in plain[:5]]
    manifest = artifact.read_manifest(outs[0])
    assert {k: manifest[k] for k in ("stage", "policy", "size", "seed", "engine")} == {
        "stage": "rollout", "policy": "base", "size": "toy_s", "seed": 3, "engine": "native",
    }  # fmt: skip


def test_judge_samples_and_greedy(
    slice_of: Callable[..., Slice], items_file: Path, talker_folder: Path, tmp_path: Path
) -> None:
    cfg = slice_of("judge", "bench.k_max=3", "bench.shards=1")
    for name, init, seed in (("a", "", 3), ("b", str(talker_folder), 3), ("c", "", 4)):
        out = tmp_path / f"{name}.parquet"
        stages.judge(cfg, seed, items=items_file, shard=0, policy="base", out=out, init=init)
    a, b, c = (list(read_bank(tmp_path / f"{name}.parquet")) for name in "abc")
    assert kinds(a, "pair-0") == [("sample", 0), ("sample", 1), ("sample", 2), ("greedy", 0)]
    assert a == b
    assert [row.text for row in a] != [row.text for row in c]


def judged(
    slice_of: Callable[..., Slice], items_file: Path, out: Path, *overrides: str
) -> tuple[list[Sample], dict[str, Any]]:
    cfg = slice_of("judge", "bench.k_max=4", "bench.shards=1", "bench.greedy=false", *overrides)
    stages.judge(cfg, 3, items=items_file, shard=0, policy="base", out=out)
    return list(read_bank(out)), artifact.read_manifest(out)


def test_evaluation_may_rate_what_training_judges_by_verdict(
    slice_of: Callable[..., Slice], items_file: Path, tmp_path: Path
) -> None:
    plain, told = judged(slice_of, items_file, tmp_path / "a.parquet")
    assert (told["slice"]["judge"]["single"], told["slice"]["judge"]["order"]) == (
        "verdict", "random",
    )  # fmt: skip
    rated, told = judged(slice_of, items_file, tmp_path / "b.parquet", "bench.single=rating")
    assert (told["slice"]["judge"]["single"], told["slice"]["bench"]["single"]) == (
        "rating", "rating",
    )  # fmt: skip
    for one, two in zip(plain, rated, strict=True):
        single = one.item_id.startswith("single")
        assert (one.text, one.prompt_tokens) == (two.text, two.prompt_tokens) or single
        assert two.correct is None or not single
    ratings = [row.scores[0] for row in rated if row.item_id.startswith("single") and row.scores]
    assert ratings and min(ratings) >= 1 and any(rating > 1 for rating in ratings)


def test_evaluation_may_show_other_orders_than_training(
    slice_of: Callable[..., Slice], items_file: Path, items: list[Item], tmp_path: Path
) -> None:
    shown = {}
    for plan in ("balanced", "fixed"):
        out = tmp_path / f"{plan}.parquet"
        rows, told = judged(slice_of, items_file, out, f"bench.order={plan}")
        assert told["slice"]["judge"]["order"] == plan
        shown[plan] = {
            item.id: [tuple(row.order) for row in rows if row.item_id == item.id] for item in items
        }
        again = tmp_path / f"{plan}2.parquet"
        wanted, _ = judged(slice_of, items_file, again, f"judge.order={plan}")
        assert [row.order for row in rows] == [row.order for row in wanted]
    for item in items:
        assert len(set(shown["fixed"][item.id])) == 1
        assert len(set(shown["balanced"][item.id])) == item.n


def test_rollouts_do_not_follow_the_settings_of_evaluation(
    slice_of: Callable[..., Slice], items_file: Path, tmp_path: Path
) -> None:
    cfg = slice_of("rollout", "bench.order=fixed", "bench.single=rating", "rollout.shards=1")
    stages.rollout(cfg, 3, items=items_file, shard=0, out=tmp_path / "0.parquet")
    assert artifact.read_manifest(tmp_path / "0.parquet")["slice"]["judge"]["order"] == "random"


def test_rollout_policy_numbers_the_models_apart(
    slice_of: Callable[..., Slice], items_file: Path, talker_folder: Path, tmp_path: Path
) -> None:
    cfg = slice_of("rollout_policy", "rollout_policy.n_samples=2", "rollout_policy.items=3",
                   "rollout_policy.shards=1")  # fmt: skip
    out = tmp_path / "bank" / "0.parquet"
    models = [talker_folder, talker_folder]
    stages.rollout_policy(cfg, 3, items=items_file, models=models, shard=0, out=out)
    rows = list(read_bank(out))
    assert sorted(kinds(rows, "pair-1")) == [("sample", i) for i in range(4)]
    assert {row.item_id for row in rows} == {"pair-0", "pair-1", "pair-2"}
    assert len({row.seed for row in rows}) == len(rows) == 12
    assert [path.name for path in out.parent.iterdir()] == ["0.parquet"]


def test_of_several_policies_one_is_in_memory_at_a_time(
    slice_of: Callable[..., Slice], items_file: Path, talker_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    held: list[weakref.ref[Any]] = []
    plain = lm.load

    def load(*args: Any, **options: Any) -> lm.LM:
        assert not any(model() for model in held)
        found = plain(*args, **options)
        held.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(lm, "load", load)
    cfg = slice_of("rollout_policy", "rollout_policy.n_samples=1", "rollout_policy.shards=1")
    models = [talker_folder] * 3
    stages.rollout_policy(
        cfg, 3, items=items_file, models=models, shard=0, out=tmp_path / "0.parquet"
    )
    assert len(held) == 3


@pytest.mark.parametrize(("engine", "weights"), [("native", True), ("hf", True), ("vllm", False)])
def test_weights_are_read_only_for_engines_that_take_them(
    slice_of: Callable[..., Slice], items_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, engine: str, weights: bool,
) -> None:  # fmt: skip
    asked: list[bool] = []
    plain = lm.load

    def load(*args: Any, **options: Any) -> lm.LM:
        asked.append(options["weights"])
        return plain(*args, **options)

    monkeypatch.setattr(lm, "load", load)
    monkeypatch.setitem(base.ENGINES, "vllm", "spct.sampling.fake:Missing")
    cfg = slice_of("judge", f"sampler.engine={engine}", "bench.k_max=1")
    with suppress(ModuleNotFoundError):
        stages.judge(cfg, 3, items=items_file, shard=0, policy="base", out=tmp_path / "0.parquet")
    assert asked == [weights]
