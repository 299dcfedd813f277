"""The head of a causal model: from its decoder's hidden states to the logits of its own forward.

Beside the output embedding some families scale their logits or bend them by a soft cap; that stands
in their configuration under a name of the family's own. This is the one place that knows the names,
for sampling and for training; :mod:`spct.training.held` compares with the model's own logits, so
that a family which does something else is refused and not read wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")  # Cohere, Falcon-H1, Muse
CAPS = ("final_logit_softcapping", "logits_soft_cap")  # Gemma and others, RecurrentGemma
# How families use their ``logits_scaling``, by the beginning of their names.
DIVIDED = ("granite", "minicpm")
MULTIPLIED = ("hyperclovax",)


@dataclass(frozen=True)
class Head:
    """What follows the output embedding: ``scale * x``, or ``cap * tanh(scale * x / cap)``."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, projection: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits divided by ``temperature`` from the output embedding's result, in place."""
        if self.cap is None:
            return scaled(projection, self.scale / temperature)
        scaled(projection, self.scale / self.cap).tanh_()
        return scaled(projection, self.cap / temperature)


def scaled(values: Tensor, factor: float) -> Tensor:
    """``values`` times ``factor``, in place; a factor of 1 costs no pass over memory."""
    return values if factor == 1.0 else values.mul_(factor)


def of(model: nn.Module) -> Head:
    """The head that the model's configuration describes.

    Raises ``ValueError`` for a family whose ``logits_scaling`` is not known to divide or multiply.
    """
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    scale = 1.0
    for name in FACTORS:
        scale *= _number(config, name) or 1.0
    scaling, kind = _number(config, "logits_scaling"), str(config.model_type)
    if scaling not in (None, 1.0):
        if not kind.startswith(DIVIDED + MULTIPLIED):
            raise ValueError(f"{kind} scales its logits in a way not known here")
        scale = scale * scaling if kind.startswith(MULTIPLIED) else scale / scaling
    caps = [cap for name in CAPS if (cap := _number(config, name)) is not None]
    return Head(scale, caps[0] if caps else None)


def _number(config: Any, name: str) -> float | None:
    value = getattr(config, name, None)
    return None if value is None else float(value)


def logits(model: nn.Module, states: Tensor) -> Tensor:
    """Logits [..., V] from the decoder's last hidden states [..., D], in the weights' dtype."""
    projection: Tensor = model.get_output_embeddings()(states)  # type: ignore[operator]
    return of(model)(projection)
