"""What the types of :mod:`spct.schema` cannot say: choices, bounds, and what goes with what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from spct import models
from spct.baselines.rows import TRAINED
from spct.data import catalog, toy
from spct.errors import ConfigError
from spct.judge import probe, prompts
from spct.schema import Config, DataConfig, GrpoConfig, OpenAIConfig

POLICIES = ("base", "rft", "grpo")
CHOICES = {
    "plan.policies": POLICIES,
    "plan.side_policies": POLICIES,
    "plan.guided": POLICIES,
    "plan.judged": POLICIES,
    "plan.baselines": TRAINED,
    "data.world": ("v1", "real"),
    "model.dtype": ("float32", "bfloat16"),
    "sampler.engine": ("native", "hf", "vllm", "openai"),
    "sampler.openai.api": ("chat", "completions"),
    "judge.principles": ("self", "none", "fixed", "query_only", "given"),
    "judge.order": ("random", "balanced", "fixed"),
    "judge.single": ("verdict", "rating"),
    "judge.answer": ("scores", "index"),
    "recast.form": ("", "pairs", "reference"),
    "bench.single": ("", "verdict", "rating"),
    "bench.order": ("", "random", "balanced", "fixed"),
    "rft.optim.name": ("adamw", "muon"),
    "metarm.optim.name": ("adamw", "muon"),
    "baseline.optim.name": ("adamw", "muon"),
    "grpo.std": ("population", "sample", "batch", "none"),
    "grpo.kl_estimator": ("k1", "k2", "k3"),
    "grpo.aggregation": ("sequence", "token", "constant"),
    "grpo.keep": ("last", "best"),
    "scaling.invalid": ("drop", "zero"),
}
AT_LEAST_ONE = (
    "rft.checkpoint_every",
    "rft.batch_tokens",
    "rft.micro_tokens",
    "grpo.checkpoint_every",
    "grpo.micro_tokens",
    "grpo.logprob_chunk",
    "grpo.steps",
    "grpo.updates_per_rollout",
    "grpo.alarm_window",
    "metarm.checkpoint_every",
    "metarm.batch_tokens",
    "metarm.micro_tokens",
    "baseline.checkpoint_every",
    "baseline.batch_tokens",
    "baseline.micro_tokens",
    "plan.seeds",
    "plan.policies",
    "audit.ngram",
    "sampler.batch_size",
    "sampler.max_new_tokens",
    "sampler.part_samples",
    "sampler.openai.concurrency",
    "rollout.shards",
    "grpo.group_size",
    "rollout_policy.shards",
    "bench.shards",
    "bench.k_max",
    "baseline.k_max",
    "scaling.ks",
    "scaling.subsets",
    "scaling.bootstrap",
    "health.bins",
)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
Bound = tuple[str, Callable[[float], bool]]
SHARE: Bound = ("a share from 0 to below 1", lambda x: 0 <= x < 1)
PART: Bound = ("above 0 and at most 1", lambda x: 0 < x <= 1)
INSIDE: Bound = ("between 0 and 1", lambda x: 0 < x < 1)
POSITIVE: Bound = ("above 0", lambda x: x > 0)
NOT_NEGATIVE: Bound = ("0 or more", lambda x: x >= 0)
BOUNDS: dict[str, Bound] = {
    "rft.general_share": SHARE,
    "metarm.dev_share": SHARE,
    "baseline.dev_share": SHARE,
    "scaling.k_meta_share": PART,
    "sampler.top_p": PART,
    "audit.share": PART,
    "audit.max_overlap": SHARE,
    "data.drop_overlap": SHARE,
    "data.max_chars": NOT_NEGATIVE,
    "sampler.max_errors": SHARE,
    "sampler.openai.timeout": POSITIVE,
    "sampler.openai.max_retries": NOT_NEGATIVE,
    "sampler.openai.backoff": NOT_NEGATIVE,
    "sampler.openai.max_wait": POSITIVE,
    "sampler.openai.budget": NOT_NEGATIVE,
    "scaling.level": INSIDE,
    "scaling.max_repeats": PART,
    "rft.epochs": POSITIVE,
    "metarm.epochs": POSITIVE,
    "baseline.epochs": POSITIVE,
    "baseline.critic_epochs": POSITIVE,
    "baseline.temperature": POSITIVE,
    "grpo.temperature": POSITIVE,
    "grpo.kl_coef": NOT_NEGATIVE,
    "grpo.clip_low": INSIDE,
    "grpo.clip_high": POSITIVE,
    "grpo.std_eps": NOT_NEGATIVE,
    "grpo.importance_cap": NOT_NEGATIVE,
    "grpo.refill": NOT_NEGATIVE,
    "grpo.eval_every": NOT_NEGATIVE,
    "grpo.eval_items": NOT_NEGATIVE,
    "grpo.alarm_drop": POSITIVE,
    "grpo.alarm_invalid": PART,
    "bench.temperature": NOT_NEGATIVE,
}


def check(cfg: Config) -> None:
    """Raises :class:`~spct.errors.ConfigError` with the first key that is wrong, and why."""
    _check_choices(cfg)
    for key in AT_LEAST_ONE:
        value = _get(cfg, key)
        if (len(value) if isinstance(value, list | dict) else value) < 1:
            raise ConfigError(f"{key}: at least one is needed, not {value!r}")
    for key, (wanted, holds) in BOUNDS.items():
        if not holds(_get(cfg, key)):
            raise ConfigError(f"{key}: {_get(cfg, key)} is not {wanted}")
    if cfg.plan.policies != [name for name in POLICIES if name in cfg.plan.policies]:
        raise ConfigError(f"plan.policies: each at most once, in the order {', '.join(POLICIES)}")
    if stray := [name for name in cfg.plan.judged if name not in cfg.plan.policies]:
        raise ConfigError(f"plan.judged: {stray[0]} is not of plan.policies")
    for level in cfg.scaling.adaptive:
        if not 0.5 < level < 1:
            raise ConfigError(f"scaling.adaptive: {level} is not between 0.5 and 1")
    check_data(cfg.data)
    _check_judge(cfg)
    _check_grpo(cfg.grpo)
    _check_endpoint(cfg)
    _check_stop(cfg.sampler.stop)
    if cfg.plan.weak and not 1 <= cfg.difficulty.n <= cfg.rollout.n_rft:
        raise ConfigError(
            f"difficulty.n: {cfg.difficulty.n} is not from 1 to rollout.n_rft, {cfg.rollout.n_rft}"
        )
    if cfg.sampler.force_scores and cfg.sampler.engine != "native":
        raise ConfigError(
            f"sampler.force_scores: the engine {cfg.sampler.engine} cannot; use native, or false"
        )
    if cfg.sampler.force_scores and "grpo" in cfg.plan.policies:
        raise ConfigError(
            "sampler.force_scores: GRPO learns from what the policy itself would write; use false, "
            "or leave grpo out of plan.policies"
        )
    if cfg.sampler.top_p < 1 and "grpo" in cfg.plan.policies:
        raise ConfigError(
            f"sampler.top_p: {cfg.sampler.top_p} cuts the tail that GRPO's ratio counts; "
            "keep 1.0, or leave grpo out of plan.policies"
        )


def _check_grpo(grpo: GrpoConfig) -> None:
    if grpo.max_logprob_gap is not None and grpo.max_logprob_gap < 0:
        raise ConfigError(f"grpo.max_logprob_gap: {grpo.max_logprob_gap} is not 0 or more")
    if grpo.rollout_lag not in (0, 1):
        raise ConfigError(f"grpo.rollout_lag: {grpo.rollout_lag} is not 0 or 1")
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
    if grpo.group_size < 2:
        raise ConfigError(
            f"grpo.group_size: a group of {grpo.group_size} has no advantage; 2 or more"
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


def _check_endpoint(cfg: Config) -> None:
    """An endpoint and the engine for it go together, and nothing there can be trained."""
    _check_secrets(cfg.sampler.openai)
    _check_tracker(cfg.tracking.uri)
    served, name = models.served(cfg.model.source), cfg.model.name
    if (served is not None) != (cfg.sampler.engine == "openai"):
        raise ConfigError(
            f"sampler.engine: {cfg.sampler.engine} does not go with {cfg.model.source} as "
            "model.source; openai and endpoint:<name> belong together, see conf/model/endpoint.yaml"
        )
    if served is None:
        return
    if not served:
        raise ConfigError("model.source: endpoint: lacks the name that the model is served under")
    if cfg.plan.main == name and cfg.plan.policies != ["base"]:
        raise ConfigError(
            f"plan.policies: {name} is an endpoint and cannot be tuned; set plan.policies=[base]"
        )
    if cfg.plan.baselines and cfg.plan.main == name:
        raise ConfigError(f"plan.baselines: {name} is an endpoint; they start from weights")
    if name in cfg.plan.reward_models:
        raise ConfigError(f"plan.reward_models: {name} is an endpoint; name one with weights")
    if cfg.plan.metarm == name:
        raise ConfigError(f"plan.metarm: {name} is an endpoint; a meta RM starts from weights")


def _check_stop(stop: list[str]) -> None:
    if "" in stop:
        raise ConfigError("sampler.stop: an empty string would end every text before it begins")
    if twice := sorted({one for one in stop if stop.count(one) > 1}):
        raise ConfigError(f"sampler.stop: {twice[0]!r} is named twice")
    if boxes := [one for one in stop if one in "\\boxed{" or "\\boxed" in one]:
        raise ConfigError(
            f"sampler.stop: {boxes[0]!r} would end every judgement before its \\boxed{{…}}"
        )


def _check_tracker(uri: str) -> None:
    """No tracker's URI with a password: Snakemake prints it and keeps it in its logs."""
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            "tracking.uri: holds a user or password; name them in the environment, as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or all of MLFLOW_TRACKING_URI"
        )


