"""Which templates and tokenizers understand one another, told from files. No torch here.

The toy world's tokenizer has a token for each of its few hundred words and reads any other word as
unknown; its template is a row of those words, in which an ordinary model finds no question.
"""

from __future__ import annotations

from spct import models
from spct.errors import ConfigError
from spct.judge import prompts

TOY = "toy.jinja"
_MARK = '"<judge>"'  # a word of the toy vocabulary that no other tokenizer has


def check(template: str, source: str) -> None:
    """Raises ``ConfigError`` for the toy template with an ordinary tokenizer, and the reverse.

    ``source`` is a ``model.source``. Nothing is known of an endpoint, nor of a folder that is not
    there yet; what lies on a hub is ordinary.
    """
    reads_toy, shipped = _is_toy(source), prompts.path(template).parent == prompts.FOLDER
    if reads_toy is None or not shipped:
        return
    others = " or ".join(sorted(p.name for p in prompts.FOLDER.glob("*.jinja") if p.name != TOY))
    if template == TOY and not reads_toy:
        raise ConfigError(
            f"judge.template: {TOY} is written in the toy world's own words, which the tokenizer "
            f"of model.source, {source}, does not have; set judge.template={others}"
        )
    if template != TOY and reads_toy:
        raise ConfigError(
            f"judge.template: {template} is in plain English, of which the toy world's tokenizer "
            f"of model.source, {source}, knows no word; set judge.template={TOY}, or another model"
        )


def _is_toy(source: str) -> bool | None:
    """Whether the tokenizer is the toy world's; None if that cannot be known here."""
    if models.served(source) is not None:
        return None
    folder = models.folder(source)
    if folder is None:
        return False
    file = folder / "tokenizer.json"
    if file.is_file():
        return _MARK in file.read_text(encoding="utf-8")
    return False if (folder / "config.json").is_file() else None  # a model of another tokenizer
