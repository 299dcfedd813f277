"""A configuration's values: each within the bounds of its type, and what goes with what.

Bounds stand in :mod:`spct.schema`, beside the types. Here is what they cannot say: relations, each
a function whose parameters name the groups it compares. They hold for a whole configuration when it
is composed, before the first job, and for the groups of a stage's slice when it is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from spct import bounds, chat, models, secrecy
from spct.data import catalog, toy
from spct.errors import ConfigError
from spct.judge import probe, prompts, wording
from spct.kinds import POLICIES
from spct.schema import (
    BaselineConfig,
    BenchConfig,
    DataConfig,
    DifficultyConfig,
    GrpoConfig,
    JudgeConfig,
    ModelConfig,
    PlanConfig,
    RftConfig,
    RolloutConfig,
    SamplerConfig,
    ScalingConfig,
    SelectConfig,
)


def check(groups: Mapping[str, Any]) -> None:
    """Hold some or all groups of a configuration, by name, against bounds and relations.

    Raises :class:`~spct.errors.ConfigError` with the first key that is wrong, and why.
    """
    for name, group in groups.items():
        bounds.check(group, type(group), name)
    for relation, compared in RELATIONS.items():
        if groups.keys() >= set(compared):
            relation(**{name: groups[name] for name in compared})


# ---- the plan


def _policies_in_order(plan: PlanConfig) -> None:
    if plan.policies != [name for name in POLICIES if name in plan.policies]:
        raise ConfigError(f"plan.policies: each at most once, in the order {', '.join(POLICIES)}")
    if stray := [name for name in plan.judged if name not in plan.policies]:
        raise ConfigError(f"plan.judged: {stray[0]} is not of plan.policies")


def _weak_judge_has_samples(
    plan: PlanConfig, difficulty: DifficultyConfig, rollout: RolloutConfig
) -> None:
    if plan.weak and difficulty.n > rollout.n_rft:
        raise ConfigError(
            f"difficulty.n: {difficulty.n} is not from 1 to rollout.n_rft, {rollout.n_rft}"
        )


def _an_endpoint_is_not_trained(plan: PlanConfig, model: ModelConfig) -> None:
    if models.served(model.source) is None:
        return
    name = model.name
    if plan.main == name and plan.policies != ["base"]:
        raise ConfigError(
            f"plan.policies: {name} is an endpoint and cannot be tuned; set plan.policies=[base]"
        )
    if plan.baselines and plan.main == name:
        raise ConfigError(f"plan.baselines: {name} is an endpoint; they start from weights")
    if name in plan.reward_models:
        raise ConfigError(f"plan.reward_models: {name} is an endpoint; name one with weights")
    if plan.metarm == name:
        raise ConfigError(f"plan.metarm: {name} is an endpoint; a meta RM starts from weights")


def _source_is_named(model: ModelConfig) -> None:
    if not model.source.strip():
        raise ConfigError("model.source: empty; name a folder, a hub id or builtin:<name>")
    if model.source.startswith(models.BUILTIN):
        models.resolve(model.source)


def _day_of_the_prompts(model: ModelConfig) -> None:
    """A day, and only where prompts are rendered here."""
    if not model.date:
        return
    chat.day(model.date)
    if models.served(model.source) is not None:
        raise ConfigError(
            f"model.date: the server of {model.source} renders its own chat template; leave this "
            "empty and send what its template takes as sampler.openai.extra"
        )


# ---- data


def check_data(data: DataConfig) -> None:
    """Names and counts of training kinds and benchmarks, or of the sources of a real world.

    Raises ``ConfigError`` naming the key.
    """
    if data.world == "real":
        catalog.check(data)
        return
    for key in ("benchmarks", "train_mix"):
        if not getattr(data, key):
            raise ConfigError(f"data.{key}: at least one is needed, not {getattr(data, key)!r}")
    if data.train_items < 1:
        raise ConfigError("data.train_items: 0 is not 1 or more; the toy world has no end to take")
    kinds = [kind for kind, spec in toy.KINDS.items() if not spec.shift]
    _check_names("data.train_mix", data.train_mix, kinds)
    _check_names("data.benchmarks", data.benchmarks, list(toy.BENCHMARKS))
    drawn = [kind for kind, share in data.train_mix.items() if share > 0]
    if not drawn:
        raise ConfigError("data.train_mix: shares are 0 or more, and one of them is above 0")
    judged = [toy.BENCHMARKS[name] for name in data.benchmarks]
    for key, made in (("train_mix", drawn), ("benchmarks", judged)):
        sizes = sorted({toy.KINDS[kind].n for kind in made})
        if data.responses and data.responses not in sizes:
            raise ConfigError(
                f"data.responses: {data.responses}, but items of data.{key} have "
                f"{', '.join(map(str, sizes))}; 0 keeps all"
            )


def _check_names(key: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{key}: {name!r} is not one of {', '.join(known)}")


# ---- the judge


def _judge(judge: JudgeConfig) -> None:
    if judge.score_min >= judge.score_max:
        raise ConfigError(
            f"judge.score_min: {judge.score_min} is not below judge.score_max, {judge.score_max}"
        )
    if judge.principles == "fixed" and not judge.criteria:
        raise ConfigError(
            "judge.criteria: principles are fixed, but none are given; "
            "write them here or name a text file, e.g. general.txt"
        )
    try:
        probe.try_out(prompts.load(judge.template), judge)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"judge.template: {error}") from error


def _template_suits_the_tokenizer(plan: PlanConfig, model: ModelConfig, judge: JudgeConfig) -> None:
    if model.name in (plan.main, *plan.sizes, plan.metarm, plan.weak):
        wording.check(judge.template, model.source)


def _ratings_are_not_learnt(plan: PlanConfig, data: DataConfig, judge: JudgeConfig) -> None:
    trained = {*plan.policies, *plan.side_policies} - {"base"}
    if judge.single == "rating" and data.train_mix.get("single") and trained:
        raise ConfigError(
            "judge.single: a rating is neither right nor wrong, so nothing can be learnt from the "
            "single responses of data.train_mix; set bench.single=rating to rate in evaluation "
            "only, or data.train_mix.single=0"
        )


def _an_index_is_of_two(judge: JudgeConfig, data: DataConfig) -> None:
    low, high = judge.score_min, judge.score_max
    if judge.answer == "index" and ((low, high) != (0, 1) or data.responses != 2):
        raise ConfigError(
            "judge.answer: an index is one point for the better of two responses; set "
            "judge.score_min=0, judge.score_max=1 and data.responses=2"
        )


# ---- sampling


def _engine_of_the_model(model: ModelConfig, sampler: SamplerConfig) -> None:
    served = models.served(model.source)
    if (served is not None) != (sampler.engine == "openai"):
        raise ConfigError(
            f"sampler.engine: {sampler.engine} does not go with {model.source} as "
            "model.source; openai and endpoint:<name> belong together, see conf/model/endpoint.yaml"
        )
    if served == "":
        raise ConfigError("model.source: endpoint: lacks the name that the model is served under")


def _sampler(sampler: SamplerConfig) -> None:
    if sampler.force_scores and sampler.engine != "native":
        raise ConfigError(
            f"sampler.force_scores: the engine {sampler.engine} cannot; use native, or false"
        )


def _stop_strings(sampler: SamplerConfig) -> None:
    if "" in sampler.stop:
        raise ConfigError("sampler.stop: an empty string would end every text before it begins")
    if boxes := [one for one in sampler.stop if one in "\\boxed{" or "\\boxed" in one]:
        raise ConfigError(
            f"sampler.stop: {boxes[0]!r} would end every judgement before its \\boxed{{…}}"
        )


# ---- training


def _something_to_learn(
    plan: PlanConfig, data: DataConfig, rollout: RolloutConfig, select: SelectConfig, rft: RftConfig
) -> None:
    if "rft" not in {*plan.policies, *plan.side_policies}:
        return
    hinted = select.use_hinted and rollout.hinted > 0
    if not (select.use_plain or hinted or select.allow_empty):
        raise ConfigError(
            "select: no trajectory can be kept, with select.use_plain=false and none hinted (see "
            "select.use_hinted, rollout.hinted); to learn from general text alone set "
            "select.allow_empty=true"
        )
    if rft.general_share > 0 and not data.general_items and data.world != "real":
        raise ConfigError(
            f"data.general_items: 0, yet rft.general_share is {rft.general_share}; set one of them"
        )


def _grpo(grpo: GrpoConfig) -> None:
    if grpo.rollout_lag and not grpo.importance_cap:
        raise ConfigError(
            "grpo.importance_cap: 0, yet with grpo.rollout_lag=1 rollouts are of older weights, "
            "which truncated importance sampling corrects; set the cap, for example to 2.0"
        )
    if grpo.rollout_lag and grpo.stop_on_gap and grpo.max_logprob_gap is None:
        raise ConfigError(
            "grpo.stop_on_gap: at which gap? with grpo.rollout_lag=1 it is the update's too; set "
            "grpo.max_logprob_gap"
        )
    if grpo.stop_on_gap and grpo.max_logprob_gap == 0:
        raise ConfigError("grpo.stop_on_gap: at which gap? grpo.max_logprob_gap is 0, that is none")
    if grpo.warmup_steps > grpo.steps:
        raise ConfigError(
            f"grpo.warmup_steps: {grpo.warmup_steps} is above grpo.steps, {grpo.steps}, so "
            "the rate would never be reached; lower it"
        )
    if grpo.kl_estimator == "k1" and grpo.kl_coef:
        raise ConfigError("grpo.kl_estimator: k1 has no expected gradient in a loss; use k2 or k3")
    if grpo.eval_every and not grpo.eval_items:
        raise ConfigError("grpo.eval_items: 0 items cannot be evaluated; or set grpo.eval_every=0")
    if grpo.eval_items and not grpo.eval_every:
        raise ConfigError(
            f"grpo.eval_every: 0, yet {grpo.eval_items} items are held out; set grpo.eval_items=0"
        )
    if grpo.keep == "best" and not grpo.eval_every:
        raise ConfigError("grpo.keep: the best by which accuracy? set grpo.eval_every")


def _grpo_keeps_items(plan: PlanConfig, data: DataConfig, grpo: GrpoConfig) -> None:
    if "grpo" in plan.policies and 0 < data.train_items <= grpo.eval_items:
        raise ConfigError(
            f"grpo.eval_items: {grpo.eval_items} is not below data.train_items, "
            f"{data.train_items}; nothing is left to train on"
        )


def _grpo_samples_its_policy(plan: PlanConfig, sampler: SamplerConfig) -> None:
    if "grpo" not in plan.policies:
        return
    if sampler.force_scores:
        raise ConfigError(
            "sampler.force_scores: GRPO learns from what the policy itself would write; use false, "
            "or leave grpo out of plan.policies"
        )
    if sampler.top_p < 1:
        raise ConfigError(
            f"sampler.top_p: {sampler.top_p} cuts the tail that GRPO's ratio counts; "
            "keep 1.0, or leave grpo out of plan.policies"
        )


# ---- evaluation


def _samples_differ(bench: BenchConfig) -> None:
    if bench.temperature == 0 and bench.k_max > 1:
        raise ConfigError(
            f"bench.temperature: at 0 all {bench.k_max} samples of an item would be equal; set "
            "bench.k_max=1, or a temperature of 0.01 or more (bench.greedy=true adds a greedy one)"
        )


def _ks_are_drawn(
    plan: PlanConfig,
    model: ModelConfig,
    bench: BenchConfig,
    baseline: BaselineConfig,
    scaling: ScalingConfig,
) -> None:
    """Every bank has samples for the smallest k; larger ones than its ``k_max`` are left out."""
    least = min(scaling.ks)
    if model.name in (plan.main, *plan.sizes) and least > bench.k_max:
        raise ConfigError(
            f"scaling.ks: {least} is above bench.k_max, {bench.k_max}, and so is all of it; add a "
            "smaller one"
        )
    if "cloud" in plan.baselines and least > baseline.k_max:
        raise ConfigError(
            f"scaling.ks: {least} is above baseline.k_max, {baseline.k_max}, and so is all of it; "
            "add a smaller one"
        )


RELATIONS: dict[Callable[..., None], tuple[str, ...]] = {
    relation: tuple(inspect.signature(relation).parameters)
    for relation in (
        *(_policies_in_order, _weak_judge_has_samples),
        *(_source_is_named, _an_endpoint_is_not_trained, _day_of_the_prompts),
        *(
            check_data,
            _judge,
            _template_suits_the_tokenizer,
            _ratings_are_not_learnt,
            _an_index_is_of_two,
        ),
        *(secrecy.no_secrets, secrecy.no_password),
        *(_engine_of_the_model, _sampler, _stop_strings),
        *(_something_to_learn, _grpo, _grpo_keeps_items, _grpo_samples_its_policy),
        *(_samples_differ, _ks_are_drawn),
    )
}
"""Each relation, and the groups it compares."""
