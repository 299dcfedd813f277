"""Overrides with texts in them, from the command line of Snakemake to the configuration."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.cli import parse_config
from snakemake_interface_executor_plugins.utils import format_cli_arg

from spct.asked import asked, carried
from spct.config import ConfigError
from spct.names import normalise, split
from spct.runs import Runs

TEXTS = st.text(alphabet="ab #:,'\"\\$[]{}=!\n%é`~", max_size=20)


def criteria(*words: str) -> str:
    runs = Runs("smoke", ["judge.principles=fixed", *words])
    return runs.runs[runs.targets[0]].cfg.judge.criteria


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        pytest.param("'judge.criteria=\"be kind, be brief\"'", "be kind, be brief", id="both"),
        pytest.param('judge.criteria="be kind, be brief"', "be kind, be brief", id="commas"),
        pytest.param('judge.criteria="the #1 rule" grpo.lr=5e-5', "the #1 rule", id="hash"),
        pytest.param('judge.criteria="Rules: be kind"', "Rules: be kind", id="colon"),
        pytest.param("judge.criteria='don\"t'", 'don"t', id="inner quote"),
        pytest.param('judge.criteria="don\'t guess"', "don't guess", id="apostrophe"),
        pytest.param('judge.criteria="say \\"no\\" (or $5)"', 'say "no" (or $5)', id="escaped"),
        pytest.param('judge.criteria="[be kind]"', "[be kind]", id="brackets"),
        pytest.param('judge.criteria="1e3"', "1e3", id="number"),
        pytest.param("judge.criteria=kind", "kind", id="plain"),
        pytest.param("judge.criteria=be\\ kind", "be kind", id="backslash"),
    ],
)
def test_a_text_arrives_as_it_was_meant(typed: str, text: str) -> None:
    entries = ["experiments=[smoke]", f"hydra={typed}"]
    config = parse_config(["experiments=[smoke]", "hydra=x"])
    experiments, words = asked(config, entries)
    assert experiments == ["smoke"]
    assert criteria(*words) == text
    assert len(words) == 1 + ("grpo" in typed)


def test_what_needs_no_quotes_loses_them_as_before() -> None:
    text = (
        "'scaling.ks=[1, 4]' grpo.lr=\"1e-5\" report.title='A b/c' scaling.adaptive=\"[0.9, 0.8]\""
    )
    assert normalise(text) == (
        "grpo.lr=1e-5",
        "report.title=A b/c",
        "scaling.adaptive=[0.9, 0.8]",
        "scaling.ks=[1, 4]",
    )


def test_a_list_of_overrides_is_taken_word_for_word() -> None:
    entries = ["hydra=[judge.principles=fixed, \"judge.criteria='a, #b'\"]"]
    assert asked({}, entries)[1] == ["judge.principles=fixed", "judge.criteria='a, #b'"]
    assert asked({"hydra": ["a=1", "b=2"]}, None) == (["tiny"], ["a=1", "b=2"])
    assert asked({"experiments": "smoke"}, []) == (["smoke"], [])
    assert asked({"hydra": None}, ["hydra="]) == (["tiny"], [])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param(["hydra=a=1 #b=2"], "#b=2 is a comment", id="comment"),
        pytest.param(["hydra=a=don't"], "a quote is not closed", id="apostrophe"),
        pytest.param(["hydra=a=1 b=c\\"], "a quote is not closed", id="backslash"),
        pytest.param(["hydra=a=1", "hydra=b=2"], "hydra is given twice", id="twice"),
        pytest.param(["hydra=[a=1] #b=2"], "'#b=2' behind the list would be dropped", id="list"),
        pytest.param(["experiments=[tiny] #x"], "behind the list would be dropped", id="names"),
        pytest.param(["experiments=[tiny"], "is no list", id="open list"),
        pytest.param(["experiments=[[tiny]]"], "holds more than names", id="nested"),
        pytest.param(["experiments=[tiny] hydra=a=1"], "hydra=… is an entry of its own", id="one"),
        pytest.param(["experiments=tiny hydra=a=1"], "hydra=… is an entry of its own", id="word"),
        pytest.param(["seed=3"], "knows experiments", id="unknown"),
    ],
)
def test_nothing_is_dropped_without_a_word(entries: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(parse_config(entries), entries)


def test_a_file_with_another_value_is_named() -> None:
    for config in ({"hydra": 5}, {"hydra": {"a": 1}}):
        with pytest.raises(ConfigError, match="hydra: .* is neither a text nor a list"):
            asked(config, None)


def test_a_comma_typed_for_a_stage_is_told_how(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="text with commas needs double quotes"):
        Runs("smoke", ["judge.criteria=be kind, be brief"])


# ---- what a job on a cluster is given ------------------------------------------------------------


def test_ordinary_entries_stay_readable() -> None:
    for entry in ("experiments=[tiny,tiny_no_kl]", "hydra=grpo.lr=1e-5 scaling.ks=[1,4,16]"):
        assert carried([entry]) == [entry]
    assert carried(None) == []


@given(TEXTS)
def test_a_job_is_asked_for_the_same(text: str) -> None:
    """Through Snakemake's own writing of a command line, a shell's reading, and YAML's."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    entries = ["experiments=[smoke]", f'hydra=grpo.lr=1 report.title="{quoted}"']
    first = asked(parse_config(entries), entries)
    assert len(first[1]) == 2
    line = format_cli_arg("--config", carried(entries))
    words = shlex.split(line)[1:]
    assert asked(parse_config(words), words) == first
    assert carried(words) == words
    assert asked(parse_config(words), None) == first  # a Snakemake that keeps no entries


def test_a_real_shell_reads_it_alike() -> None:
    entry = "hydra='a=\"$HOME `id` #1\"' b=2"
    line = format_cli_arg("--config", carried([entry]))
    told = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True)
    word = told.stdout.splitlines()[1]
    assert asked({}, [word])[1] == ['a="$HOME `id` #1"', "b=2"]


@given(TEXTS)
def test_a_quoted_text_is_one_override(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert len(split(f'a=1 report.title="{quoted}" b=2')) == 3
