"""Attention to one prompt and to oneself, joined, against one masked softmax over both."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from spct.training import attention
from spct.training.groups import Group
from spct.training.joined import Joined
from spct.training.layout import Block, Layout, lay_out

CPU = torch.device("cpu")
HEADS, KV, D = 4, 2, 8


def rows(prompt: int, lengths: list[int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Query, prompt key and value, own key and value: tokens first."""
    torch.manual_seed(prompt + sum(lengths))
    own = sum(lengths)
    shapes = [(own, HEADS), (prompt, KV), (prompt, KV), (own, KV), (own, KV)]
    return [torch.randn(*shape, D, dtype=dtype, requires_grad=True) for shape in shapes]


def one_softmax(parts: list[Tensor], lengths: list[int], scaling: float | None) -> Tensor:
    """Each completion alone, after its prompt, through the masked kernel."""
    query, *memory = parts
    out, place = [], 0
    for length in lengths:
        piece = slice(place, place + length)
        key, value = (
            torch.cat([prompt, own[piece]]).repeat_interleave(HEADS // KV, dim=1).transpose(0, 1)
            for prompt, own in zip(memory[:2], memory[2:], strict=True)
        )
        seen = torch.ones(length, key.shape[1]).tril(key.shape[1] - length).bool()
        asked = query[piece].transpose(0, 1)
        found = scaled_dot_product_attention(asked, key, value, attn_mask=seen, scale=scaling)
        out.append(found.transpose(0, 1))
        place += length
    return torch.cat(out)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.sampled_from([None, 0.7]),
)
def test_it_is_one_softmax(prompt: int, lengths: list[int], scaling: float | None) -> None:
    parts, block = rows(prompt, lengths), Block(0, lengths, CPU)
    weights = torch.randn(sum(lengths), HEADS, D, dtype=torch.float64)
    results = [Joined.apply(*parts, block, scaling), one_softmax(parts, lengths, scaling)]
    torch.testing.assert_close(*results)
    grads = [torch.autograd.grad((result * weights).sum(), parts) for result in results]
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow)


def test_one_part_may_outweigh_the_other_by_far() -> None:
    parts, lengths = rows(6, [3]), [3]
    with torch.no_grad():
        parts[1].mul_(400.0)  # the prompt's scores: exp of them overflows
    fast, slow = Joined.apply(*parts, Block(0, lengths, CPU), None), one_softmax(parts, [3], None)
    assert torch.isfinite(fast).all()
    torch.testing.assert_close(fast, slow)


def test_bfloat16_stays_so() -> None:
    parts = rows(20, [5, 2], torch.bfloat16)
    fast = Joined.apply(*parts, Block(0, [5, 2], CPU), None)
    assert fast.dtype == torch.bfloat16
    exact = one_softmax([part.double() for part in parts], [5, 2], None)
    torch.testing.assert_close(fast.double(), exact, rtol=0.03, atol=0.03)
    fast.sum().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.bfloat16 for part in parts)


def layout(*groups: tuple[int, tuple[int, ...]]) -> Layout:
    return lay_out([Group((1,) * p, tuple((2,) * n for n in ns)) for p, ns in groups], CPU, "at")


@pytest.mark.parametrize(
    ("given", "window", "joins"),
    [
        ([(9, (3, 2))], None, True),
        ([(9, (3, 2))], 12, True),
        ([(9, (3, 2))], 11, False),
        ([(9, (3, 2)), (9, (1,))], None, False),
    ],
)
def test_it_serves_one_prompt_without_a_mask(
    monkeypatch: pytest.MonkeyPatch, given: list[tuple[int, tuple[int, ...]]], window: int | None,
    joins: bool,
) -> None:  # fmt: skip
    calls: list[int] = []
    real = Joined.apply

    class Watched:
        @staticmethod
        def apply(*parts: object) -> Tensor:
            calls.append(1)
            result: Tensor = real(*parts)
            return result

    monkeypatch.setattr(attention, "Joined", Watched)
    found = layout(*given)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, h, found.ids.shape[1], D) for h in (HEADS, KV, KV))
    module = torch.nn.Module()
    options = {"sliding_window": window}
    joined = attention.attend(module, query, key, value, found, **options)
    assert bool(calls) == joins
    monkeypatch.setattr(Layout, "joins", lambda *_: False)
    masked = attention.attend(module, query, key, value, found, **options)
    torch.testing.assert_close(joined, masked)
