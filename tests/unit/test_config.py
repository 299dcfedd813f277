"""Every conf file composes; every mistake a person can make is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spct import config
from spct.__main__ import main
from spct.config import ConfigError, Slice, dump, load, view
from spct.judge import prompts
from spct.judge.task import Judge
from spct.names import expand
from spct.records import Item, Label
from spct.stages import STAGES

CONF = Path(__file__).parents[2] / "conf"
# Expanded to runs, twice; a recipe with its own reader; parts of conf/data, each composed below.
SOURCES = {"source", "bench_source"}
NOT_COMPOSED = {"sweep", "set", "pretrain", *SOURCES}
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in NOT_COMPOSED
)


COMPANIONS = {"sampler=openai": ["plan=endpoint"]}  # it goes with a model of an endpoint alone


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes(choice: str) -> None:
    cfg = load([choice, *COMPANIONS.get(choice, [])])
    assert all(view(cfg, stage) for stage in STAGES)


@pytest.mark.parametrize(("group", "role"), [("source", "train"), ("bench_source", "bench")])
def test_every_source_composes_into_the_data(group: str, role: str) -> None:
    names = {path.stem for path in (CONF / group).glob("*.yaml")} - {"default"}
    given = set(getattr(load(["data=real"]).data, f"{role}_sources"))
    added = [f"+{group}@data.{role}_sources.{name}={name}" for name in sorted(names - given)]
    found = getattr(load(["data=real", *added]).data, f"{role}_sources")
    assert set(found) == names
    assert all(source.name == name and source.license for name, source in found.items())


@pytest.mark.parametrize("path", sorted(CONF.glob("sweep/*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_expands_to_runs_that_compose(path: Path) -> None:
    runs = expand(f"sweep/{path.stem}")
    assert len(runs) > 1
    for experiment, overrides in runs:
        load([f"experiment={experiment}", *overrides])


@pytest.mark.parametrize("path", sorted(CONF.glob("model/*.yaml")), ids=lambda path: path.stem)
def test_a_model_is_named_like_its_file(path: Path) -> None:
    assert load([f"model={path.stem}"]).model.name == path.stem


def states_all(path: Path) -> bool:
    """Whether a file of the configuration states all keys of its group, not only differences."""
    if path.parent.name == "source" and path.stem == "default":
        return True
    several = path.read_text().startswith("# @package _global_\n") and path.stem != "endpoint"
    return not several and path.parent.name not in NOT_COMPOSED | {"experiment"}


WHOLE = sorted(filter(states_all, CONF.glob("*/*.yaml")))


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_key_of_a_group_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        key = line.strip()
        if key and not key.startswith(("#", "- /")) and not key.endswith("optim:"):
            assert above.strip().startswith("#"), f"{path}: no comment above {key!r}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grpo.lrr=1", "grpo.lrr: no such key; grpo has lr,"),
        ("rft.optim.lrr=1", "rft.optim.lrr: no such key; rft.optim has name, lr"),
        ("+grpo.extra=1", "grpo.extra: no such key"),
        ("grop.lr=1", "grop: no such key; the top level has"),
        ("grpo.lr=fast", "grpo.lr: Value 'fast' of type 'str' could not be converted to Float"),
        ("grpo.steps=1.5", "grpo.steps: Value '1.5'"),
        ("plan.seeds=3", "plan.seeds: "),
        ("plan.seeds=[]", "plan.seeds: [] is not 1 or more"),
        ("plan.policies=[grpo,rft]", "plan.policies: each at most once, in the order"),
        ("plan.policies=[base,sft]", "plan.policies: 'sft' is not one of base, rft, grpo"),
        ("judge.principles=maybe", "judge.principles: 'maybe' is not one of self, none, fixed"),
        ("experiment=tinyy", "Could not find 'experiment/tinyy' Available options"),
        ("model=toy_xxl", "Could not find 'model/toy_xxl' Available options"),
        ("plan.main=toy_xxl", "Could not find 'model/toy_xxl'"),
        ("~grpo", "grpo: "),
        ("data.world=v2", "data.world: 'v2' is not one of v1"),
        ("+data.train_mix.shift=0.1", "data.train_mix: 'shift' is not one of pair, best_of_4"),
        ("data.train_mix={pair: 0, single: 0, best_of_4: 0}", "data.train_mix: shares are 0"),
        ("+data.benchmarks.toy_pair=9", "data.benchmarks: 'toy_pair' is not one of toy_pairs"),
        ("data.benchmarks.toy_pairs=0", "data.benchmarks.toy_pairs: 0 is not 1 or more"),
        ("judge.template=none.jinja", "judge.template: no file none.jinja in"),
        ("judge.template=setup.cfg/", "judge.template: "),
        ("judge.score_min=10", "judge.score_min: 10 is not below judge.score_max, 10"),
        ("judge.single=rating", "judge.single: a rating is neither right nor wrong, so nothing"),
        ("judge.principles=fixed", "judge.criteria: principles are fixed, but none are given"),
        ("judge.criteria=none.txt", "judge.criteria: no file none.txt in"),
        ("bench.single=both", "bench.single: 'both' is not one of '', verdict, rating"),
        ("bench.order=any", "bench.order: 'any' is not one of '', random, balanced, fixed"),
        ("scaling.subsets=0", "scaling.subsets: 0 is not 1 or more"),
        ("scaling.bootstrap=0", "scaling.bootstrap: 0 is not 20 or more"),
        ("scaling.k_meta_share=0", "scaling.k_meta_share: 0.0 is not above 0 and at most 1"),
        ("scaling.level=1", "scaling.level: 1.0 is not 0.5 or more and at most 0.9999"),
        ("grpo.steps=0", "grpo.steps: 0 is not 1 or more"),
        ("grpo.updates_per_rollout=0", "grpo.updates_per_rollout: 0 is not 1 or more"),
        ("grpo.temperature=0", "grpo.temperature: 0.0 is not 0.01 or more"),
        ("bench.temperature=-1", "bench.temperature: -1.0 is not 0, or 0.01 or more"),
        ("rft.epochs=0", "rft.epochs: 0.0 is not above 0"),
        ("metarm.epochs=-1", "metarm.epochs: -1.0 is not above 0"),
        ("sampler.top_p=0", "sampler.top_p: 0.0 is not above 0 and at most 1"),
        ("sampler.top_p=0.9", "sampler.top_p: 0.9 cuts the tail that GRPO's ratio counts"),
        ("grpo.lr=1e-5,1e-6", "are a sweep, see conf/sweep"),
        ("grpo.lr", "grpo.lr"),
    ],
)
def test_mistakes_are_named_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_model_follows_the_plan_unless_chosen() -> None:
    assert load(["experiment=smoke"]).model.name == "toy_s"
    assert load(["experiment=smoke", "model=toy_m"]).model.name == "toy_m"


def test_a_model_may_adapt_other_groups_and_an_experiment_wins() -> None:
    assert load(["model=toy_l"]).bench.k_max < load(["model=toy_m"]).bench.k_max
    assert (
        load(["model=toy_l", "experiment=smoke"]).bench.k_max
        == load(["experiment=smoke"]).bench.k_max
    )


def test_a_frozen_slice_reads_back_and_is_sorted(tmp_path: Path) -> None:
    cfg = load(["grpo.lr=1e-5"])
    text = dump(view(cfg, "grpo"))
    assert text == dump(dict(reversed(view(cfg, "grpo").items())))
    path = tmp_path / "grpo.yaml"
    path.write_text(text)
    frozen = Slice.read(path, "grpo")
    assert frozen.grpo == cfg.grpo and frozen.model == cfg.model
    assert frozen.grpo.lr == 1e-5


def test_a_stage_sees_its_own_groups_only() -> None:
    cfg = Slice.of(load(), "rft")
    assert cfg.rft.epochs > 0
    with pytest.raises(ConfigError, match="stage rft reads the group 'grpo' without declaring it"):
        _ = cfg.grpo
    with pytest.raises(AttributeError):
        _ = cfg.nothing


def test_a_wrong_frozen_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grpo.yaml"
    path.write_text(dump(view(load(), "rft")))
    with pytest.raises(ConfigError, match=r"grpo.yaml: it holds .*; stage grpo reads model, "):
        Slice.read(path, "grpo")
    groups = view(load(), "grpo")
    groups["grpo"]["lrr"] = 1
    path.write_text(yaml.safe_dump(groups))
    with pytest.raises(ConfigError, match=r"grpo.yaml: grpo.lrr: no such key; grpo has lr,"):
        Slice.read(path, "grpo")


def test_conf_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPCT_CONF", raising=False)
    monkeypatch.chdir(CONF.parent / "tests")
    assert config.conf_dir() == CONF
    monkeypatch.setenv("SPCT_CONF", str(tmp_path))
    with pytest.raises(ConfigError, match=str(tmp_path)):
        config.conf_dir()


def test_a_broken_template_is_named_before_any_job(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    for text, message in (("{% if %}", "Expected"), ("no delimiters", "must start with")):
        path.write_text(text)
        prompts.load.cache_clear()
        with pytest.raises(ConfigError, match=f"^judge.template: .*{message}"):
            load([f"judge.template={path}", f"report.title={message.split()[0]}"])


def test_top_p_below_one_is_for_runs_without_grpo() -> None:
    assert load(["sampler.top_p=0.9", "plan.policies=[base,rft]"]).sampler.top_p == 0.9


@pytest.mark.parametrize(
    "overrides",
    [
        ["judge.single=rating", "data.train_mix={pair: 1, single: 0, best_of_4: 0}"],
        ["judge.single=rating", "plan.policies=[base]", "plan.side_policies=[base]"],
        ["judge.order=balanced"],
        ["judge.order=fixed"],
        ["bench.single=rating", "bench.order=balanced"],
    ],
)
def test_ratings_and_other_order_plans_where_they_can_be_measured(overrides: list[str]) -> None:
    load(overrides)


def test_criteria_are_composed_as_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("be kind\n")
    words = ["judge.principles=fixed", f"judge.criteria={path}"]
    before = dump(view(load(words), "grpo"))
    assert "criteria: be kind" in before and str(path) not in before
    (tmp_path / "grpo.yaml").write_text(before)
    config._load.cache_clear()
    assert dump(view(load(words), "grpo")) == before
    path.write_text("be brief\n")
    config._load.cache_clear()
    assert dump(view(load(words), "grpo")) != before  # an edited file is another configuration
    assert Slice.read(tmp_path / "grpo.yaml", "grpo").judge.criteria == "be kind"
    assert load(["experiment=tiny_principles_fixed"]).judge.criteria == "correct 2 clear 1"


MINE = """{% set delimiters = ["@@"] %}{{ messages[-1].content }}
{% for response in responses %}@@ {{ loop.index }}
{{ response }}
{% endfor %}"""


def test_an_own_template_is_a_file_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(MINE)
    assert main(["show", "judge", f"judge.template={path}"]) == 0
    (tmp_path / "judge.yaml").write_text(capsys.readouterr().out)
    frozen = Slice.read(tmp_path / "judge.yaml", "judge")
    judge = Judge.build(frozen.judge, ["</s>"])
    item = Item(
        "i", "d", "a", "x", ({"role": "user", "content": "ask"},), ("a @@ 2", "b</s>"),
        Label("best", 0),
    )  # fmt: skip
    assert judge.prompt(item, [1, 0]) == "ask\n@@ 1\nb< /s>\n@@ 2\na @ @ 2\n"
    assert judge.template.text == MINE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{% set delimiters = ["@@"] %}', "", "a template must start with {% set delimiters"),
        ("{{ response }}", "", "does not show response 1 of 1"),
        ("in responses", "in responses[:2]", "does not show response 3 of 4"),
        ("{{ messages[-1].content }}", "", "does not show the query"),
        ("{{ response }}", "{{ respons }}", "'respons' is undefined"),
        ("{{ response }}", "@{{ response }}", "lets a text touch '@@'"),
    ],
)
def test_what_is_wrong_with_an_own_template_is_told_at_once(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(MINE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load([f"judge.template={path}"])
    assert str(caught.value).startswith(f"judge.template: {path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_template_must_show_principles_only_where_some_are_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(MINE)
    load([f"judge.template={path}", "judge.principles=none"])
    with pytest.raises(ConfigError, match="does not show the principles given"):
        load([f"judge.template={path}", "judge.principles=given"])
