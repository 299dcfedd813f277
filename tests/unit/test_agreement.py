from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spct import lm
from spct.errors import StageStopped
from spct.sampling.agreement import GATES, Agreement, gate, measure
from spct.sampling.base import Completion, Request, build
from spct.schema import ModelConfig, SamplerConfig

BASE = ModelConfig("toy_s", "builtin:toy_s", None, "float32", False)


@pytest.fixture(scope="module")
def base() -> lm.LM:
    return lm.load(BASE)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Prompts of 3 to 60 tokens, three temperatures each, in an order that mixes them."""
    rng = np.random.default_rng(0)
    prompts = [tuple(int(x) for x in rng.integers(3, 150, size=n)) for n in (3, 60, 17, 17, 41)]
    wanted = [(p, t) for t in (1.0, 0.0, 0.6) for p in prompts]
    return [Request(p, seed, t) for seed, (p, t) in enumerate(wanted)]


@pytest.mark.parametrize("engine", ["native", "hf"])
def test_engines_agree_with_the_trainer(
    base: lm.LM, requests: list[Request], sampler_config: SamplerConfig, engine: str
) -> None:
    completions = build(base, replace(sampler_config, engine=engine)).sample(requests)
    found = measure(base.model, requests, completions)
    assert found.tokens == sum(len(c.logprobs) for c in completions) > 100
    gate(found, torch.float32, engine)


def test_the_gap_is_that_of_each_token(base: lm.LM, requests: list[Request]) -> None:
    chosen = [requests[0], requests[11], requests[1]]
    tokens = [(7, 9, 11), (5,), (8, base.end)]
    completions = []
    for request, ids, extra in zip(chosen, tokens, (0.25, -0.5, 0.0), strict=True):
        with torch.no_grad():
            logits = base.model(torch.tensor([request.prompt + ids])).logits[0]
        scaled = logits[len(request.prompt) - 1 : -1] / request.temperature
        exact = scaled.log_softmax(-1)[range(len(ids)), list(ids)] + extra
        finish = "stop" if ids[-1] == base.end else "length"
        kept = ids[:-1] if finish == "stop" else ids
        end = base.end if finish == "stop" else None
        completions.append(Completion(kept, tuple(exact.tolist()), finish, end=end))
    found = measure(base.model, chosen, completions)
    assert found.tokens == 6
    assert found.max == pytest.approx(0.5, abs=1e-4)
    assert found.mean == pytest.approx((3 * 0.25 + 0.5) / 6, abs=1e-4)


def test_what_cannot_be_compared_is_refused(base: lm.LM, requests: list[Request]) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        measure(base.model, [], [])
    with pytest.raises(ValueError, match="no tokens"):
        measure(base.model, requests[:1], [Completion((), (), "length")])
    with pytest.raises(ValueError, match="1 log-probs for 2 tokens"):
        measure(base.model, requests[:1], [Completion((5,), (-1.0,), "stop", end=1)])


@pytest.mark.parametrize("dtype", list(GATES))
def test_the_gate(dtype: torch.dtype) -> None:
    mean, most = GATES[dtype]
    gate(Agreement(mean, most, 10), dtype, "hf")
    for wide in (Agreement(1.1 * mean, most, 10), Agreement(mean, 1.1 * most, 10)):
        with pytest.raises(StageStopped, match="^hf: log-probs differ"):
            gate(wide, dtype, "hf")
    with pytest.raises(StageStopped):
        gate(Agreement(float("nan"), 0.0, 10), dtype, "hf")
