"""Pretraining of a toy base: drills alone, then the whole corpus, loss on completions only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import OmegaConf

from spct import artifact, bounds, lm, seeds
from spct.errors import ConfigError
from spct.kinds import Passes, Size
from spct.pretrain import tokenizer as toy_tokenizer
from spct.pretrain.corpus import CorpusConfig, build
from spct.schema import OptimConfig
from spct.training.batching import Example, by_tokens
from spct.training.choice import completion_logprobs
from spct.training.groups import grouped
from spct.training.optim import Optimizer

HEAD_DIM = 32  # the narrowest that vLLM's CPU build takes


@dataclass
class SizeConfig:
    """A stock Llama shape; heads are ``HEAD_DIM`` wide whatever the hidden size."""

    hidden: Size
    layers: Size
    heads: Size
    kv_heads: Size
    mlp: Size


@dataclass
class TrainConfig:
    drill_epochs: Passes
    epochs: Passes
    batch_tokens: Size
    optim: OptimConfig


@dataclass
class Recipe:
    """The whole of ``conf/pretrain/toy.yaml``."""

    corpus: CorpusConfig
    train: TrainConfig
    sizes: dict[str, SizeConfig]


def read_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """The recipe file, its values within the bounds of their types.

    OmegaConf names a bad key; raises ``ConfigError`` naming the file and a value out of bounds.
    """
    merged = OmegaConf.merge(
        OmegaConf.structured(Recipe), OmegaConf.load(path), OmegaConf.from_dotlist(overrides or [])
    )
    recipe = OmegaConf.to_object(merged)
    assert isinstance(recipe, Recipe)
    try:
        bounds.check(recipe, Recipe, "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return recipe


def new_model(size: SizeConfig, seed: int) -> lm.LM:
    """A Llama of that shape at random weights, with the toy tokenizer."""
    import transformers

    tokenizer = toy_tokenizer.build()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return lm.LM(transformers.LlamaForCausalLM(config).to(lm.device()), tokenizer, "")


def _epochs(
    examples: list[Example], epochs: float, budget: int, *names: object
) -> Iterator[list[Example]]:
    lengths = [len(example) for example in examples]
    done, epoch = 0.0, 0
    while done < epochs * len(examples):
        for batch in by_tokens(lengths, budget, *names, epoch):
            if done >= epochs * len(examples):
                return
            done += len(batch)
            yield [examples[i] for i in batch]
        epoch += 1


def pretrain(recipe: Recipe, name: str, out: Path) -> None:
    """Train one size of the recipe and write it as a sealed model folder with its training log."""
    base = new_model(recipe.sizes[name], seeds.derive("base", name, recipe.corpus.seed) % 2**31)
    kinds, examples = [], []
    for kind, (prompt, completion) in build(recipe.corpus):
        kinds.append(kind)
        examples.append(base.example(prompt, completion))
    drills = [e for kind, e in zip(kinds, examples, strict=True) if kind.startswith("drill/")]
    train = recipe.train
    batches = [
        *_epochs(drills, train.drill_epochs, train.batch_tokens, recipe.corpus.seed, "drills"),
        *_epochs(examples, train.epochs, train.batch_tokens, recipe.corpus.seed, "all"),
    ]
    log = _fit(base, batches, train.optim)
    base.model.eval()
    with artifact.atomic_dir(
        out, stage="bases", params=base.params, recipe=_digest(recipe, name)
    ) as folder:
        lm.save(base, folder)
        (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))


def _digest(recipe: Recipe, name: str) -> str:
    """Hash of what decides this size: corpus, training and its own shape."""
    used = Recipe(recipe.corpus, recipe.train, {name: recipe.sizes[name]})
    return artifact.text_hash(OmegaConf.to_yaml(OmegaConf.structured(used), sort_keys=True))[:16]


def _fit(base: lm.LM, batches: list[list[Example]], config: OptimConfig) -> list[dict[str, float]]:
    optimizer = Optimizer(base.model, config, len(batches))
    log: list[dict[str, float]] = []
    total, tokens, started = 0.0, 0, time.monotonic()
    base.model.train()
    for step, examples in enumerate(batches):
        groups, _ = grouped(examples)
        loss = -completion_logprobs(base.model, groups).logprobs.mean()
        loss.backward()
        optimizer.step(step)
        total, tokens = total + float(loss.detach()), tokens + sum(map(len, examples))
        if (step + 1) % 100 == 0 or step + 1 == len(batches):
            log.append(
                {"step": step + 1, "loss": round(total / ((step % 100) + 1), 5), "tokens": tokens}
            )
            rate = tokens / (time.monotonic() - started)
            print(
                f"step {step + 1}/{len(batches)} loss {log[-1]['loss']:.4f} {rate:,.0f} tok/s",
                file=sys.stderr,
            )
            total = 0.0
    return log


def main(argv: list[str] | None = None) -> None:
    """``python -m spct.pretrain.train RECIPE NAME OUT [overrides]``."""
    path, name, out, *overrides = sys.argv[1:] if argv is None else argv
    try:
        recipe = read_recipe(Path(path), overrides)
    except ConfigError as error:
        sys.exit(f"pretrain: {error}")
    pretrain(recipe, name, Path(out))


if __name__ == "__main__":
    main()
