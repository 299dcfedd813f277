from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spct import config
from spct.grpo import loss as module
from spct.grpo.loss import (
    AGGREGATIONS,
    KL,
    Settings,
    Terms,
    Totals,
    importance_weights,
    kl_k1,
    kl_k2,
    kl_k3,
    means,
    objective,
)
from spct.grpo.presets import KEYS, PRESETS, render
from spct.schema import GrpoConfig

CONF = Path(__file__).parents[2] / "conf"
FULL = Settings(0.3, 0.1, 0.4, "k3", "sequence", 11, 1.3)


class Batch:
    """Random log-probs of sequences of the given lengths, float64."""

    def __init__(self, lengths: Sequence[int], seed: int, dtype: torch.dtype = torch.float64):
        torch.manual_seed(seed)
        self.lengths = list(lengths)
        count = sum(lengths)
        self.new = -torch.rand(count, dtype=dtype) * 3
        self.old, self.reference, self.sampler = (
            self.new + 0.4 * torch.randn(count, dtype=dtype) for _ in range(3)
        )
        self.gains = torch.randn(len(self.lengths), dtype=dtype)

    @property
    def totals(self) -> Totals:
        return Totals(len(self.lengths), sum(self.lengths))

    def terms(self, how: Settings, members: Sequence[int] | None = None) -> tuple[Terms, Tensor]:
        """Of these sequences, within the whole batch's totals; and the gradient's leaf."""
        chosen = list(range(len(self.lengths)) if members is None else members)
        ends = torch.tensor([0, *self.lengths]).cumsum(0).tolist()
        index = [i for m in chosen for i in range(ends[m], ends[m + 1])]
        sizes = torch.tensor([self.lengths[m] for m in chosen], dtype=torch.long)
        owner = torch.repeat_interleave(torch.arange(len(chosen)), sizes)
        leaf = self.new[index].clone().requires_grad_()
        terms = objective(
            leaf, self.old[index], self.reference[index], self.gains[chosen], owner, how,
            self.totals, self.sampler[index],
        )  # fmt: skip
        return terms, leaf

    def naive(self, how: Settings) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Loss, gradient and log by loops over sequences and tokens, from the formulas."""
        leaf = self.new.clone().requires_grad_()
        log = dict.fromkeys(("kl", "clipped_low", "clipped_high", "ratio", "weight"), 0.0)
        log["truncated"] = 0.0
        total, place = torch.zeros((), dtype=torch.float64), 0
        for length, gain in zip(self.lengths, self.gains, strict=True):
            values = []
            for i in range(place, place + length):
                ratio = (leaf[i] - self.old[i]).exp()
                low, high = 1 - how.clip_low, 1 + how.clip_high
                bounded = min(max(ratio, ratio.new_tensor(low)), ratio.new_tensor(high))
                raw = float((self.old[i] - self.sampler[i]).exp())
                weight = min(raw, how.importance_cap) if how.importance_cap else 1.0
                gap = self.reference[i] - leaf[i]
                kl = {"k1": -gap, "k2": gap * gap / 2, "k3": gap.exp() - gap - 1}[how.kl_estimator]
                values.append(how.kl_coef * kl - weight * min(ratio * gain, bounded * gain))
                shares = {
                    "kl": float(kl.detach()), "ratio": float(ratio.detach()), "weight": weight,
                    "clipped_low": float(ratio < low and gain < 0),
                    "clipped_high": float(ratio > high and gain > 0),
                    "truncated": float(how.importance_cap > 0 and raw > how.importance_cap),
                }  # fmt: skip
                for name, value in shares.items():
                    log[name] += value / length / len(self.lengths)
            place += length
            part = sum(values) if values else 0.0 * leaf.sum()
            by = {
                "sequence": max(length, 1) * len(self.lengths),
                "token": sum(self.lengths),
                "constant": how.length * len(self.lengths),
            }
            total = total + part / by[how.aggregation]
        return total.detach(), torch.autograd.grad(total, leaf)[0], log


# ---- the formula -------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("estimator", KL)
@pytest.mark.parametrize("cap", [0.0, 1.3])
def test_the_objective_is_the_formula(aggregation: str, estimator: str, cap: float) -> None:
    how = replace(FULL, aggregation=aggregation, kl_estimator=estimator, importance_cap=cap)
    batch = Batch([5, 1, 9, 0, 3, 12], seed=3)
    loss, slope, log = batch.naive(how)
    terms, leaf = batch.terms(how)
    torch.testing.assert_close(terms.loss.detach(), loss)
    torch.testing.assert_close(torch.autograd.grad(terms.loss, leaf)[0], slope)
    values = means([terms], batch.totals)
    if not cap:
        log = {name: value for name, value in log.items() if name not in ("weight", "truncated")}
    assert {name: values[name] for name in log} == pytest.approx(log)
    assert values["clipped"] == pytest.approx(log["clipped_low"] + log["clipped_high"])
    assert min(log.values()) > 0 or estimator == "k1"
    assert values["ratio_max"] == pytest.approx(float((batch.new - batch.old).exp().max()))
    assert ("weight" in values) == (cap > 0)
    parts = {field.name: getattr(terms, field.name) for field in fields(Terms)}
    tracked = [name for name, part in parts.items() if part is not None and part.requires_grad]
    assert tracked == ["loss"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=9).filter(any),
    st.sampled_from(AGGREGATIONS),
    st.sampled_from(list(KL)),
    st.sampled_from([0.0, 1.2]),
    st.data(),
)
def test_any_split_has_the_loss_of_the_whole(
    lengths: list[int], aggregation: str, estimator: str, cap: float, data: st.DataObject
) -> None:
    """Micro-batches, accumulation and processes: whoever takes which sequences, in any order."""
    how = replace(FULL, aggregation=aggregation, kl_estimator=estimator, importance_cap=cap)
    batch = Batch(lengths, seed=len(lengths))
    whole, leaf = batch.terms(how)
    slope = torch.autograd.grad(whole.loss, leaf)[0]
    order = data.draw(st.permutations(range(len(lengths))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lengths)), max_size=3)))
    ends = [0, *cuts, len(lengths)]
    parts = [order[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    terms, grads = [], {}
    for part in parts:
        one, leaf = batch.terms(how, part)
        terms.append(one)
        split = torch.autograd.grad(one.loss, leaf)[0].split([lengths[m] for m in part])
        grads |= dict(zip(part, split, strict=True))
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(torch.cat([grads[m] for m in range(len(lengths))]), slope, **close)
    both = (means(terms, batch.totals), means([whole], batch.totals))
    assert both[0] == pytest.approx(both[1], rel=1e-12, abs=1e-14)
    by_process = [means([one], batch.totals) for one in terms]
    for name, value in both[1].items():
        join = max if name == "ratio_max" else sum
        assert join(one[name] for one in by_process) == pytest.approx(value, rel=1e-12, abs=1e-14)


def _before(
    new: Tensor, old: Tensor, reference: Tensor, gains: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's objective as the first version computed it, in its order of operations."""

    def mean(values: Tensor) -> Tensor:
        total = torch.zeros(len(gains)).index_add(0, owner, values)
        return (total / torch.zeros(len(gains)).index_add(0, owner, torch.ones_like(values))).sum()

    ratio = torch.exp(new - old)
    bounded = ratio.clamp(1 - 0.2, 1 + 0.2)
    gap = reference - new
    kl = torch.exp(gap) - gap - 1.0
    per_token = 0.08 * kl - torch.minimum(ratio * gains[owner], bounded * gains[owner])
    clipped = (ratio * gains[owner] > bounded * gains[owner]).float()
    return mean(per_token), mean(kl.detach()), mean(clipped)


