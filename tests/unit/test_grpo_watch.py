"""What one sees of a GRPO run: alarms, gaps, seconds, held-out accuracy, whole judgements."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from grpo_world import World, lines
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact, config, lm, mirror, tracking
from spct.errors import ConfigError, StageStopped
from spct.grpo import timing, train
from spct.grpo.evaluate import evaluate, split
from spct.grpo.samples import pages
from spct.grpo.timing import Clock, TimedSampler, needed_tokens, rates
from spct.grpo.trace import Trace
from spct.grpo.trainer import Trainer
from spct.grpo.watch import Alarm, Watch, gap_limit
from spct.judge.task import Judge
from spct.origin import Piece
from spct.records import Item
from spct.report.build import collapses
from spct.report.training import draw_training
from spct.sampling.base import Completion, Request
from spct.sampling.native import NativeSampler
from spct.schema import GrpoConfig, SamplerConfig
from spct.training.batching import Example


@pytest.fixture
def world(tmp_path: Path, talker_folder: Path, make_items: Callable[..., list[Item]]) -> World:
    return World(tmp_path, talker_folder, make_items("pair", 5) + make_items("single", 4))


@pytest.fixture(scope="module")
def settings() -> GrpoConfig:
    return replace(config.load([]).grpo, alarm_window=3, alarm_drop=0.5, alarm_invalid=0.4)


# ---- alarms ------------------------------------------------------------------------------------


def _seen(settings: GrpoConfig, *steps: dict[str, float]) -> tuple[Watch, list[list[str]]]:
    """The watch after these steps, and ``domain kind`` of the alarms of each."""
    watch = Watch(settings)
    return watch, [
        [f"{alarm.domain} {alarm.kind}" for alarm in watch.see(step, metrics)]
        for step, metrics in enumerate(steps)
    ]


def _chat(*rewards: float) -> list[dict[str, float]]:
    """Rewards of one domain, another one rising, so that the mean over both hides the fall."""
    return [{"reward": 0.0, "reward/chat": x, "reward/code": -x} for x in rewards]


def test_a_fall_of_one_domain_is_an_alarm(settings: GrpoConfig) -> None:
    watch, told = _seen(settings, *_chat(0.6, 0.6, 0.6, 0.6, 0.0, -0.2, -0.7))
    # means of three: 0.6, 0.6, 0.4, 0.13, -0.3
    assert told == [[], [], [], [], [], [], ["chat reward"]]
    assert [str(alarm) for alarm in watch.alarms] == [
        "chat: reward fell from 0.60 to -0.30 by step 6"
    ]
    assert watch.alarms[0].entry()["now"] == pytest.approx(-0.3)
    assert watch.metrics() == {"alarm/chat": 1.0, "alarm/code": 0.0}


def test_an_alarm_goes_off_once_and_again_after_recovery(settings: GrpoConfig) -> None:
    fall = [1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    watch, told = _seen(settings, *({"reward/chat": x} for x in [*fall, 1, 1, 1, -1, -1]))
    assert [step for step, names in enumerate(told) if names] == [3, 10]
    watch, _ = _seen(settings, *({"reward/chat": x} for x in [*fall, 1, 1, 1]))
    assert watch.metrics() == {"alarm/chat": 0.0} and len(watch.alarms) == 1


def test_full_windows_of_the_domains_own_steps_count(settings: GrpoConfig) -> None:
    """One lucky step is no best, and steps without the domain are no part of its mean."""
    gap = {"reward/code": 0.0}
    steps = [{"reward/chat": 1.0}, {"reward/chat": 1.0}, gap, {"reward/chat": -1.0}]
    assert _seen(settings, *steps)[1] == [[], [], [], []]  # mean 1/3 is the first and the best
    more = [*steps, gap, {"reward/chat": -1.0}]
    assert _seen(settings, *more)[1][-1] == ["chat reward"]  # -1/3, 0.67 below


def test_unreadable_outputs_are_an_alarm(settings: GrpoConfig) -> None:
    rates = [0.0, 0.6, 0.5, 0.2, 0.7, 0.7]
    watch, told = _seen(settings, *({"invalid_rate/chat": x} for x in rates))
    assert told == [[], [], [], ["chat invalid"], [], []]
    assert str(watch.alarms[0]) == (
        "chat: 43% of the outputs are unreadable, more than 40% by step 3"
    )


@given(st.lists(st.floats(-1, 1), max_size=30), st.integers(0, 30))
def test_a_resumed_watch_equals_one_that_went_through(
    settings: GrpoConfig, rewards: list[float], cut: int
) -> None:
    settings = replace(settings, alarm_window=2, alarm_drop=0.4)
    entries = [
        {"step": i, "reward/a": x, "alarm/a": 0.0, "sampler_gap_mean": abs(x) / 10}
        for i, x in enumerate(rewards)
    ]
    straight, resumed = Watch(settings, gap=0.05), Watch(settings, gap=0.05)
    straight.replay(entries)
    resumed.replay(entries[:cut])
    resumed.replay(json.loads(json.dumps(entries[cut:])))
    assert resumed.alarms == straight.alarms and resumed.metrics() == straight.metrics()


def test_a_sampler_that_is_not_the_policy_is_an_alarm(settings: GrpoConfig) -> None:
    gaps = (0.01, 0.2, 0.3, None, 0.05, 0.06)
    watch = Watch(settings, gap=0.05)
    assert watch.metrics() == {} and not watch.apart
    told, on = [], []
    for step, gap in enumerate(gaps):
        told += watch.see(step, {} if gap is None else {"sampler_gap_mean": gap})
        on.append(watch.metrics()["alarm/sampler_gap"])
    assert on == [0.0, 1.0, 1.0, 1.0, 0.0, 1.0] and watch.apart
    assert told == watch.alarms and [alarm.step for alarm in told] == [1, 5]
    assert str(told[0]) == (
        "sampler_gap: 0.2 nats a token between sampler and trainer, more than 0.05, by step 1"
    )
    ignored, told = _seen(settings, {"sampler_gap_mean": 9.0})
    assert told == [[]] and ignored.metrics() == {} and not ignored.apart


@pytest.mark.parametrize(
    ("given", "dtype", "limit"),
    [(None, "float32", 1e-3), (None, "bfloat16", 0.05), (0.2, "float32", 0.2), (0, "bfloat16", 0)],
)
def test_the_limit_of_the_gap_is_that_of_the_precision(
    settings: GrpoConfig, given: float | None, dtype: str, limit: float
) -> None:
    assert gap_limit(replace(settings, max_logprob_gap=given), dtype) == limit


def test_a_stale_sampler_is_seen_and_stops_if_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rollouts of the weights that the run began with, step after step."""
    quiet = ("grpo.alarm_drop=2", "grpo.alarm_invalid=1")
    own = [entry["alarm/sampler_gap"] for entry in lines(world("own", *quiet) / "metrics.jsonl")]
    assert own == [0.0] * 4 and "ALARM" not in capsys.readouterr().err

    def stale(self: NativeSampler, requests: Sequence[Request]) -> list[Completion]:
        self.lm = old
        return sample(self, requests)

    old, sample = lm.load(config.load(world.words()).model), NativeSampler.sample
    monkeypatch.setattr(NativeSampler, "sample", stale)
    out = world("stale", *quiet)
    assert "grpo: ALARM: sampler_gap: 0." in capsys.readouterr().err
    assert [entry["kind"] for entry in lines(out / "alarms.jsonl")] == ["gap"]
    on = [entry["alarm/sampler_gap"] for entry in lines(out / "metrics.jsonl")]
    assert on == [0.0, 1.0, 1.0, 1.0]  # the first step samples from the policy
    with pytest.raises(StageStopped, match=r"at step 1 .* raise grpo\.max_logprob_gap$"):
        world("stopped", *quiet, "grpo.stop_on_gap=true")
    assert not (world.folder / "stopped").exists()


