"""One decoding step's choice: inverse transform sampling from one uniform draw a row."""

from __future__ import annotations

import torch
from torch import Tensor


def nucleus(logprobs: Tensor, top_p: float) -> Tensor:
    """Log-probs [B, V] restricted to the smallest set of tokens holding ``top_p``, renormalised."""
    ranked, index = logprobs.sort(dim=-1, descending=True)
    before = ranked.exp().cumsum(-1) - ranked.exp()
    keep = torch.zeros_like(before, dtype=torch.bool).scatter(1, index, before < top_p)
    return logprobs.masked_fill(~keep, float("-inf")).log_softmax(-1)


def choose(
    logits: Tensor, temperature: Tensor, draws: Tensor, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probs [B] from logits [B, V].

    ``temperature`` [B], on the CPU wherever the logits are, so that nothing is computed that no row
    wants: 0 takes the most likely token (log-prob at temperature 1); elsewhere the token is where
    the cumulative probability passes ``draws`` [B], uniform in [0, 1).
    """
    cold = temperature == 0
    some_greedy, scale = bool(cold.any()), temperature.masked_fill(cold, 1.0)
    greedy, scores = cold.to(logits.device), logits.float()
    if bool((scale != 1).any()):
        scores = scores / scale.to(logits.device)[:, None]
    logprobs = torch.log_softmax(scores, dim=-1)
    if top_p < 1.0:
        logprobs = torch.where(greedy[:, None], logprobs, nucleus(logprobs, top_p))
    cumulative = logprobs.exp().double().cumsum_(-1)  # exp in double would be the step's dearest
    target = draws[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    tokens = tokens.clamp(max=logits.shape[1] - 1)
    if some_greedy:
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, logprobs.gather(1, tokens[:, None]).squeeze(1)
