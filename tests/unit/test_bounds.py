"""Every setting's type says what its values may be, and nothing out of bounds is composed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from omegaconf import OmegaConf

from spct import bounds, checks, kinds
from spct.__main__ import main
from spct.bounds import OneOf, Range, Several
from spct.config import Slice, dump, load, view
from spct.errors import ConfigError
from spct.grpo import loss
from spct.pretrain.train import Recipe
from spct.runs import Runs
from spct.schema import Config, OptimConfig

CONF = Path(__file__).parents[2] / "conf"

OPEN = {"sampler.openai.extra"}  # the fields of an endpoint's request: any JSON


def unbounded(kind: Any, key: str, ranged: bool = False) -> Iterator[str]:
    """Keys of all numbers of a type, in whatever they stand, that have no range of their own."""
    if get_origin(kind) is Annotated:
        kind, *extras = get_args(kind)
        yield from unbounded(kind, key, any(isinstance(extra, Range) for extra in extras))
    elif dataclasses.is_dataclass(kind):
        for name, inner in get_type_hints(kind, include_extras=True).items():
            yield from unbounded(inner, f"{key}.{name}" if key else name)
    elif kind in (int, float, complex, Any):
        yield from [] if ranged else [key]
    else:  # lists, mappings, unions
        for inner in get_args(kind):
            yield from unbounded(inner, key)


@pytest.mark.parametrize("kind", [Config, Recipe], ids=["config", "pretraining"])
def test_every_number_has_a_range_beside_its_type(kind: Any) -> None:
    assert set(unbounded(kind, "")) == (OPEN if kind is Config else set())


@dataclass
class Inner:
    bare: float


@dataclass
class Forgetful:
    one: int
    some: list[float]
    named: dict[str, int]
    perhaps: float | None
    either: str | int
    inside: Inner
    insides: dict[str, Inner] = field(default_factory=dict)
    names: Annotated[list[int], Several(least=1)] = field(default_factory=list)
    fine: kinds.Rate | None = None
    flag: bool = False
    title: str = ""


def test_the_walk_sees_numbers_wherever_they_stand() -> None:
    assert set(unbounded(Forgetful, "")) == {
        *("one", "some", "named", "perhaps", "either", "names"),
        *("inside.bare", "insides.bare"),
    }


def test_every_range_has_two_ends() -> None:
    def ranges(kind: Any) -> Iterator[Range]:
        for inner in (kind, *get_args(kind)):
            yield from [inner] if isinstance(inner, Range) else []
        for inner in get_args(kind):
            yield from ranges(inner)

    found = [one for name in vars(kinds).values() for one in ranges(name)]
    assert len(found) > 30
    for one in found:
        assert (one.least is None) != (one.above is None)
        assert (one.most is None) != (one.below is None)


def test_choices_are_those_that_the_code_knows() -> None:
    assert set(kinds.KL_ESTIMATORS) == set(loss.KL)


@pytest.mark.parametrize(
    ("bound", "good", "bad"),
    [
        pytest.param(Range(least=1, most=3), [1, 3], [0, 4, 10**400], id="closed"),
        pytest.param(Range(above=0, below=1), [0.5], [0.0, 1.0, 2], id="open"),
        pytest.param(Range(least=2, or_zero=True), [0, 2], [1, -1], id="or-zero"),
        pytest.param(Range(), [-1e300, 0], [math.nan, math.inf, -math.inf], id="finite"),
        pytest.param(OneOf("a", ""), ["a", ""], ["b"], id="names"),
        pytest.param(Several(least=1), [["a"], {"a": 0}], [[], {}, ["a", "a"]], id="several"),
    ],
)
def test_a_bound_holds_what_it_says(bound: bounds.Bound, good: list[Any], bad: list[Any]) -> None:
    assert all(bound.holds(value) for value in good)
    assert not any(bound.holds(value) for value in bad)
    assert all(bound.wanted(value) for value in bad)


REFUSED = [
    *("grpo.lr=-1", "grpo.lr=0", "grpo.lr=nan", "grpo.lr=1e30", "rft.optim.muon_lr=0"),
    *("grpo.max_grad_norm=-1", "rft.optim.max_grad_norm=0", "metarm.optim.max_grad_norm=inf"),
    *("rft.optim.weight_decay=nan", "baseline.optim.weight_decay=-0.1", "grpo.final_lr=nan"),
    *("grpo.final_lr=-1", "grpo.warmup_steps=-1", "grpo.std_eps=inf", "grpo.kl_coef=inf"),
    *("rft.epochs=inf", "metarm.epochs=nan", "baseline.critic_epochs=0", "metarm.dense_weight=-1"),
    *("rollout.temperature=-1", "rollout.temperature=nan", "rollout.temperature=inf"),
    *("rollout.temperature=0", "rollout.temperature=1e-300", "rollout_policy.temperature=0"),
    *("bench.temperature=nan", "bench.temperature=1e-9", "rollout.n_rft=0", "rollout.hinted=-1"),
    *("rollout_policy.n_samples=0", "rollout_policy.items=-1", "difficulty.n=0"),
    *("data.train_items=-5", "data.train_items=0", "data.general_items=-1", "data.responses=-1"),
    *("data.train_mix.pair=-1", "data.train_mix.pair=nan", "data.benchmarks.toy_pairs=-1"),
    *("data.responses=3", "data.max_chars=-1", "sampler.max_prompt_tokens=0"),
    *("sampler.max_new_tokens=-1", "sampler.batch_size=0", "sampler.part_samples=0"),
    *("sampler.openai.max_retries=5000", "sampler.openai.backoff=inf", "sampler.vllm.deadline=0"),
    *("sampler.vllm.gpu_memory=1.5", "sampler.vllm.kv_cache_gib=0", "grpo.prompts_per_step=0"),
    *("grpo.prompts_per_step=99999999999", "grpo.group_size=1", "grpo.log_samples_every=-1"),
    *("grpo.refill=-1", "grpo.rollout_lag=2", "grpo.max_logprob_gap=-1", "grpo.clip_low=1"),
    *("judge.score_max=100000", "judge.score_min=-100000", "bench.k_max=0", "bench.shards=0"),
    *("scaling.ks=[0]", "scaling.ks=[64]", "scaling.ks=[1,1]", "scaling.ks=[]"),
    *("scaling.adaptive=[0.5]", "scaling.adaptive=[nan]", "scaling.bootstrap=1000000000"),
    *("plan.seeds=[0,0]", "plan.seeds=[-1]", "plan.seeds=[99999999999]"),
    *("plan.sizes=[toy_s,toy_s]", "scaling.bootstrap=1"),
    *("model.source=' '", "model.source=builtin:nope"),
    *("plan.baselines=[btrm,btrm]", "health.bins=0", "audit.ngram=-1"),
    *("sampler.openai.extra.temperature=.nan", "sampler.openai.extra={a: [{b: .inf}]}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def composed() -> Config:
    return load(["experiment=smoke"])


def changed(cfg: Config, word: str) -> dict[str, Any]:
    """The groups of a configuration, one changed as Hydra would, in a hundredth of the time."""
    group, _, rest = word.partition(".")
    given = OmegaConf.structured(getattr(cfg, group))
    merged = OmegaConf.merge(given, OmegaConf.from_dotlist([rest]))
    return {**vars(cfg), group: OmegaConf.to_object(merged)}


def test_what_no_run_can_use_is_refused_by_name_and_value() -> None:
    """Each of them once ran, or ended in a traceback, or in the last stage."""
    told, cfg = {}, load()
    for word in REFUSED:
        with pytest.raises(ConfigError) as caught:
            checks.check(changed(cfg, word))
        told[word] = str(caught.value)
    for word, message in told.items():
        key = word.split("=")[0]
        assert message.startswith(key) and "\n" not in message, message
    assert told["grpo.max_grad_norm=-1"] == (
        "grpo.max_grad_norm: -1.0 is not 1e-06 or more; for no limit set a large one, 1e9"
    )
    assert told["rft.epochs=inf"] == (
        "rft.epochs: inf is not a finite number and above 0 and at most 10000"
    )
    assert told["plan.seeds=[0,0]"] == "plan.seeds: [0, 0] is not a list without repeats"
    assert told["scaling.ks=[64]"] == (
        "scaling.ks: 64 is above bench.k_max, 32, and so is all of it; add a smaller one"
    )


@pytest.mark.parametrize(
    ("words", "key"),
    [
        pytest.param(["bench.temperature=0"], "bench.temperature", id="greedy-samples"),
        pytest.param(
            ["plan.baselines=[cloud]", "baseline.k_max=2", "scaling.ks=[4]"], "scaling.ks",
            id="cloud-ks",
        ),
        pytest.param(
            ["grpo.eval_every=1", "grpo.eval_items=3000"], "grpo.eval_items", id="all-held-out"
        ),
        pytest.param(["grpo.steps=4"], "grpo.warmup_steps", id="warming-up-for-ever"),
        pytest.param(["select.use_plain=false", "rollout.hinted=0"], "select", id="nothing-kept"),
        pytest.param(["data.general_items=0"], "data.general_items", id="no-general-text"),
        pytest.param(["plan.weak=toy_s", "difficulty.n=4"], "difficulty.n", id="too-few-samples"),
        pytest.param(
            ["data.responses=4", "~data.benchmarks.toy_best_of_4"], "data.responses", id="no-size"
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(words: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        load(words)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["bench.temperature=0", "bench.k_max=1"], id="one-greedy-sample"),
        pytest.param(["scaling.ks=[1,64]"], id="larger-ks-are-left-out"),
        pytest.param(["select.use_plain=false"], id="hinted-alone"),
        pytest.param(["data.general_items=0", "rft.general_share=0"], id="no-general-text"),
        pytest.param(["grpo.max_grad_norm=1e9", "grpo.final_lr=0", "grpo.std_eps=0"], id="ends"),
    ],
)
def test_what_a_run_can_use_is_composed(words: list[str]) -> None:
    load(words)


def numbers(group: Any, kind: Any, key: str) -> Iterator[tuple[Any, Any, str, bool]]:
    """(holder, name, key, whole) of every number of a configuration, to set it."""
    for name, inner in bounds.hints(kind).items():
        value, where = getattr(group, name), f"{key}.{name}"
        if dataclasses.is_dataclass(value):
            yield from numbers(value, type(value), where)
        elif isinstance(value, dict | list):
            places = list(value) if isinstance(value, dict) else range(len(value))
            for place in places:
                if isinstance(value[place], int | float):
                    shown = f"{where}.{place}" if isinstance(value, dict) else where
                    yield value, place, shown, isinstance(value[place], int)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield group, name, where, bounds.plain(inner) is int


NASTY = (-1, 0, -(2**31), 2**31, 2**63, 10**30, math.nan, math.inf, -math.inf, -1e-300, 1e300)


def test_no_key_takes_every_nasty_number(composed: Config) -> None:
    """Whatever the key: NaN, infinity and the far ends are refused, by its name."""
    seen = 0
    for name, group in vars(composed).items():
        kind = type(group)
        if not dataclasses.is_dataclass(kind):
            continue
        for holder, place, key, whole in numbers(group, kind, name):
            items = isinstance(holder, dict | list)
            before = holder[place] if items else getattr(holder, place)
            for value in NASTY:
                if whole and not isinstance(value, int):
                    continue
                value = value if whole else float(value)
                holder.__setitem__(place, value) if items else setattr(holder, place, value)
                far = abs(value) > 1e16 or not math.isfinite(value)
                try:
                    bounds.check(group, kind, name)
                    assert not far, (key, value)
                except ConfigError as error:
                    assert str(error).startswith(f"{key}: "), error
                seen += 1
            holder.__setitem__(place, before) if items else setattr(holder, place, before)
    assert seen > 1000


@pytest.mark.parametrize(
    ("stage", "group", "key", "value", "told"),
    [
        pytest.param("grpo", "grpo", "lr", -1.0, "grpo.lr: -1.0 is not 1e-12", id="bound"),
        pytest.param("judge", "bench", "k_max", 0, "bench.k_max: 0 is not 1", id="count"),
        pytest.param("rollout", "rollout", "temperature", math.nan, "rollout.temp", id="nan"),
        pytest.param("curves", "scaling", "invalid", "x", "scaling.invalid: 'x' is", id="choice"),
        pytest.param("grpo", "grpo", "keep", "best", "grpo.keep: the best by", id="relation"),
        pytest.param(
            "prepare", "data", "train_mix", {"pair": -1.0}, "data.train_mix.pair", id="mapping"
        ),
    ],
)  # fmt: skip
def test_a_stage_refuses_a_slice_that_was_edited_by_hand(
    composed: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, group: str,
    key: str, value: object, told: str,
) -> None:  # fmt: skip
    path = tmp_path / "slice.yaml"
    groups = view(composed, stage)
    path.write_text(dump(groups))
    assert Slice.read(path, stage).as_dict() == groups
    groups[group][key] = value
    path.write_text(yaml.safe_dump(groups))
    assert main([stage, "--config", str(path)]) == 2
    assert f"spct: {path}: {told}" in capsys.readouterr().err


def test_a_run_is_refused_before_its_first_job() -> None:
    with pytest.raises(ConfigError, match=r"^experiment 'smoke': grpo.max_grad_norm: -1.0 is not"):
        Runs("smoke", "grpo.max_grad_norm=-1")


@pytest.mark.parametrize(
    "word", ["model.name=other", "plan.main=../model/toy_s", "plan.sizes=[../model/toy_m]"]
)
def test_results_go_by_the_name_of_a_model_so_it_has_one(word: str) -> None:
    """Two sizes of one name were one in every table."""
    with pytest.raises(ConfigError, match=r"model.name: '\w+' is not the name of its file"):
        Runs("smoke", word)


@pytest.mark.medium
@pytest.mark.parametrize(
    "name",
    [
        *sorted(path.stem for path in CONF.glob("experiment/*.yaml")),
        *sorted(f"sweep/{path.stem}" for path in CONF.glob("sweep/*.yaml")),
    ],
)
def test_every_experiment_composes_at_all_its_sizes(name: str) -> None:
    assert Runs(name).targets


def test_a_relation_is_checked_where_its_groups_are(composed: Config) -> None:
    groups = vars(composed)
    bench = dataclasses.replace(composed.bench, temperature=0.0)
    checks.check({"scaling": composed.scaling})
    with pytest.raises(ConfigError, match="bench.temperature"):
        checks.check({"bench": bench})
    with pytest.raises(ConfigError, match="bench.temperature"):
        checks.check({**groups, "bench": bench})


def test_seeds_and_threads_of_the_command_line_have_bounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["select", "seed=-1"]) == 2
    assert "seed: -1 is not 0 or more" in capsys.readouterr().err
    monkeypatch.setenv("SPCT_THREADS", "0")
    assert main(["show", "audit"]) == 2
    assert "SPCT_THREADS: 0 is not 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param(f"grpo.lr=1{'0' * 400}", "grpo.lr: a number of more than 308", id="float"),
        pytest.param(f"grpo.steps=1{'0' * 5000}", "grpo.steps: a number of more", id="integer"),
        pytest.param("plan.seeds=[[0]]", "plan.seeds: [0] is not a whole number", id="nested"),
        pytest.param(
            "data.benchmarks.toy_pairs=[]",
            "data.benchmarks.toy_pairs: [] is not a whole number",
            id="list-in-mapping",
        ),
        pytest.param("scaling.ks=[a]", "scaling.ks[0]: Value 'a' of type", id="word-in-list"),
        pytest.param("grpo=null", "grpo=null: Config group override must be", id="no-group"),
        pytest.param("sampler.openai=3", "sampler.openai=3: Merge error: int", id="no-mapping"),
    ],
)
def test_values_of_another_shape_are_named_too(word: str, message: str) -> None:
    """Tracebacks before, or a message about another key."""
    with pytest.raises(ConfigError) as caught:
        load([word])
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("null", "grpo: None is no group of keys and values", id="null"),
        pytest.param("[1]", "grpo: [1] is no group", id="list"),
        pytest.param("{}", "grpo.lr: Structured config of type", id="empty"),
        pytest.param(f"{{lr: 1{'0' * 400}}}", "lr: a number of more than 308", id="endless"),
    ],
)
def test_a_slice_of_another_shape_is_named_too(
    composed: Config, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "slice.yaml"
    groups = view(composed, "grpo")
    del groups["grpo"]
    path.write_text(f"{dump(groups)}grpo: {text}\n")
    with pytest.raises(ConfigError) as caught:
        Slice.read(path, "grpo")
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_value_of_many_digits_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        bounds.check(10**5000, kinds.Size, "grpo.steps")
    assert str(caught.value).startswith("grpo.steps: a number of thousands of digits is not")
    optim = OptimConfig("x" * 500, 1e-3, 1e-3, 0.0, 0, 1.0, 1.0)
    with pytest.raises(ConfigError) as caught:
        bounds.check(optim, OptimConfig, "rft.optim")
    assert len(str(caught.value)) < 200
