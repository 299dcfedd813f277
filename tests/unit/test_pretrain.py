from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf.errors import OmegaConfBaseException

from spct import artifact, lm, seeds
from spct.data import toy
from spct.judge.parse import Outcome, parse
from spct.pretrain import corpus, teacher, tokenizer
from spct.pretrain.train import Recipe, SizeConfig, new_model, pretrain, read_recipe
from spct.schema import ModelConfig

RECIPE = Path(__file__).parents[2] / "conf" / "pretrain" / "toy.yaml"
N_OF = {"pair": 2, "best_of_4": 4, "single": 1}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """The shipped recipe with a handful of texts of every kind."""
    full = read_recipe(RECIPE)
    few = replace(
        full.corpus,
        drills=dict.fromkeys(full.corpus.drills, 12),
        judging=dict.fromkeys(full.corpus.judging, 12),
    )
    return replace(full, corpus=few)


@pytest.fixture(scope="module")
def texts(recipe: Recipe) -> list[tuple[str, tuple[str, str]]]:
    return list(corpus.build(recipe.corpus))


def test_every_kind_is_there(recipe: Recipe, texts: list) -> None:
    kinds = [kind for kind, _ in texts]
    wanted = [f"drill/{name}" for name in recipe.corpus.drills] + list(recipe.corpus.judging)
    assert list(dict.fromkeys(kinds)) == wanted
    assert len(kinds) == 12 * len(wanted)


def test_texts_survive_the_tokenizer(texts: list) -> None:
    coder = tokenizer.build()
    for kind, (prompt, completion) in texts:
        ids = coder.encode(f"{prompt} {completion}")
        assert coder.unk_token_id not in ids, (kind, prompt, completion)
        assert coder.decode(coder.encode(completion)) == completion
        # a query's " , " comes back without its first space
        assert coder.decode(coder.encode(prompt)) == prompt.replace(" ,", ",")


def test_vocabulary_ids_never_change() -> None:
    """The shipped weights know words by number."""
    words = tokenizer.vocabulary()
    assert len(words) == len(set(words)) == 153
    digest = artifact.text_hash("\n".join(words))
    assert digest.startswith("b3bc44acd0250696")


def test_completions_are_what_the_prompt_asks_for(texts: list) -> None:
    for kind, (prompt, completion) in texts:
        if "/" not in kind or kind.startswith("drill/"):
            continue
        item_kind, form = kind.split("/")
        n = N_OF[item_kind]
        assert ("Principles:" in completion) == (form not in ("none", "given"))
        assert ("Criteria:" in prompt, "Reference:" in prompt, "Hint:" in prompt) == (
            form == "given", form == "reference", form == "hint",
        )  # fmt: skip
        entries, high = (1, n) if form == "index" else (n, 10)
        low, high = (0, 1) if n == 1 and form != "rating" else (1, high)
        outcome = parse(completion, entries, low, high).outcome
        assert outcome == (Outcome.malformed if form == "critique" else Outcome.ok)
        assert [int(x) for x in re.findall(r"\[(\d)\]", completion)] == list(range(1, n + 1))


def test_prompts_fit_the_model_and_the_sampler(texts: list) -> None:
    coder = tokenizer.build()
    assert max(len(coder.encode(prompt)) for _, (prompt, _) in texts) <= 128
    assert max(len(coder.encode(completion)) for _, (_, completion) in texts) <= 96


def test_most_hinted_transcripts_agree(recipe: Recipe) -> None:
    config = replace(recipe.corpus, drills={}, judging={"pair/hint": 150})
    right = 0
    for _, (prompt, completion) in corpus.build(config):
        shown = int(re.search(r"Hint: \[(\d)\]", prompt).group(1))  # type: ignore[union-attr]
        scores = parse(completion, 2, 1, 10).scores
        assert scores is not None
        right += scores[shown - 1] > scores[2 - shown]
    assert right / 150 > 0.8


