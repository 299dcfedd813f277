"""The reward models that are compared: what each takes, how it scales, and where its code is.

Nothing here imports torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from spct.baselines.rows import CRITIC, STOCK, TOKEN_PROB, TRAINED
from spct.errors import ConfigError

YES, NO, PAIRS = "yes", "no", "as pairs"


@dataclass(frozen=True)
class Approach:
    """A row of the table of input flexibility (paper §2.1), as this implementation has it.

    ``one``, ``two`` and ``many`` say whether that many responses can be rewarded: ``yes``, ``no``
    or ``as pairs``, everybody against everybody. ``samples`` is what sampling k times gives more
    of, empty where a second look is equal to the first.
    """

    title: str
    reward: str  # scalar | semi-scalar | generative
    scoring: str  # pointwise | pairwise
    one: str
    two: str
    many: str
    samples: str

    @property
    def flexible(self) -> bool:
        """Whether it takes any number of responses in one form."""
        return {self.one, self.two, self.many} == {YES}

    @property
    def scalable(self) -> bool:
        """Whether more samples at inference change its reward."""
        return bool(self.samples)


APPROACHES = {
    "btrm": Approach("Bradley–Terry", "scalar", "pointwise", YES, YES, YES, ""),
    "pairrm": Approach("PairRM", "scalar", "pairwise", NO, YES, PAIRS, ""),
    STOCK: Approach("trained classifier", "scalar", "pointwise", YES, YES, YES, ""),
    CRITIC: Approach("CLoud", "semi-scalar", "pointwise", YES, YES, YES, "critiques"),
    "llm_judge": Approach("LLM-as-a-Judge", "generative", "pairwise", NO, YES, NO, "choices"),
    TOKEN_PROB: Approach(
        "LLM-as-a-Judge, TokenProb", "semi-scalar", "pairwise", NO, YES, NO, "critiques"
    ),
    "grm": Approach("pointwise GRM", "generative", "pointwise", YES, YES, YES, "judgements"),
}
"""Input flexibility and scalability, by policy (``btrm``, ``pairrm``, ``rm``, ``cloud``) or by what
is no policy of its own: ``llm_judge`` and its method ``token_prob``, and ``grm``, the paper's."""


@dataclass(frozen=True)
class Kind:
    """How a baseline of the stages is made: ``score`` and ``lesson`` are functions of its module.

    ``trained`` by us; ``critic``: its items are read together with critiques of its own.
    """

    module: str
    trained: bool = True
    critic: bool = False

    def load(self) -> ModuleType:
        """Import the module; torch comes in here."""
        return importlib.import_module(f"spct.baselines.{self.module}")


KINDS = {
    "btrm": Kind("btrm"),
    "pairrm": Kind("pairrm"),
    CRITIC: Kind("btrm", critic=True),
    STOCK: Kind("stock", trained=False),
}


def kind(name: str) -> Kind:
    """Raises ``ConfigError`` for an unknown name."""
    if name not in KINDS:
        raise ConfigError(
            f"io.name: no baseline {name!r}; there are {', '.join((*TRAINED, STOCK))}"
        )
    return KINDS[name]