@pytest.mark.parametrize("seed", range(5))
def test_the_default_keeps_its_bits(seed: int) -> None:
    batch = Batch([7, 1, 30, 12, 5], seed, torch.float32)
    owner = torch.repeat_interleave(torch.arange(5), torch.tensor(batch.lengths))
    leaf = batch.new.clone().requires_grad_()
    loss, kl, clipped = _before(leaf, batch.old, batch.reference, batch.gains, owner)
    (slope,) = torch.autograd.grad(loss / 5, leaf)
    terms, leaf = batch.terms(Settings(0.08))
    assert torch.equal(terms.loss, loss / 5)
    assert torch.equal(terms.kl, kl) and torch.equal(terms.clipped, clipped)
    assert torch.equal(torch.autograd.grad(terms.loss, leaf)[0], slope)
    assert 0 < float(clipped) < 5


@pytest.mark.parametrize(
    ("ratio", "gain", "loss", "slope", "low", "high"),
    [
        (1.5, 1.0, -1.28, 0.0, 0, 1),  # too likely already: clipped at 1 + clip_high
        (1.25, 1.0, -1.25, -1.25, 0, 0),  # a symmetric 0.2 would clip it
        (1.5, -1.0, 1.5, 1.5, 0, 0),  # too likely and bad: pushed down in full
        (0.5, 1.0, -0.5, -0.5, 0, 0),
        (0.5, -1.0, 0.8, 0.0, 1, 0),
        (0.79, -1.0, 0.8, 0.0, 1, 0),
    ],
)
def test_each_side_has_its_clip(
    ratio: float, gain: float, loss: float, slope: float, low: int, high: int
) -> None:
    new = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    old = -torch.tensor([ratio], dtype=torch.float64).log()
    terms = objective(
        new, old, None, torch.tensor([gain], dtype=torch.float64), torch.tensor([0]),
        Settings(0.0, 0.2, 0.28), Totals(1, 1),
    )  # fmt: skip
    assert terms.loss.item() == pytest.approx(loss)
    assert float(torch.autograd.grad(terms.loss, new)[0]) == pytest.approx(slope)
    assert (float(terms.clipped_low), float(terms.clipped_high)) == (low, high)
    assert float(terms.clipped) == low + high


