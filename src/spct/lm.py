"""Language models: load and save ordinary Hugging Face folders, encode prompts and completions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from spct import artifact, chat, ends, thoughts
from spct.errors import ConfigError
from spct.judge.neutralise import neutralise
from spct.schema import ModelConfig
from spct.training.attention import implementation
from spct.training.batching import Example
from spct.training.precision import DTYPES

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LM:
    """A causal language model, its tokenizer and the hash that banks record.

    ``weights`` is None where another process or engine holds them (``load(…, weights=False)``);
    all but :attr:`model` works without. ``source`` is the folder or hub id it was read from, ``""``
    for a new model, and ``spec`` the configuration that named it.
    """

    weights: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    hash: str
    source: str = ""
    spec: ModelConfig | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The weights. Raises ``RuntimeError`` where they were left out."""
        if self.weights is None:
            raise RuntimeError(f"{self.source} was loaded without its weights (weights=False)")
        return self.weights

    @cached_property
    def config(self) -> PretrainedConfig:
        """The architecture, as ``transformers`` describes it."""
        if self.weights is not None:
            return self.weights.config
        import transformers

        assert self.spec is not None
        return transformers.AutoConfig.from_pretrained(self.source, **options(self.spec))

    @cached_property
    def params(self) -> int:
        """Parameters, tied ones counted once; without weights from a model that has only shapes."""
        if self.weights is not None:
            return sum(p.numel() for p in self.weights.parameters())
        import transformers

        assert self.spec is not None
        with torch.device("meta"):
            hollow = transformers.AutoModelForCausalLM.from_config(
                self.config, trust_remote_code=self.spec.trust_remote_code
            )
        return sum(p.numel() for p in hollow.parameters())

    @property
    def context(self) -> int | None:
        """Tokens that prompt and completion may have together; None if the model sets no limit."""
        text = self.config.get_text_config()
        limits = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        limit = next((one for one in limits if one is not None), None)
        return None if limit is None else int(limit) - self._unused_positions

    @cached_property
    def _unused_positions(self) -> int:
        """Positions that no token has: RoBERTa and its kin count from behind their padding's."""
        named = () if self.weights is None else self.weights.named_modules()
        tables = [table for name, table in named if name.endswith("position_embeddings")]
        paddings = [getattr(table, "padding_idx", None) for table in tables]
        return max((one + 1 for one in paddings if one is not None), default=0)

    @property
    def tokenizer_hash(self) -> str:
        """16 hex digits over vocabulary, merges, special tokens, chat template and its date."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = sorted(self.tokenizer.get_vocab().items()) if backend is None else backend.to_str()
        dated = f"\n{self.date}" if self.date else ""
        return artifact.text_hash(f"{words}\n{self.tokenizer.chat_template}{dated}")[:16]

    @property
    def date(self) -> str:
        """The day that its chat template writes, if it writes any: ``model.date``."""
        return "" if self.spec is None else self.spec.date

    @cached_property
    def ends(self) -> ends.Ends:
        """What ends a text of this model: :func:`spct.ends.find`."""
        size = len(self.tokenizer)
        if self.weights is not None or self.spec is not None:
            size = int(getattr(self.config.get_text_config(), "vocab_size", size))
        return ends.find(self.tokenizer, _stated_ends(self), size)

    @property
    def eos(self) -> frozenset[int]:
        """Every token that ends a text: sampling stops at any of them."""
        return self.ends.ids

    @property
    def end(self) -> int:
        """The one of :attr:`eos` that ends a turn, which is taught. Raises ``ConfigError``."""
        if self.ends.turn is None:
            raise ConfigError(
                f"model.source: no token ends a text of {self.source or 'this model'}: its "
                "tokenizer has no eos_token, its generation config no eos_token_id and its chat "
                "template none; name the eos_token in its tokenizer_config.json, or, if it is only "
                "sampled, set sampler.stop"
            )
        return self.ends.turn

    @property
    def pad(self) -> int:
        """Fills batches up, under a mask: never read, never taught, also where it is an end."""
        pad = self.tokenizer.pad_token_id
        return int(self.ends.turn or 0) if pad is None else int(pad)

    @cached_property
    def _begin(self) -> tuple[int, ...]:
        return ends.begin(self.tokenizer)

    @cached_property
    def thinks(self) -> bool:
        """Whether its chat template opens thoughts at the end of every prompt."""
        return bool(self.tokenizer.chat_template) and thoughts.opened(self._rendered("?"))

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt: through the chat template where the tokenizer has one.

        It has one begin, where the tokenizer knows any, and no end but those of the template.
        """
        return self.encode_rendered(self._rendered(text) if self.tokenizer.chat_template else text)

    def encode_rendered(self, text: str) -> tuple[int, ...]:
        """Token ids of a text as it is, or as a chat template rendered it, with one begin."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return ends.begun(ids, self._begin, self.tokenizer.bos_token_id)

    def encode_completion(self, text: str, *, ended: bool = True) -> tuple[int, ...]:
        """Token ids of a completion and, if it ended itself, the end of a turn, if there is any.

        What reads like an end within the text is written out and ends nothing.
        """
        ids = self.tokenizer.encode(neutralise(text, self._end_marks), add_special_tokens=False)
        taught = ended and self.ends.turn is not None
        return (*ids, self.end) if taught else tuple(ids)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """What no text from data may hold: :func:`spct.ends.marks`."""
        return ends.marks(self.tokenizer, self.eos)

    @cached_property
    def _end_marks(self) -> tuple[str, ...]:
        """The ends that a text may hold by accident."""
        written = self.tokenizer.convert_ids_to_tokens(sorted(self.eos))
        return tuple(mark for mark in written if mark in self.marks)

    def conversation(self, turns: Sequence[Mapping[str, str]], *, prompt: bool = False) -> str:
        """Turns as the chat template writes them (:func:`spct.chat.render`)."""
        return chat.render(self.tokenizer, turns, date=self.date, prompt=prompt)

    def _rendered(self, text: str) -> str:
        """A prompt as the chat template writes it."""
        return self.conversation([{"role": "user", "content": text}], prompt=True)

    def example(self, prompt: str, completion: str, *, ended: bool = True) -> Example:
        return Example(self.encode_prompt(prompt), self.encode_completion(completion, ended=ended))


def _stated_ends(lm: LM) -> list[int]:
    """:func:`spct.ends.stated` of its generation config, or of its model's config without one."""
    import transformers

    if lm.weights is None and lm.spec is None:
        return []
    stated = getattr(lm.weights, "generation_config", None)
    if stated is None and lm.source:
        revision = lm.spec.revision if lm.spec is not None else None
        with suppress(OSError):  # there is no such file
            stated = transformers.GenerationConfig.from_pretrained(lm.source, revision=revision)
    if stated is None:
        stated = transformers.GenerationConfig.from_model_config(lm.config)
    return ends.stated(lm.tokenizer, stated, lm.config.get_text_config())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tier() -> str:
    """The determinism tier: ``cpu`` (bit for bit) only on one thread, else what it ran on."""
    if device().type != "cpu":
        return "gpu"
    return "cpu" if torch.get_num_threads() == 1 else "cpu_threads"


