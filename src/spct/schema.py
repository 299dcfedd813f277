"""Types and bounds of the configuration. Values live in ``conf/``, with the paper's.

One dataclass per Hydra group. A stage sees only the groups it declares in :mod:`spct.stages`. A
setting's type says what its values may be: every number has a :class:`~spct.bounds.Range`, every
name from a closed list a :class:`~spct.bounds.OneOf`. What goes with what is in :mod:`spct.checks`.
Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spct import kinds as k

# Of a key that older runs do not have: frozen only where it is set, so that they stay as they are.
LATER = {"frozen": "if set"}


@dataclass
class PlanConfig:
    """What the DAG runs. Read by the Snakefile alone, so changing it reruns nothing that exists."""

    seeds: k.Seeds
    policies: k.SomePolicies
    main: str  # the model config that goes through the whole chain
    sizes: k.Models  # further model configs, judged as `side_policies`
    side_policies: k.Policies
    metarm: str  # model config the meta RM starts from; "" for none
    guided: k.Policies  # policies of the main model whose votes the meta RM guides
    judged: k.Policies = field(default_factory=list)  # policies of it to judge; empty for all
    weak: str = ""  # model config whose easy items GRPO leaves out; "" for none
    baselines: k.Baselines = field(default_factory=list)  # at the main size
    reward_models: k.Models = field(default_factory=list)  # model configs of trained classifiers


@dataclass
class SourceConfig:
    """One data set: where it lives and how it is read. ``conf/source``, ``conf/bench_source``."""

    name: str  # prefix of its items' ids
    loader: str  # a name of data.sources.LOADERS (training), GENERAL (text) or bench (benchmarks)
    files: k.Files  # names or globs below the folder, the hub's dataset or the URL
    path: str = ""  # a local folder; a relative one is looked up under SPCT_DATA
    hub: str = ""  # a dataset's id on the Hugging Face hub, where there is no `path`
    revision: str = ""  # of the hub's dataset: a commit
    url: str = ""  # a folder on the web, where there is neither
    sha256: dict[str, str] = field(default_factory=dict)  # file -> hex digits; checked where given
    split: str = ""
    filter: str = ""  # of data.filters: min_gap | min_strength | single_turn; "" for none
    shape: str = ""  # of data.shapes, for right and wrong answers: pair | best_of | single
    weight: k.Positive = 1.0  # share of data.train_items next to the other sources' weights
    limit: k.Count = 0  # at most so many items, drawn by seed; 0 for all
    max_chars: k.Count = 0  # of an item, messages and responses together; longer ones are dropped
    license: str = ""
    publishable: bool = True  # False: no text of it leaves results/
    page: str = ""  # where a person reads about it
    options: dict[str, str | k.Count | k.Weight] = field(default_factory=dict)  # the loader's own


@dataclass
class DataConfig:
    world: k.World  # of the toy world its version; real: the sources below
    train_items: k.Count
    train_mix: dict[str, k.Weight]  # share of each toy training kind
    general_items: k.Count
    benchmarks: dict[str, k.Size]  # benchmark name -> held-out items
    train_sources: dict[str, SourceConfig] = field(default_factory=dict)
    general_sources: dict[str, SourceConfig] = field(default_factory=dict)
    bench_sources: dict[str, SourceConfig] = field(default_factory=dict)
    max_chars: k.Count = 0  # of a text to train on; longer ones are dropped; 0: no limit
    drop_overlap: k.Share = 0.0  # share of a benchmark text that training may not hold; 0: any
    responses: k.Count = 0  # only items of so many responses, in training and benchmarks; 0: any


@dataclass
class AuditConfig:
    ngram: k.Size  # words of a run that training and benchmark texts are compared by
    share: k.Part  # of a benchmark text's runs: a training text with so many overlaps it
    max_overlap: k.Share  # of a benchmark's items; above it the run stops


@dataclass
class ModelConfig:
    name: str
    source: str  # builtin:<name>, a folder, or a hub id
    revision: str | None
    dtype: k.Dtype
    trust_remote_code: bool
    # YYYY-MM-DD: the day that a chat template writes, if it writes any
    date: str = field(default="", metadata=LATER)


@dataclass
class OpenAIConfig:
    """An OpenAI-compatible endpoint; ``model.source: endpoint:<name>`` names what it serves."""

    base_url: str = "http://localhost:8000/v1"
    api: k.Api = "chat"
    key_env: str = ""  # name of the environment variable that holds the key; "" for no key
    concurrency: k.Requests = 16  # requests under way at one time
    timeout: k.Seconds = 300.0  # seconds of one attempt
    max_retries: k.Retries = 6  # after the first attempt
    backoff: k.Pause = 1.0  # seconds before the first retry, about doubled for each further one
    max_wait: k.Seconds = (
        120.0  # seconds; no wait is longer, and a server that asks for more is down
    )
    budget: k.Tokens = 0  # tokens a shard may use, prompts included; 0 for no limit
    logprobs: bool = False  # ask for them
    extra: dict[str, Any] = field(default_factory=dict)  # body fields to add; null takes one out


@dataclass
class VllmConfig:
    """The vLLM engine. Tensor parallelism is no key: it spans the GPUs that the job sees."""

    gpu_memory: k.Part = 0.9  # share of each GPU's memory for weights and key-value cache
    kv_cache_gib: k.Positive = 1.0  # key-value cache on a machine without GPU
    max_batched_tokens: k.Count = 0  # tokens of one engine step; 0 for vLLM's own choice
    enforce_eager: bool = False  # no compilation, no CUDA graphs
    adapter: str = ""  # folder of a LoRA adapter on top of the model; "" for none
    deadline: k.Seconds = 600.0  # seconds that one engine step may take


@dataclass
class SamplerConfig:
    engine: k.Engine
    max_new_tokens: k.Length
    max_prompt_tokens: k.Length
    batch_size: k.Together  # sequences decoded together
    part_samples: k.Size  # samples between resume points of a bank shard
    top_p: k.Part
    max_errors: k.Share = 0.0  # share of a shard's samples that the engine may fail for good
    force_scores: bool = False  # constrain the end of a judgement to scores; native alone
    stop: k.Stops = field(default_factory=list, metadata=LATER)  # a text ends before any of them
    vllm: VllmConfig = field(default_factory=VllmConfig)
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)


@dataclass
class JudgeConfig:
    template: str  # a file name in judge/templates, or a path
    principles: k.Principles
    order: k.Order
    score_min: k.Score
    score_max: k.Score
    single: k.Verdict  # of one response: 0 or 1, or a rating in the range
    criteria: str = ""  # the principles if they are fixed; a file's content once composed
    answer: k.Answer = "scores"  # index: the number of the better of two (LLM-as-a-judge)
    max_too_long: k.Fraction = 0.1  # share of prompts that may not fit; above it a stage stops


@dataclass
class RolloutConfig:
    n_rft: k.Samples  # non-hinted trajectories per item (paper: 3)
    hinted: k.Hinted  # hinted trajectories per item (paper: 1)
    temperature: k.Temperature
    shards: k.Jobs


@dataclass
class SelectConfig:
    use_plain: bool
    use_hinted: bool
    drop_too_easy: bool  # drop the item's plain rows when all N_RFT are correct
    allow_empty: bool


@dataclass
class OptimConfig:
    name: k.Method
    lr: k.Rate
    muon_lr: k.Rate  # for matrices when name = muon
    weight_decay: k.Fraction
    warmup_steps: k.Count
    final_lr: k.Fraction  # linear decay to this share of lr
    max_grad_norm: k.Norm


@dataclass
class RftConfig:
    optim: OptimConfig
    epochs: k.Passes
    batch_tokens: k.Size  # tokens a step
    micro_tokens: k.Size  # tokens per forward pass
    recompute: bool  # activation checkpointing
    general_share: k.Share  # share of general rows in the mix (paper: 0.85)
    checkpoint_every: k.Size


@dataclass
class GrpoConfig:
    lr: k.Rate
    steps: k.Size
    prompts_per_step: k.Size
    group_size: k.Members
    kl_coef: k.Coefficient
    kl_estimator: k.KlEstimator
    clip_low: k.Inside
    clip_high: k.Positive
    aggregation: k.Aggregation
    importance_cap: k.Weight  # of the trainer's to the sampler's probability; 0 for no correction
    updates_per_rollout: k.Size
    temperature: k.Temperature
    std: k.Std
    std_eps: k.Fraction
    weight_decay: k.Fraction
    warmup_steps: k.Count
    final_lr: k.Fraction
    max_grad_norm: k.Norm
    micro_tokens: k.Size  # tokens per forward pass
    logprob_chunk: k.Size  # tokens whose logits exist at one time
    recompute: bool  # activation checkpointing of each layer
    skip_dead: bool  # learn nothing from dead groups, KL neither
    refill: k.Count  # most further prompts a step in the place of dead groups
    swap_orders: bool  # members of a group see the responses in different orders
    eval_every: k.Count  # steps between evaluations on held-out items; 0 for none
    eval_items: k.Count  # training items held out for them
    keep: k.Keep  # the weights that are written in the end
    alarm_drop: k.Fall  # fall of a domain's mean reward from its best that is an alarm
    alarm_window: k.Size  # steps of that mean
    alarm_invalid: k.Part  # share of a domain's unreadable outputs above which is an alarm
    max_logprob_gap: k.Coefficient | None  # to the sampler, nats a token; None: by dtype; 0: any
    stop_on_gap: bool  # a wider gap stops the stage, instead of an alarm
    checkpoint_every: k.Size
    log_samples_every: k.Count
    allow_empty: bool  # go on although every group was dead
    rollout_lag: k.Lag = 0  # updates that rollouts may be behind; 1 to overlap with the update
    colocate: bool = True  # sample where the policy trains, else on GPUs and in processes apart


@dataclass
class DifficultyConfig:
    n: k.Samples  # an item whose first n samples by the weak model are all correct is too easy


@dataclass
class RolloutPolicyConfig:
    n_samples: k.Samples
    items: k.Count  # training items used; 0 means all
    temperature: k.Temperature
    shards: k.Jobs


@dataclass
class MetaRMConfig:
    optim: OptimConfig
    epochs: k.Passes
    batch_tokens: k.Size  # tokens a step
    micro_tokens: k.Size  # tokens per forward pass
    recompute: bool  # activation checkpointing
    dense_weight: k.Coefficient  # weight of the same loss at every token of the judgement
    match_margin: bool  # both classes weigh the same at every score margin
    dev_share: k.Share  # items held out of the fit for AUC
    checkpoint_every: k.Size


@dataclass
class BaselineConfig:
    optim: OptimConfig
    epochs: k.Passes
    batch_tokens: k.Size  # tokens a step
    micro_tokens: k.Size  # tokens per forward pass
    recompute: bool  # activation checkpointing
    dev_share: k.Share  # items held out of the fit for the accuracy
    checkpoint_every: k.Size
    critic_epochs: k.Passes = 2.0  # cloud: passes over the critiques
    k_max: k.Samples = 32  # cloud: critiques of each response of a benchmark
    temperature: k.Temperature = 1.0  # cloud: of all critiques


@dataclass
class BenchConfig:
    k_max: k.Samples
    greedy: bool
    temperature: k.GreedyOrTemperature
    shards: k.Jobs
    single: k.VerdictOrSame  # as judge.single, for evaluation; "" for the same
    order: k.OrderOrSame  # as judge.order, for evaluation; "" for the same


@dataclass
class RecastConfig:
    form: k.Form  # the benchmark items in another form; "" as they are


@dataclass
class ScalingConfig:
    ks: k.Ks
    k_meta_share: k.Part  # k_meta = max(1, ceil(share * k)) (paper: one half)
    subsets: k.Draws  # random subsets per item and k, where not all of them can be counted
    bootstrap: k.Resamples
    level: k.Level
    invalid: k.Invalid  # what an invalid sample does in a vote
    adaptive: k.Certainties  # at which sampling may stop; empty for none
    max_repeats: k.Part  # equal texts among an item's samples beyond chance; above it: refused


@dataclass
class HealthConfig:
    bins: k.Bins  # of the reliability plot


@dataclass
class ReportConfig:
    title: str


@dataclass
class TrackingConfig:
    uri: str
    experiment: str


@dataclass
class Config:
    """The whole configuration, as composed by Hydra."""

    base: str  # the experiment this one differs from; equal stages are shared with it
    plan: PlanConfig
    data: DataConfig
    audit: AuditConfig
    model: ModelConfig
    sampler: SamplerConfig
    judge: JudgeConfig
    rollout: RolloutConfig
    select: SelectConfig
    rft: RftConfig
    difficulty: DifficultyConfig
    grpo: GrpoConfig
    rollout_policy: RolloutPolicyConfig
    metarm: MetaRMConfig
    baseline: BaselineConfig
    bench: BenchConfig
    recast: RecastConfig
    scaling: ScalingConfig
    health: HealthConfig
    report: ReportConfig
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig("", "spct"))
