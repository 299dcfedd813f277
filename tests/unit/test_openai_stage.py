"""An endpoint as judge, through the stage: failed rows, reruns, budget, the key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_world import Act, Body, Script, Server, served

from spct import artifact, config
from spct.__main__ import main
from spct.bank.check import check_shard
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.records import Item, Label, Sample, read_bank, write_items
from spct.runs import Node, Runs
from spct.sampling import stages
from spct.sampling.endpoint import CHAT_MARKS
from spct.sampling.parts import DOWN

KEY = "sk-a-very-secret-key"


@pytest.fixture
def items_file(make_items: Callable[..., list[Item]], tmp_path: Path) -> Path:
    write_items(tmp_path / "items.parquet", make_items("pair", 6))
    return tmp_path / "items.parquet"


def slice_of(server: Server, *overrides: str) -> Slice:
    quick = ["backoff=0.001", "max_retries=1", "concurrency=4", f"base_url={server.url}"]
    bench = ["bench.k_max=3", "bench.greedy=true", "sampler.part_samples=8"]
    openai = [f"sampler.openai.{text}" for text in quick]
    return Slice.of(config.load(["plan=endpoint", *openai, *bench, *overrides]), "judge")


def judge(server: Server, items: Path, out: Path, *overrides: str) -> list[Sample]:
    """The rows of the stage; 24 samples of six items in three parts."""
    cfg = slice_of(server, *overrides)
    stages.judge(cfg, 3, items=items, shard=0, policy="base", out=out)
    return list(read_bank(out))


def seeds_of(rows: list[Sample]) -> list[int]:
    return [row.seed for row in rows]


@pytest.fixture
def undisturbed(items_file: Path, tmp_path: Path) -> Path:
    """The bank when nothing goes wrong. Its hash is comparable only under the same URL."""
    with served() as server:
        judge(server, items_file, tmp_path / "whole" / "0.parquet")
    return tmp_path / "whole" / "0.parquet"


def same(one: Path, two: Path) -> bool:
    """Whether two banks have the same rows, but for the hash of the endpoint's URL."""
    a, b = ([{**vars(row), "model": ""} for row in read_bank(path)] for path in (one, two))
    return a == b


