"""How the tokens of several groups lie in one unpadded row, and which of them attend to which.

All prompts first, each once, then all completions. Linear layers see the row as it is; attention
reads it as two padded blocks: prompts among themselves, completions on their prompt and themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

from spct.training.groups import Group, Read


class Block:
    """Consecutive pieces of the row as the rows of one right-padded block.

    ``start`` is the place of the first token; ``lengths`` are the tokens of each piece.
    """

    def __init__(self, start: int, lengths: Sequence[int], device: torch.device) -> None:
        self.start, self.rows, self.width = start, len(lengths), max(lengths)
        self.tokens = sum(lengths)
        self.lengths = torch.tensor(lengths, device=device)
        self.ends = start + self.lengths.cumsum(0) - 1  # the last token of each piece
        self.whole = self.tokens == self.rows * self.width
        if not self.whole:
            inside = torch.arange(self.width, device=device) < self.lengths[:, None]
            first = self.lengths.cumsum(0) - self.lengths
            # padding repeats a piece's last token: finite, and never read
            column = torch.arange(self.width, device=device).minimum(self.lengths[:, None] - 1)
            self.gather = (start + first[:, None] + column).flatten()
            self.scatter = inside.flatten().nonzero().squeeze(1)

    def read(self, row: Tensor) -> Tensor:
        """[T, H, d] to [rows, H, width, d]."""
        picked = self.own(row) if self.whole else row.index_select(0, self.gather)
        return picked.reshape(self.rows, self.width, *row.shape[1:]).transpose(1, 2)

    def padded(self, tokens: Tensor) -> Tensor:
        """This block's own tokens [tokens, H, d] to [rows, H, width, d], padding zero."""
        if not self.whole:
            room = tokens.new_zeros(self.rows * self.width, *tokens.shape[1:])
            tokens = room.index_copy_(0, self.scatter, tokens)
        return tokens.reshape(self.rows, self.width, *tokens.shape[1:]).transpose(1, 2)

    def own(self, row: Tensor) -> Tensor:
        """Of a row [T, H, d] this block's tokens, [tokens, H, d]."""
        return row[self.start : self.start + self.tokens]

    def flat(self, block: Tensor) -> Tensor:
        """[rows, H, width, d] back to this block's tokens, [tokens, H, d]."""
        tokens = block.transpose(1, 2).flatten(0, 1)
        return tokens if self.whole else tokens.index_select(0, self.scatter)


@dataclass
class Layout:
    """One micro-batch of groups: token ids, positions, blocks, and masks made as layers ask."""

    ids: Tensor  # [1, T]
    positions: Tensor  # [1, T] of each token in its own sequence
    states: Tensor  # [N] where in the row the state of each completion token is
    prompts: Block
    completions: Block | None  # None if no completion has a token to pass
    owner: Tensor  # [S] prompt of each row of ``completions``
    shortest: int  # tokens of the shortest prompt
    _masks: dict[tuple[str, int | None], Tensor] = field(default_factory=dict)

    @cached_property
    def read(self) -> Tensor:
        """[R] tokens of the row whose last states may be read: ends of prompts, completions."""
        first = self.prompts.start + self.prompts.tokens
        rest = torch.arange(first, self.ids.shape[1], device=self.ids.device)
        return torch.cat([self.prompts.ends, rest])

    def first_key(self, window: int | None) -> int:
        """Prompt columns before this one are outside every completion token's window."""
        return 0 if window is None else max(0, self.shortest - window + 1)

    def joins(self, window: int | None) -> bool:
        """Whether no completion token needs a mask: one prompt, all of it inside the window."""
        reach = self.prompts.width + (self.completions.width if self.completions else 0)
        return self.prompts.rows == 1 and (window is None or window >= reach)

    def prompt_mask(self, window: int | None) -> Tensor:
        """Where prompt queries may look, bool [1, 1, P, P]; padding on the right is never seen."""
        if ("prompt", window) not in self._masks:
            place = torch.arange(self.prompts.width, device=self.ids.device)
            seen = _visible(place[:, None], place[None, :], window)
            self._masks["prompt", window] = seen[None, None]
        return self._masks["prompt", window]

    def end_mask(self, window: int | None) -> Tensor:
        """Where the last token of each prompt may look, bool [B, 1, 1, P]."""
        if ("end", window) not in self._masks:
            last = self.prompts.lengths[:, None] - 1
            place = torch.arange(self.prompts.width, device=self.ids.device)[None]
            self._masks["end", window] = _visible(last, place, window)[:, None, None]
        return self._masks["end", window]

    def completion_mask(self, window: int | None) -> Tensor:
        """Where completion queries may look, bool [S or 1, 1, R, P + R].

        Keys are the prompt's columns from :meth:`first_key` on, then the completion's own. One
        mask serves all rows if the prompts are equally long.
        """
        assert self.completions is not None
        if ("completion", window) not in self._masks:
            device = self.ids.device
            length = self.prompts.lengths[self.owner]
            if self.prompts.whole:
                length = length[:1]
            own = torch.arange(self.completions.width, device=device) + length[:, None]
            prompt = torch.arange(self.first_key(window), self.prompts.width, device=device)
            prompt = prompt.expand(len(length), -1)
            keys = torch.cat([prompt, own], dim=1)
            real = torch.cat([prompt < length[:, None], torch.ones_like(own).bool()], dim=1)
            seen = _visible(own[:, :, None], keys[:, None, :], window) & real[:, None, :]
            self._masks["completion", window] = seen[:, None]
        return self._masks["completion", window]


def _visible(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Causal attention by position; with a window, to the last ``window`` positions."""
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def lay_out(groups: Sequence[Group], device: torch.device, read: Read = "before") -> Layout:
    """The layout of groups that each have at least one completion token.

    With ``read="before"`` the last token of a completion is no one's context and does not pass.
    """
    drop = 1 if read == "before" else 0
    prompts = [group.prompt for group in groups]
    owners: list[int] = []
    pieces: list[tuple[int, ...]] = []
    states: list[Sequence[int]] = []
    ends = list(_ends(prompts))
    place = ends[-1]
    for number, group in enumerate(groups):
        for completion in filter(None, group.completions):
            piece = completion[: len(completion) - drop]
            if drop:
                states.append((ends[number] - 1,))
            states.append(range(place, place + len(piece)))
            if piece:
                owners.append(number)
                pieces.append(piece)
            place += len(piece)
    starts = [0] * len(prompts) + [len(prompts[number]) for number in owners]
    every = [*prompts, *pieces]
    spans = [range(s, s + len(piece)) for s, piece in zip(starts, every, strict=True)]
    table = torch.tensor(
        [list(chain.from_iterable(every)), list(chain.from_iterable(spans))], device=device
    )
    return Layout(
        ids=table[:1],
        positions=table[1:],
        states=torch.tensor(list(chain.from_iterable(states)), device=device),
        prompts=Block(0, [len(prompt) for prompt in prompts], device),
        completions=Block(ends[-1], [len(p) for p in pieces], device) if pieces else None,
        owner=torch.tensor(owners, dtype=torch.long, device=device),
        shortest=min(len(prompt) for prompt in prompts),
    )


def _ends(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """Places after the last token of each prompt."""
    total, ends = 0, []
    for prompt in prompts:
        total += len(prompt)
        ends.append(total)
    return ends
