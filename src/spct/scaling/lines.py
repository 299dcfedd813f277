"""Which rows of ``curves.csv`` make a line of the figure, and how it looks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb

from spct.scaling.doubt import remark
from spct.scaling.table import Row, main_size, select, sizes, unique

META = "meta_voting"
# Okabe and Ito's colours, which stay apart for colour-blind readers; markers differ as well.
LOOKS = {
    "base": ("#6b6b6b", "o", "base"),
    "rft": ("#e69f00", "s", "RFT"),
    "grpo": ("#0072b2", "D", "GRPO"),
}
OTHER_LOOK = ("#cc79a7", "v", "")


class Line(NamedTuple):
    """One curve: its rows by k, and how it looks; a guided vote is broken, with hollow markers.

    The label says so where few of the samples behind it can be read.
    """

    rows: list[Row]
    color: Any
    marker: str
    label: str
    guided: bool = False


def by_policy(rows: list[Row]) -> list[Line]:
    """Curves of the main size: voting of each policy, then its votes that the meta RM guides."""
    at_size = select(rows, size=main_size(rows))
    lines = []
    for method, guided in (("voting", False), (META, True)):
        for policy in unique(select(at_size, method=method), "policy"):
            color, marker, _ = LOOKS.get(policy, OTHER_LOOK)
            label = policy_name(policy) + " + meta RM" * guided
            curve = _sorted(select(at_size, policy=policy, method=method))
            lines.append(Line(curve, color, marker, label + remark(curve), guided))
    return lines


def by_size(rows: list[Row]) -> list[Line]:
    """Voting of the last policy that all sizes have, at each size, dark for big.

    Beside them the last policy of the main size, if only that one has it: training as the third
    way to spend compute.
    """
    voting, main = select(rows, method="voting"), main_size(rows)
    order = sizes(voting)
    having = {p: {r["size"] for r in select(voting, policy=p)} for p in unique(voting, "policy")}
    shared = [policy for policy, found in having.items() if len(found) == len(order)]
    shown = [(shared[-1], size) for size in order] if shared else []
    at_main = unique(select(voting, size=main), "policy")
    shown += [(policy, main) for policy in at_main[-1:] if (policy, main) not in shown]
    lines = []
    for policy, size in shown:
        color, marker, _ = LOOKS.get(policy, OTHER_LOOK)
        shade = _shade(color, order.index(size) - order.index(main), len(order))
        curve = _sorted(select(voting, policy=policy, size=size))
        label = f"{policy_name(policy)} {size}{remark(curve)}"
        lines.append(Line(curve, shade, marker, label))
    return lines


def policy_name(policy: str) -> str:
    """A policy as readers know it."""
    return LOOKS[policy][2] if policy in LOOKS else policy


def ink(color: Any) -> tuple[float, ...]:
    """The colour dark enough for text on white: at most half of white's brightness."""
    rgb = np.array(to_rgb(color))
    bright = float(rgb @ (0.299, 0.587, 0.114))
    return tuple(rgb * min(1.0, 0.5 / bright)) if bright else tuple(rgb)


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["k"])


def _shade(color: str, above: int, n: int) -> tuple[float, ...]:
    """The policy's colour at the main size, lighter below it and darker above it."""
    rgb = np.array(to_rgb(color))
    step = above / max(1, n - 1)
    return tuple(rgb * (1 - step) ** 0.9 if step > 0 else rgb + (1 - rgb) * -step * 0.5)
