"""Texts of a configuration stay as they were written, from the command line to the stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from spct import texts
from spct.asked import asked, once
from spct.config import Slice, dump, load, view
from spct.errors import ConfigError
from spct.names import normalise, split
from spct.schema import Config


@pytest.mark.parametrize("typed", ["007", "7e5", "true", "1_0", "-0.50"])
def test_a_bare_number_is_a_text_as_it_was_typed(typed: str) -> None:
    assert load(["experiment=smoke", f"report.title={typed}"]).report.title == typed
    for words in ([f"model.revision={typed}"], split(f'model.revision="{typed}"')):
        assert load(["experiment=smoke", "model=toy_s", *words]).model.revision == typed


def test_null_is_no_text_and_a_number_in_a_list_of_texts_is_refused() -> None:
    assert load(["experiment=smoke", "model=toy_s", "model.revision=null"]).model.revision is None
    with pytest.raises(ConfigError, match=r"^sampler.stop: 1.0 is no text"):
        load(["experiment=smoke", "sampler.stop=[1.]"])
    with pytest.raises(ConfigError, match=r"^report.title: \?\?\? means that nothing was set"):
        load(["experiment=smoke", 'report.title="???"'])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Is ${x}^2$ right? $${y}$$", id="formula"),
        pytest.param("${oc.env:HOME} ${bench.k_max}", id="interpolation"),
        pytest.param("a\\${b} \\\\${c} ${", id="backslashes"),
        pytest.param("a\u2028b\x85c\td\n\n  e", id="spaces"),
    ],
)
def test_a_frozen_text_is_read_as_it_stands(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.txt").write_text(text)
    words = ["judge.principles=fixed", f"judge.criteria={tmp_path / 'rules.txt'}"]
    cfg = load(["experiment=smoke", *words])
    path = tmp_path / "slice.yaml"
    path.write_text(dump(view(cfg, "judge")))
    assert cfg.judge.criteria == text
    assert Slice.read(path, "judge").judge.criteria == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("k_max: 4", "k_max: 4\n  k_max: 2", "bench.k_max: given twice", id="twice"),
        pytest.param("name: toy_s", "date: 2020-13-45", "not YAML: month must be", id="day"),
        pytest.param("name: toy_s", "name: &a [*a]", "not YAML: it holds itself", id="itself"),
        pytest.param("name: toy_s", f"name: {'[' * 3000}", "not YAML: it holds", id="deep"),
        pytest.param("name: toy_s", "name: 7", "model.name: 7 is no text", id="number"),
    ],
)
def test_a_slice_edited_by_hand_is_refused_in_words(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = dump(view(load(["experiment=smoke"]), "judge"))
    assert text.count(old) == 1
    path = tmp_path / "slice.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        Slice.read(path, "judge")


def test_a_slice_that_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=f"^{path}: .*; name a frozen file"):
            Slice.read(path, "judge")


def test_the_last_of_a_key_counts_however_it_is_prefixed() -> None:
    assert normalise("grpo.steps=3 ++grpo.steps=4") == ("++grpo.steps=4",)
    assert normalise("++grpo.steps=3 grpo.steps=4") == ("grpo.steps=4",)


def test_two_flags_and_a_broken_code_are_refused() -> None:
    once(["snakemake", "--cores", "1", "--config", "experiments=[smoke]", "--configfile", "x"])
    for words in (["--config", "a=1", "--config=b=2"], ["-C", "a=1", "--config", "b=2"]):
        with pytest.raises(ConfigError, match="drops all but the last"):
            once(["snakemake", *words])
    for code in ("", "!!", "aGVsbG8="):
        with pytest.raises(ConfigError, match="is no list in base64"):
            asked({}, [f"hydra=base64:{code}"])


def test_a_text_that_hydra_cannot_read_is_told_how() -> None:
    with pytest.raises(ConfigError, match="needs double quotes that reach Hydra"):
        load(["experiment=smoke", "report.title=ünïcode"])


def test_what_holds_a_text() -> None:
    words = ("report.title=x", "model.revision=x", "grpo.lr=x", "nothing.here=x", "plan.sizes=[]")
    assert list(map(texts.is_text, words)) == [True, True, False, False, False]
    with pytest.raises(ConfigError, match=r"^data.train_sources.a.sha256.f: 12 is no text"):
        texts.check({"data": {"train_sources": {"a": {"sha256": {"f": 12}}}}}, Config)
    texts.check({"data": {"train_sources": {"a": {"options": {"n": 12}}}}}, Config)