def test_rows_of_an_endpoint(items_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "0.parquet"
    with served() as server:
        rows = judge(server, items_file, out)
    assert len(rows) == 24 and {row.outcome for row in rows} <= {"ok"}
    assert Counter(body["seed"] for body in server.bodies) == dict.fromkeys(seeds_of(rows), 1)
    assert all(row.prompt_tokens > 5 and row.completion_tokens == 3 for row in rows)
    assert {row.logprob for row in rows} == {None}
    manifest = artifact.read_manifest(out)
    assert (manifest["engine"], manifest["params"], manifest["tokenizer"]) == ("openai", None, None)
    assert set(CHAT_MARKS) == set(manifest["special_tokens"])
    assert check_shard(out, items_file).state == "whole"


def test_only_what_failed_is_asked_again(
    items_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    every = seeds_of(list(read_bank(undisturbed)))
    bad = [every[1], every[2], every[17]]
    out = tmp_path / "0.parquet"
    script: dict[str, Script] = {
        "now": lambda tried, body: Act(503, {"error": "busy"}) if body["seed"] in bad else Act()
    }
    with served(lambda tried, body: script["now"](tried, body)) as server:
        with pytest.raises(StageStopped) as stopped:
            judge(server, items_file, out)
        said = str(stopped.value)
        assert "judge base-endpoint: the engine failed 3 of 24 samples" in said
        assert "pair-0 sample 1: HTTP 503: busy" in said and "run the same command again" in said
        assert not out.exists() and len(server.bodies) == 24 + 3
        server.bodies.clear()
        bad.pop()  # one recovers, the others stay bad, and patience may change between runs
        with pytest.raises(StageStopped, match="2 of 24 samples"):
            judge(server, items_file, out, "sampler.openai.max_retries=0")
        assert sorted(seed["seed"] for seed in server.bodies) == sorted([*bad, every[17]])
        server.bodies.clear()
        script["now"] = lambda tried, body: Act()
        judge(server, items_file, out)
        assert sorted(body["seed"] for body in server.bodies) == sorted(bad)
        assert sorted(server.answered) == sorted(every)
    assert same(out, undisturbed) and not Path(f"{out}.parts").exists()


def test_a_share_of_errors_may_pass(items_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "0.parquet"

    def script(tried: int, body: Body) -> Act:
        content = body["messages"][0]["content"]
        first = content == server.bodies[0]["messages"][0]["content"]
        return Act(400, {"error": "policy"}) if first else Act()

    with served(script) as server:
        with pytest.raises(StageStopped):
            judge(server, items_file, out, "sampler.max_errors=0.01")
        rows = judge(server, items_file, out, "sampler.max_errors=0.5")
    failed = [row for row in rows if row.outcome == "engine_error"]
    assert 0 < len(failed) <= 4 and len({row.key for row in rows}) == 24
    assert all((row.text, row.scores, row.correct) == ("", None, None) for row in failed)
    assert artifact.read_manifest(out)["ledger"]["sample"]["engine_error"] >= 1
    assert check_shard(out, items_file).state == "whole"


def test_an_endpoint_that_is_down_is_not_asked_for_everything(
    make_items: Callable[..., list[Item]], tmp_path: Path
) -> None:
    write_items(tmp_path / "items.parquet", make_items("pair", 40))
    with (
        served(lambda tried, body: Act(401, {"error": "bad key"})) as server,
        pytest.raises(StageStopped, match=r"failed 16 samples so far .*HTTP 401: bad key"),
    ):
        judge(server, tmp_path / "items.parquet", tmp_path / "0.parquet")
    assert len(server.bodies) == DOWN


def test_a_budget_stops_the_stage_and_a_larger_one_goes_on(
    items_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "0.parquet"
    with served() as server:
        for budget in (400, 400, 520):
            with pytest.raises(StageStopped, match=f"the budget of {budget} tokens has no room"):
                judge(server, items_file, out, f"sampler.openai.budget={budget}")
        assert 0 < len(server.answered) < 24
        judge(server, items_file, out, "sampler.openai.budget=100000")
        assert len(server.answered) == len(set(server.answered)) == 24
    assert same(out, undisturbed)


def test_prompts_that_the_endpoint_finds_too_long_are_rows_not_errors(
    items_file: Path, tmp_path: Path
) -> None:
    long = Act(400, {"error": {"message": "maximum context length is 10 tokens"}})
    with served(lambda tried, body: long if body["temperature"] == 0 else Act()) as server:
        rows = judge(server, items_file, tmp_path / "0.parquet", "judge.max_too_long=0.25")
    outcomes = Counter((row.kind, row.outcome) for row in rows)
    assert outcomes == {("sample", "ok"): 18, ("greedy", "prompt_too_long"): 6}


def test_an_endpoint_that_refuses_too_many_prompts_for_their_length_stops_the_stage(
    items_file: Path, tmp_path: Path
) -> None:
    """Its limit is known only when it has spoken: after a part, which is kept."""
    long = Act(400, {"error": {"message": "maximum context length is 10 tokens"}})
    out, parts = tmp_path / "0.parquet", "sampler.part_samples=8"
    with served(lambda tried, body: long) as server:
        with pytest.raises(StageStopped) as stopped:
            judge(server, items_file, out, parts)
        assert len(server.bodies) == 8 and not out.exists()
        said = str(stopped.value)
        assert "8 of 24 prompts were refused by the endpoint for their length" in said
        assert "judge.max_too_long=0.1" in said and f"delete {out}.parts" in said
        rows = judge(server, items_file, out, parts, "judge.max_too_long=1")
        assert len(server.bodies) == 24 == len(rows)  # another share is no other work


def test_marks_of_chat_templates_in_data_are_broken_up(tmp_path: Path) -> None:
    said = "a <|im_start|>system b <|eot_id|> c [/INST] d <｜User｜> e"
    ask = ({"role": "user", "content": said},)
    item = Item("i", "d", "all", "x", ask, (said, "fine"), Label("best", 0))
    write_items(tmp_path / "items.parquet", [item])
    with served() as server:
        judge(server, tmp_path / "items.parquet", tmp_path / "0.parquet")
    prompts = {body["messages"][0]["content"] for body in server.bodies}
    assert prompts and not any(mark in prompt for prompt in prompts for mark in CHAT_MARKS)


def test_principles_that_the_engine_failed_are_asked_again(
    items_file: Path, tmp_path: Path
) -> None:
    bad = [True]

    def script(tried: int, body: Body) -> Act:
        return Act(503, {"error": "busy"}) if bad[0] and body["seed"] % 2 else Act()

    with served(script) as server:
        out, ask = tmp_path / "0.parquet", "judge.principles=query_only"
        with pytest.raises(StageStopped, match=r"failed the principles of \d of \d queries .*503"):
            judge(server, items_file, out, ask)
        first = list(server.answered)
        bad[0] = False
        rows = judge(server, items_file, out, ask)
        assert len(server.answered) == len(set(server.answered))
        assert set(first) < set(server.answered)
    queries = len(server.answered) - len(rows)
    assert queries == artifact.read_manifest(out)["principles"]["queries"] > len(first) > 0


def test_the_key_is_in_nothing_that_is_written(
    items_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Through the command line and a frozen slice; the endpoint repeats the key when it fails."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("SPCT_DEBUG", "")
    echo = Act(500, {"error": {"message": f"key {KEY} failed"}})
    out = tmp_path / "bank" / "0.parquet"
    fail = [True]
    with served(lambda tried, body: echo if fail[0] and body["seed"] % 2 else Act()) as server:
        frozen = tmp_path / "judge.yaml"
        cfg = slice_of(server, "sampler.openai.key_env=JUDGE_KEY")
        frozen.write_text(config.dump(cfg.as_dict()))
        io = [f"io.items={items_file}", "io.shard=0", "io.policy=base", f"io.out={out}"]
        command = ["judge", "--config", str(frozen), "seed=3", *io]
        assert main(command) == 2
        stopped = capfd.readouterr()
        assert "key *** failed" in stopped.err
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(written) > 4  # items, slice, parts
        fail[0] = False
        assert main(command) == 0
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    written += [path for path in tmp_path.rglob("*") if path.is_file()]
    ended = capfd.readouterr()
    texts = [path.read_bytes() for path in written if path.exists()]
    texts += [text.encode() for text in (stopped.out, stopped.err, ended.out, ended.err)]
    assert not any(KEY[3:].encode() in text for text in texts)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sampler.openai.key_env=sk-abcdef123"], "sampler.openai.key_env: not the name of an env"),
        (["sampler.openai.base_url='http://u:sk-abc@h/v1'"], "base_url: holds a user, password"),
        (["sampler.openai.base_url='http://h/v1?key=sk-abc'"], "base_url: holds a user, password"),
        (["sampler.openai.base_url=localhost:8000"], "base_url: not of the form"),
        (["sampler=openai"], "sampler.engine: openai does not go with builtin:toy_m"),
        (["plan.main=endpoint"], "plan.policies: endpoint is an endpoint and cannot be tuned"),
        (["model=endpoint", "plan.metarm=endpoint"], "plan.metarm: endpoint is an endpoint"),
        (["plan=endpoint", "model.source=endpoint:"], "model.source: endpoint: lacks the name"),
        (["sampler.max_errors=1"], "sampler.max_errors: 1.0 is not 0 or more and below 1"),
        (["sampler.openai.api=responses"], "sampler.openai.api: 'responses' is not one of chat"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_job(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(overrides)
    assert says in str(error.value) and "sk-abc" not in str(error.value)


def test_an_endpoint_has_no_weights_to_load_or_to_replace(tmp_path: Path) -> None:
    cfg = config.load(["plan=endpoint"])
    with pytest.raises(ConfigError, match="endpoint:default has no weights here"):
        stages.lm.load(cfg.model)
    more: dict[str, Any] = {"items": tmp_path, "shard": 0, "policy": "rft", "out": tmp_path}
    with pytest.raises(ConfigError, match="it cannot serve some/model"):
        stages.judge(Slice.of(cfg, "judge"), 0, init="some/model", **more)


def test_an_endpoint_beside_ones_own_sizes_is_judged_as_it_is() -> None:
    runs = Runs("tiny", "plan.sizes=[toy_s,endpoint]")
    judged = [node for node in runs.judged(runs.targets[0]) if node.size == "endpoint"]
    assert judged == [Node("judge", "endpoint", "base")]
    run = runs.targets[0]
    assert "engine: openai" in runs.frozen(run, "endpoint/judge")
    assert "engine: native" in runs.frozen(run, "toy_s/judge")
    assert runs.base_model(run, "endpoint") == []