def source_of(config: ModelConfig, init: str | Path) -> str | Path:
    """``init`` if given, else the configured base model (a folder or a hub id).

    Raises ``artifact.BrokenArtifact`` naming a folder that is missing, or one that is sealed and
    whose files differ from its manifest.
    """
    from spct import models

    if str(init) and not Path(init).is_dir():
        raise artifact.BrokenArtifact(f"{init} is no model folder; run the stage that writes it")
    source = init if str(init) else models.resolve(config.source)
    if (Path(source) / artifact.MANIFEST).is_file():
        artifact.check_dir(Path(source))
    return source


def model_hash(source: str | Path, revision: str | None = None) -> str:
    """16 hex digits: a sealed folder's content hash, or a hash of hub id and revision."""
    folder = Path(source)
    if (folder / artifact.MANIFEST).is_file():
        return artifact.content_hash(folder)[:16]
    if folder.is_dir():
        parts = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
        return artifact.text_hash("".join(artifact.file_hash(p) for p in parts))[:16]
    return artifact.text_hash(f"{source}@{revision}")[:16]


def options(config: ModelConfig) -> dict[str, Any]:
    """What every ``from_pretrained`` gets: remote code only if asked by name, a pinned revision."""
    revision = {"revision": config.revision} if config.revision else {}
    return {"trust_remote_code": config.trust_remote_code, **revision}


def attention(source: str | Path, config: ModelConfig) -> dict[str, Any]:
    """:func:`options` for a model's weights: with an attention that leaves nothing of it out."""
    import transformers

    shape = transformers.AutoConfig.from_pretrained(source, **options(config))
    return {**options(config), **implementation(shape)}


def quiet() -> None:
    """No progress bars and no advice from ``transformers``: stages report for themselves."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def load(
    config: ModelConfig,
    init: str | Path = "",
    *,
    weights: bool = True,
    dtype: torch.dtype | None = None,
    place: torch.device | None = None,
) -> LM:
    """The model at ``init`` (a folder), or the base of ``config``; safetensors only, in eval mode.

    Without ``weights`` only the tokenizer is read: for engines that hold the weights themselves.
    ``dtype``: of the weights in memory, if not the configured one
    (:class:`spct.training.precision.Precision`). ``place``: where they lie, if not on
    :func:`device`.
    Raises as :func:`source_of` does, and ``artifact.BrokenArtifact`` for weights cut short.
    """
    import transformers

    quiet()
    source = source_of(config, init)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options(config))
    if tokenizer.chat_template:  # what it cannot render, it tells before the weights are read
        chat.render(tokenizer, [{"role": "user", "content": "?"}], date=config.date, prompt=True)
    model = None
    if weights:
        kind = dtype or DTYPES[config.dtype]
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                source, dtype=kind, use_safetensors=True, **attention(source, config)
            )
        except ValueError as error:
            if not str(error).startswith("Unrecognized configuration class"):
                raise
            raise ConfigError(
                f"model.source: transformers has no causal language model for {source} "
                f"({str(error).split('.', maxsplit=1)[0][:80]}…); name another model"
            ) from error
        except SafetensorError as error:
            raise artifact.BrokenArtifact(
                f"the weights in {source} cannot be read ({error}); get that model again"
            ) from error
        model = model.to(place or device()).eval()
    return LM(model, tokenizer, model_hash(source, config.revision), str(source), config)


def save(lm: LM, folder: Path) -> None:
    """Write model and tokenizer into an existing folder (seal it with ``artifact.atomic_dir``)."""
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