def test_lengths_weigh_as_the_aggregation_says() -> None:
    """One token and three, gains 1 and -1, ratio 1, no KL: worked by hand."""
    zeros = torch.zeros(4, dtype=torch.float64)
    gains, owner = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([0, 1, 1, 1])
    loss = {
        name: objective(
            zeros, zeros, None, gains, owner,
            Settings(0.0, aggregation=name, length=10), Totals(2, 4),
        ).loss.item()
        for name in AGGREGATIONS
    }  # fmt: skip
    assert loss == pytest.approx({"sequence": 0.0, "token": 0.5, "constant": 0.1})


# ---- KL estimators -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_what_the_estimators_estimate(seed: int) -> None:
    """Expectations over a categorical policy, exact; the gradients through its logits."""
    torch.manual_seed(seed)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    policy = torch.log_softmax(logits, 0)
    reference = torch.log_softmax(torch.randn(6, dtype=torch.float64), 0)
    weight = policy.exp().detach()
    reverse = (policy.exp() * (policy - reference)).sum()
    forward = (reference.exp() * (reference - policy)).sum()

    def expected(values: Tensor) -> Tensor:
        return (weight * values).sum()

    for estimate in (kl_k1, kl_k3):
        torch.testing.assert_close(expected(estimate(policy, reference)), reverse)

    def slope(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    torch.testing.assert_close(slope(expected(kl_k2(policy, reference))), slope(reverse))
    torch.testing.assert_close(slope(expected(kl_k3(policy, reference))), slope(forward))
    assert slope(expected(kl_k1(policy, reference))).abs().max() < 1e-12
    ratio = torch.exp(policy - policy.detach())
    corrected = ratio * kl_k3(policy, reference)  # TRL's default
    for i in range(6):
        torch.testing.assert_close(slope(corrected[i]), slope(kl_k2(policy, reference)[i]))


def test_worked_estimates() -> None:
    policy, reference = torch.tensor([-1.0, -3.0]), torch.tensor([-1.0, -1.0])
    assert kl_k1(policy, reference).tolist() == [0.0, -2.0]
    assert kl_k2(policy, reference).tolist() == [0.0, 2.0]
    assert kl_k3(policy, reference).tolist() == pytest.approx([0.0, 2.718281828**2 - 3])


# ---- importance sampling -----------------------------------------------------------------------


def test_weights_are_truncated_from_above_only() -> None:
    old = torch.tensor([0.0, 0.0, 0.0, -1.0], requires_grad=True)
    weights, truncated = importance_weights(old, torch.tensor([3.0, 0.0, -3.0, -1.5]), 2.0)
    assert weights.tolist() == pytest.approx([0.049787, 1.0, 2.0, 1.648721], rel=1e-5)
    assert truncated.tolist() == [0, 0, 1, 0]
    assert not weights.requires_grad


def test_the_kl_is_not_weighted() -> None:
    batch = Batch([4, 2], seed=1)
    batch.gains.zero_()
    plain, with_weights = (
        batch.terms(replace(FULL, importance_cap=cap))[0].loss for cap in (0.0, 1.3)
    )
    assert plain.item() == with_weights.item() != 0


def test_a_sampler_that_agrees_changes_nothing() -> None:
    batch = Batch([4, 2, 3], seed=1)
    batch.sampler = batch.old
    plain = batch.terms(replace(FULL, importance_cap=0.0))[0]
    weighted = batch.terms(FULL)[0]
    assert torch.equal(plain.loss, weighted.loss)
    assert weighted.weight is not None and float(weighted.weight) == 3


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kl_estimator": "k4"}, "grpo.kl_estimator is 'k4'; known: k1, k2, k3"),
        ({"aggregation": "mean"}, "grpo.aggregation is 'mean'; known: sequence, token, constant"),
        ({"aggregation": "constant", "length": 0}, "needs a length, not 0"),
    ],
)
def test_unknown_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FULL, **wrong)