def _check_secrets(endpoint: OpenAIConfig) -> None:
    """No URL and no key name that would put a secret into files; messages do not repeat them."""
    url = urlsplit(endpoint.base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError("sampler.openai.base_url: not of the form http(s)://host[:port]/path")
    if url.username or url.password or url.query or url.fragment:
        raise ConfigError(
            "sampler.openai.base_url: holds a user, password or query, which every file about the "
            "run would keep; name an environment variable with the key in sampler.openai.key_env"
        )
    if endpoint.key_env and not _VARIABLE.fullmatch(endpoint.key_env):
        raise ConfigError(
            "sampler.openai.key_env: not the name of an environment variable (capitals, digits, _);"
            " the key itself must not stand in a configuration"
        )


def _check_choices(cfg: Config) -> None:
    for key, allowed in CHOICES.items():
        value = _get(cfg, key)
        for one in value if isinstance(value, list) else [value]:
            if one not in allowed:
                named = ", ".join(name or "''" for name in allowed)
                raise ConfigError(f"{key}: {one!r} is not one of {named}")


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
    kinds = [kind for kind, spec in toy.KINDS.items() if not spec.shift]
    _check_names("data.train_mix", data.train_mix, kinds)
    _check_names("data.benchmarks", data.benchmarks, list(toy.BENCHMARKS))
    if min(data.train_mix.values()) < 0 or sum(data.train_mix.values()) <= 0:
        raise ConfigError("data.train_mix: shares are 0 or more, and one of them is above 0")
    for name, items in data.benchmarks.items():
        if items < 1:
            raise ConfigError(f"data.benchmarks.{name}: at least one item is needed, not {items}")


def _check_names(key: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{key}: {name!r} is not one of {', '.join(known)}")


def _check_judge(cfg: Config) -> None:
    low, high = cfg.judge.score_min, cfg.judge.score_max
    if low >= high:
        raise ConfigError(f"judge.score_min: {low} is not below judge.score_max, {high}")
    if cfg.judge.principles == "fixed" and not cfg.judge.criteria:
        raise ConfigError(
            "judge.criteria: principles are fixed, but none are given; "
            "write them here or name a text file, e.g. general.txt"
        )
    trained = {*cfg.plan.policies, *cfg.plan.side_policies} - {"base"}
    if cfg.judge.single == "rating" and cfg.data.train_mix.get("single") and trained:
        raise ConfigError(
            "judge.single: a rating is neither right nor wrong, so nothing can be learnt from the "
            "single responses of data.train_mix; set bench.single=rating to rate in evaluation "
            "only, or data.train_mix.single=0"
        )
    if cfg.judge.answer == "index" and ((low, high) != (0, 1) or cfg.data.responses != 2):
        raise ConfigError(
            "judge.answer: an index is one point for the better of two responses; set "
            "judge.score_min=0, judge.score_max=1 and data.responses=2"
        )
    try:
        probe.try_out(prompts.load(cfg.judge.template), cfg.judge)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"judge.template: {error}") from error


def _get(cfg: Config, key: str) -> Any:
    value: Any = cfg
    for name in key.split("."):
        value = getattr(value, name)
    return value