def _accuracy(mode: teacher.Mode, count: int = 1500) -> float:
    """Share of pairs whose better response this mode scores strictly higher."""
    right = 0
    for i in range(count):
        rng = seeds.rng("teacher", i)
        item = toy.make_item(rng, "pair", "d", "i")
        transcript = teacher.judge(rng, item.meta["weights"], item.responses, mode)
        right += transcript.scores[item.label.value] > transcript.scores[1 - item.label.value]
    return right / count


def test_diligence_pays_and_sloppiness_is_near_chance(recipe: Recipe) -> None:
    modes = recipe.corpus.modes
    diligent, sloppy = _accuracy(modes["diligent"]), _accuracy(modes["sloppy"])
    assert 0.66 < diligent < 0.85
    assert 0.28 < sloppy < 0.5
    flawless = replace(
        modes["diligent"], two=1.0, relevant=1.0, weight=1.0, misread=0.0, noise=0.0, first_bias=0.0
    )
    assert _accuracy(flawless, 600) > diligent + 0.03


def test_teacher_pieces() -> None:
    rng = np.random.default_rng(0)
    assert teacher.read_levels(rng, "dull terse", ["vivid", "brief", "safe"], 0.0) == {
        "vivid": 2, "brief": 5, "safe": 3,
    }  # fmt: skip
    assert teacher.weighted_mean({"vivid": 2, "brief": 5}, {"vivid": 2, "brief": 3}) == 3.8
    mode = teacher.Mode(1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, first_bias=2.0)
    same = teacher.judge(rng, {"vivid": 1}, ["dazzling", "dazzling"], mode)
    assert same.scores == [10, 8]  # round(5.5 + 2 + 2) and round(5.5 + 2), to even
    alone = teacher.judge(rng, {"vivid": 1}, ["dull"], mode)
    assert alone.scores == [4] and alone.box("verdict") == "0"
    assert same.text(output="index").endswith(r"[1] vivid 5 [2] vivid 5 Scores: \boxed{1}")
    assert same.text(output="critique") == "Principles: vivid 1 Critique: [1] vivid 5 [2] vivid 5"


@pytest.mark.parametrize("override", ["train.epoks=2", "corpus.modes.sloppy.sher=1", "size={}"])
def test_a_bad_key_is_named(override: str) -> None:
    with pytest.raises(OmegaConfBaseException, match=override.split("=")[0].split(".")[-1]):
        read_recipe(RECIPE, [override])


def test_shapes_fit_vllm_and_nest(recipe: Recipe) -> None:
    params = []
    for size in recipe.sizes.values():
        assert size.heads % size.kv_heads == 0
        model = new_model(size, 0)
        assert model.model.config.head_dim >= 32
        params.append(model.params)
    assert params == sorted(params)


def test_pretraining_writes_a_folder_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    few = replace(
        recipe.corpus, drills=dict.fromkeys(recipe.corpus.drills, 20), judging={"pair/self": 60}
    )
    train = replace(recipe.train, epochs=1.0, batch_tokens=1024)
    small = Recipe(few, train, {"xs": SizeConfig(32, 1, 1, 1, 64)})
    for name in ("one", "two"):
        pretrain(small, "xs", tmp_path / name)
    one, two = tmp_path / "one", tmp_path / "two"
    assert artifact.content_hash(one) == artifact.content_hash(two)
    assert artifact.check_dir(one)["recipe"] == artifact.check_dir(two)["recipe"]
    model = lm.load(ModelConfig("xs", str(one), None, "float32", False))
    assert model.params == artifact.read_manifest(one)["params"]
    assert model.hash == artifact.content_hash(one)[:16]
    assert model.tokenizer.decode(model.encode_completion(r"\boxed{8, 7}")[:-1]) == r"\boxed{8, 7}"
    assert model.encode_completion("so")[-1] == model.end != model.pad