def test_missing_log_probs_are_refused() -> None:
    one, owner = torch.zeros(1), torch.tensor([0])
    with pytest.raises(ValueError, match="grpo.kl_coef is 0.1; it needs the reference"):
        objective(one, one, None, one, owner, Settings(0.1), Totals(1, 1))
    with pytest.raises(ValueError, match="grpo.importance_cap is set; it needs the sampler"):
        objective(one, one, one, one, owner, Settings(0.1, importance_cap=2.0), Totals(1, 1))
    for sequences, tokens in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="nothing to learn from"):
            Totals(sequences, tokens)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_process_without_tokens_adds_nothing(aggregation: str) -> None:
    batch = Batch([3, 0, 2], seed=0)
    terms, leaf = batch.terms(replace(FULL, aggregation=aggregation), [1])
    assert len(leaf) == 0 and float(terms.loss) == 0 and terms.loss.requires_grad
    assert set(means([terms], batch.totals).values()) == {0.0}


def test_nan_is_not_hidden() -> None:
    batch = Batch([3, 2], seed=0)
    batch.new[1] = torch.nan
    for aggregation in AGGREGATIONS:
        assert batch.terms(replace(FULL, aggregation=aggregation))[0].loss.isnan()


# ---- presets -----------------------------------------------------------------------------------

FIELDS = {field.name for field in fields(GrpoConfig)}


@pytest.mark.parametrize("name", PRESETS)
def test_the_files_are_the_table(name: str) -> None:
    path = CONF / "grpo" / f"{name}.yaml"
    assert path.read_text() == render(name), "run `python -m spct.grpo.presets`"
    written = yaml.safe_load(path.read_text())
    assert written.pop("defaults") == ["default", "_self_"]
    assert written == PRESETS[name].values
    assert tuple(PRESETS[name].settings) == KEYS
    assert all(source for _, source in PRESETS[name].settings.values())
    assert max(map(len, render(name).splitlines())) <= 100


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_the_objective(name: str) -> None:
    values = PRESETS[name].values
    known = {field.name for field in fields(Settings)} & set(values)
    assert known == {field.name for field in fields(Settings)} - {"length"}
    Settings(**{key: values[key] for key in known}, length=100)
    module.KL[values["kl_estimator"]]


def test_an_experiment_wins_over_the_preset() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        grpo = compose("config", ["grpo=paper", "experiment=tiny_no_kl"]).grpo
        assert (grpo.kl_coef, grpo.aggregation) == (0.0, "sequence")
        grpo = compose("config", ["grpo=dapo", "grpo.clip_high=0.3"]).grpo
        assert (grpo.clip_high, grpo.clip_low) == (0.3, 0.2) and grpo.lr > 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_composes(name: str) -> None:
    grpo = config.load([f"grpo={name}"]).grpo
    assert {key: getattr(grpo, key) for key in KEYS} == PRESETS[name].values