def test_an_alarm_reaches_every_place_where_people_look(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ("grpo.alarm_drop=2", "grpo.alarm_invalid=1")
    out = world("quiet", *quiet)
    assert "ALARM" not in capsys.readouterr().err and not (out / "alarms.jsonl").exists()
    assert all(entry["alarm/pair"] == 0 for entry in lines(out / "metrics.jsonl"))
    step_of = Trainer.step

    def collapsing(self: Trainer, step: int) -> Any:
        metrics, rollouts = step_of(self, step)
        return metrics | {"reward/pair": 1.0 - step}, rollouts

    monkeypatch.setattr(Trainer, "step", collapsing)
    out = world("seed4/grpo/toy_s", "grpo.alarm_drop=1.5", "grpo.alarm_invalid=1")
    text = "pair: reward fell from 0.50 to -1.50 by step 3"
    assert f"grpo: ALARM: {text}\n" in capsys.readouterr().err
    assert [entry["text"] for entry in lines(out / "alarms.jsonl")] == [text]
    on = [entry["alarm/pair"] for entry in lines(out / "metrics.jsonl")]
    assert on == [0.0, 0.0, 0.0, 1.0]
    assert collapses([out / "metrics.jsonl"]) == [f"grpo toy_s, seed 4: {text}"]
    assert _mirrored(out).tags["spct.alarm"] == "pair"


# ---- the log of an update ----------------------------------------------------------------------


def test_the_trace_compares_with_the_sampler_before_the_first_step() -> None:
    trace = Trace([(-1.0, -2.0), (-3.0,)])
    trace.saw([1], [1], torch.tensor([-3.5]), torch.tensor([-3.5]), torch.tensor([0.25]))
    trace.saw([0], [2], torch.tensor([-1.0, -2.25]), torch.tensor([-1.0, -1.25]))
    trace.saw([0, 1], [2, 1], torch.tensor([-9.0, -9, -9]), torch.tensor([-7.0, -7, -7]))
    values = trace.metrics(["a", "b"], torch.tensor([1.0, -1.0]), 0.2, 0.2)
    assert values["sampler_gap_mean"] == pytest.approx(0.25)
    assert values["sampler_gap_max"] == pytest.approx(0.5)
    assert values["kl/a"] == pytest.approx((0.0 + 2.718281828 - 2) / 2)
    assert values["kl/b"] == 0.0
    assert values["entropy/b"] == 0.25 and "entropy/a" not in values


@pytest.mark.parametrize(
    ("change", "advantage", "low", "high"),
    [(0.3, 1.0, 0, 1), (0.3, -1.0, 0, 0), (-0.3, -1.0, 1, 0), (-0.3, 1.0, 0, 0), (0.2, 1.0, 0, 0)],
)  # e^0.3 = 1.35, e^-0.3 = 0.74, e^0.2 = 1.22
def test_clip_shares_are_of_the_last_update(
    change: float, advantage: float, low: float, high: float
) -> None:
    trace = Trace([(-1.0, -1.0)])
    trace.saw([0], [2], torch.tensor([-1.0, -1.0]), None)
    trace.saw([0], [2], torch.tensor([-1.0 + change, -1.0]), None)
    values = trace.metrics(["a"], torch.tensor([advantage]), 0.2, 0.28)
    assert (values["clip_low/a"], values["clip_high/a"]) == (low / 2, high / 2)
    assert "kl/a" not in values


def test_a_trace_that_saw_nothing_says_nothing() -> None:
    assert Trace([(-1.0,)]).metrics(["a"], torch.tensor([1.0]), 0.2, 0.2) == {}


def test_given_log_probs_stay() -> None:
    trace = Trace([(), ()])
    trace.seen[0].old = torch.tensor([-1.0, -2.0])
    assert trace.given([0, 1], "old") is None and trace.given([0], "reference") is None
    trace.saw([1, 0], [1, 2], torch.tensor([-3.0, -4.0, -5.0]), None)
    found = trace.given([0, 1], "old")
    assert found is not None and found.tolist() == [-1.0, -2.0, -3.0]


def test_the_log_of_a_run_has_what_the_trace_saw(world: World) -> None:
    entries = lines(world("traced") / "metrics.jsonl")
    for entry in entries:
        assert 0 <= entry["sampler_gap_mean"] <= entry["sampler_gap_max"] < 1e-4
    assert all("kl/pair" in e for e in entries if "reward/pair" in e)
    timing = json.loads((world.folder / "traced" / "timing.json").read_text())
    assert timing["reference"] > 0


# ---- seconds -----------------------------------------------------------------------------------


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = 100.0

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(timing.time, "monotonic", lambda: now)
    return pass_by


def test_a_phase_inside_another_counts_for_itself(tick: Callable[[float], None]) -> None:
    class Sampler:
        def sample(self, requests: Sequence[Request]) -> list[Completion]:
            tick(8)
            return []

    clock = Clock()
    tick(1)
    with clock("reward"):
        tick(2)
        TimedSampler(Sampler(), clock).sample([])
        tick(4)
    tick(32)
    with pytest.raises(StageStopped), clock("update"):
        tick(16)
        raise StageStopped
    taken = clock.take()
    assert {name: value for name, value in taken.items() if value} == {
        "reward": 6, "rollout": 8, "update": 16,
    }  # fmt: skip
    assert set(taken) == set(timing.PHASES) and not any(clock.take().values())


def test_rates_by_hand() -> None:
    seconds = dict.fromkeys(timing.PHASES, 0.0) | {"rollout": 2.0, "update": 3.0, "reference": 1.0}
    values = rates(
        seconds, sampled=50, needed=100, params=10, updates=2, reference=True, throughput=7000.0
    )
    assert values["sampled_tokens_per_s"] == 25 and values["learned_tokens_per_s"] == 50
    assert values["share_of_bound"] == pytest.approx((2 * 6 + 2) * 10 * 100 / 4 / 7000)
    nothing = dict.fromkeys(timing.PHASES, 0.0)
    assert rates(nothing, sampled=0, needed=0, params=1, updates=1, reference=False,
                 throughput=1.0) == {}  # fmt: skip


def test_a_prompt_must_be_read_once() -> None:
    examples = [Example((1, 2, 3), (4,)), Example((1, 2, 3), (5, 6)), Example((1, 2), (7,))]
    assert needed_tokens(examples) == 3 + 1 + 2 + 2 + 1


# ---- held-out accuracy -------------------------------------------------------------------------


def test_held_out_items_are_seeded_and_never_trained_on(
    make_items: Callable[..., list[Item]],
) -> None:
    items = make_items("pair", 9)
    train_items, held = split(items, 3, seed=1)
    assert len(held) == 3 and len(train_items) == 6
    assert {i.id for i in train_items} | {i.id for i in held} == {i.id for i in items}
    assert [i for i in items if i in train_items] == train_items
    assert split(items, 3, seed=1) == (train_items, held)
    assert len({tuple(i.id for i in split(items, 3, seed)[1]) for seed in range(9)}) > 3
    few = {i.id for i in split(items, 2, seed=1)[1]}
    assert few < {i.id for i in held}
    assert split(items, 0, seed=1) == (items, [])
    with pytest.raises(StageStopped, match=r"grpo\.eval_items is 9, of 9 training items"):
        split(items, 9, seed=1)


def test_an_evaluation_is_greedy_and_counts_what_cannot_be_read(
    talker: lm.LM, judge: Judge, sampler_config: SamplerConfig, items: list[Item]
) -> None:
    asked: list[Request] = []

    class Sampler:
        def sample(self, requests: Sequence[Request]) -> list[Completion]:
            asked.extend(requests)
            texts = ["\\boxed{9, 1}"] * 2 + ["none"] + ["\\boxed{9, 1, 1, 1}"] * 2
            texts += ["\\boxed{1}"] * 2
            ids = [tuple(talker.tokenizer.encode(text)) for text in texts]
            return [Completion(each, (-1.0,) * (len(each) + 1), "stop") for each in ids]

    values = evaluate(talker, Sampler(), sampler_config, judge, items, seed=1)
    assert {request.temperature for request in asked} == {0.0}
    assert values["eval_invalid_rate"] == pytest.approx(1 / 7)
    by_domain = {name.partition("/")[2]: v for name, v in values.items() if "/" in name}
    assert set(by_domain) == {"pair", "best_of_4", "single"}
    mean = (3 * by_domain["pair"] + 2 * by_domain["best_of_4"] + 2 * by_domain["single"]) / 7
    assert values["eval_accuracy"] == pytest.approx(mean)
    again = list(asked)
    asked.clear()
    evaluate(talker, Sampler(), sampler_config, judge, items, seed=1)
    assert asked == again


def _accuracies(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    left = list(values)
    monkeypatch.setattr(
        "spct.grpo.trainer.evaluate", lambda *_: {"eval_accuracy": left.pop(0)} if left else {}
    )


def test_the_best_weights_are_kept_if_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ("grpo.eval_every=1", "grpo.eval_items=2")
    weights = {}
    for keep in ("last", "best"):
        _accuracies(monkeypatch, 0.1, 0.5, 0.5, 0.2)
        weights[keep] = world(keep, *held, f"grpo.keep={keep}")
    manifest = artifact.read_manifest(weights["best"])
    assert manifest["kept_step"] == 2 and manifest["eval_accuracy"] == 0.5
    assert "kept_step" not in artifact.read_manifest(weights["last"])
    _accuracies(monkeypatch, 0.1, 0.5, 0.5, 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(train.Checkpoint, "clear", lambda self: None)
        world("states", *held, "grpo.keep=best")
    state = torch.load(world.state("states") / "state-000002.pt", weights_only=True)
    kept = lm.load(config.load([f"model.source={weights['best']}"]).model).model.state_dict()
    last = lm.load(config.load([f"model.source={weights['last']}"]).model).model.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in state["trainer"]["model"].items())
    assert not all(torch.equal(kept[name], value) for name, value in last.items())


def test_evaluations_come_when_due_and_at_the_end(world: World) -> None:
    out = world("due", "grpo.steps=5", "grpo.eval_every=2", "grpo.eval_items=3")
    entries = lines(out / "metrics.jsonl")
    assert ["eval_accuracy" in entry for entry in entries] == [False, True, False, True, True]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["grpo.eval_every=2"], "grpo.eval_items"),
        (["grpo.eval_items=2"], "grpo.eval_every"),
        (["grpo.keep=best"], "grpo.keep"),
        (["grpo.keep=first"], "grpo.keep"),
        (["grpo.alarm_window=0"], "grpo.alarm_window"),
        (["grpo.alarm_drop=0"], "grpo.alarm_drop"),
        (["grpo.alarm_invalid=1.5"], "grpo.alarm_invalid"),
        (["grpo.refill=-1"], "grpo.refill"),
        (["grpo.max_logprob_gap=-1"], "grpo.max_logprob_gap"),
        (["grpo.max_logprob_gap=0", "grpo.stop_on_gap=true"], "grpo.stop_on_gap"),
    ],
)
def test_wrong_settings_are_named(words: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        config.load(words)


# ---- whole judgements --------------------------------------------------------------------------


def test_samples_show_every_domain(world: World) -> None:
    out = world("shown", "grpo.prompts_per_step=9", "grpo.steps=1")
    entries = lines(out / "samples.jsonl")
    assert len(entries) == 4 and {entry["domain"] for entry in entries} == {"pair", "single"}
    assert [entry["domain"] for entry in entries[:2]] != ["pair", "pair"]
    first = entries[0]
    assert first["prompt"].startswith("<judge>") and first["reward"] in (1.0, -1.0)
    assert set(first) == {
        "step", "item", "domain", "prompt", "principles", "output", "outcome", "order", "scores",
        "label", "reward",
    }  # fmt: skip


def test_a_page_for_each_step_and_no_markup_from_the_model() -> None:
    line = {
        "step": 20, "item": "i", "domain": "chat", "prompt": "Judge.\nTwo lines",
        "principles": "be kind", "output": "# tone\nCritique: `x`\n\\boxed{1}", "outcome": "ok",
        "scores": [1], "label": [True], "reward": 1.0, "order": [0],
    }  # fmt: skip
    texts = pages([line, {**line, "step": 40, "scores": None, "reward": None}, line])
    assert list(texts) == ["step_000020.md", "step_000040.md"]
    page = texts["step_000020.md"]
    assert page.count("\n## chat, i\n") == 2
    for title, text in (
        ("Prompt", "    Judge.\n    Two lines"),
        ("Principles given", "    be kind"),
        ("Principles", "    # tone"),
        ("Critique and scores", "    Critique: `x`\n    \\boxed{1}"),
    ):
        assert f"\n### {title}\n\n{text}\n" in page
    assert "\noutcome: ok, scores: [1], label: [True], order: [0], reward: 1.0\n" in page
    assert "scores:" not in texts["step_000040.md"]
    cut = pages([{**line, "output": "# x"}])["step_000020.md"]
    assert "\n### Output\n\n    # x\n" in cut and "Critique" not in cut


def _mirrored(place: Path) -> mirror.Mirror:
    piece = Piece(stage="grpo", folder="grpo/toy_s", home="run", slice="grpo")
    files = sorted(path for path in place.glob("*") if path.is_file())
    return mirror._stage("run", piece, 4, place, files, "0" * 16)


def test_mlflow_gets_judgements_as_text_and_seconds_by_step(world: World) -> None:
    out = world("mirrored", "grpo.alarm_drop=2", "grpo.alarm_invalid=1")
    shown = _mirrored(out)
    assert [name for name, _ in shown.texts] == [
        "samples/step_000000.md", "samples/step_000002.md",
    ]  # fmt: skip
    assert "spct.alarm" not in shown.tags
    steps = [step for name, _, step in shown.metrics if name == "timing_step/rollout"]
    assert steps == [0, 1, 2, 3]
    assert len([1 for name, *_ in shown.metrics if name == "timing/rollout"]) == 1
    told: list[tuple[str, str]] = []
    client = SimpleNamespace(
        create_run=lambda *_: SimpleNamespace(info=SimpleNamespace(run_id="r")),
        log_text=lambda run, text, name: told.append((name, text)),
        log_batch=lambda *_, **__: None,
        log_artifact=lambda *_: None,
        set_tag=lambda *_: None,
        set_terminated=lambda *_: None,
    )
    tracking._write(client, "e", shown, {}, {})  # type: ignore[arg-type]
    assert told == shown.texts


# ---- the report --------------------------------------------------------------------------------


def test_figures_by_domain_and_without_what_never_happened() -> None:
    log = [
        {"step": s, "loss": 0.1 * s, "reward": 0.5, "reward/chat": 0.1, "reward/code": 0.2,
         "skipped_update": 0.0}
        for s in range(3)
    ]  # fmt: skip
    drawn = draw_training({"0": log, "1": log})
    for text in ("reward by domain", "loss"):
        assert f"<!-- {text} -->" in drawn
    assert "<!-- chat -->" in drawn and "skipped_update" not in drawn
    assert "<!-- reward/chat -->" not in drawn
    assert "(no metrics)" in draw_training({"0": []})


def test_alarms_are_plain_values() -> None:
    alarm = Alarm(3, "chat", "reward", -0.5, 0.25)
    assert alarm.entry() == {
        "step": 3, "domain": "chat", "kind": "reward", "now": -0.5, "before": 0.25,
        "text": "chat: reward fell from 0.25 to -0.50 by step 3",
    }  # fmt: skip
