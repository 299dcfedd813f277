"""Types and constraints of the configuration. Values live in ``conf/``, with the paper's.

One dataclass per Hydra group. A stage sees only the groups it declares in :mod:`spct.stages`.
Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Of a key that older runs do not have: frozen only where it is set, so that they stay as they are.
LATER = {"frozen": "if set"}


@dataclass
class PlanConfig:
    """What the DAG runs. Read by the Snakefile alone, so changing it reruns nothing that exists."""

    seeds: list[int]
    policies: list[str]  # of base, rft, grpo
    main: str  # the model config that goes through the whole chain
    sizes: list[str]  # further model configs, judged as `side_policies`
    side_policies: list[str]
    metarm: str  # model config the meta RM starts from; "" for none
    guided: list[str]  # policies of the main model whose votes the meta RM guides
    judged: list[str] = field(default_factory=list)  # policies of it to judge; empty for all
    weak: str = ""  # model config whose easy items GRPO leaves out; "" for none
    baselines: list[str] = field(default_factory=list)  # of btrm, pairrm, cloud, at the main size
    reward_models: list[str] = field(default_factory=list)  # model configs of trained classifiers


@dataclass
class SourceConfig:
    """One data set: where it lives and how it is read. ``conf/source``, ``conf/bench_source``."""

    name: str  # prefix of its items' ids
    loader: str  # a name of data.sources.LOADERS (training), GENERAL (text) or bench (benchmarks)
    files: list[str]  # names or globs below the folder, the hub's dataset or the URL
    path: str = ""  # a local folder; a relative one is looked up under SPCT_DATA
    hub: str = ""  # a dataset's id on the Hugging Face hub, where there is no `path`
    revision: str = ""  # of the hub's dataset: a commit
    url: str = ""  # a folder on the web, where there is neither
    sha256: dict[str, str] = field(default_factory=dict)  # file -> hex digits; checked where given
    split: str = ""
    filter: str = ""  # of data.filters: min_gap | min_strength | single_turn; "" for none
    shape: str = ""  # of data.shapes, for right and wrong answers: pair | best_of | single
    weight: float = 1.0  # share of data.train_items next to the other sources' weights
    limit: int = 0  # at most so many items, drawn by seed; 0 for all
    max_chars: int = 0  # of an item, messages and responses together; longer ones are dropped
    license: str = ""
    publishable: bool = True  # False: no text of it leaves results/
    page: str = ""  # where a person reads about it
    options: dict[str, str | int | float] = field(default_factory=dict)  # the loader's own


@dataclass
class DataConfig:
    world: str  # toy world version, or real: the sources below
    train_items: int
    train_mix: dict[str, float]  # share of each toy training kind
    general_items: int
    benchmarks: dict[str, int]  # benchmark name -> held-out items
    train_sources: dict[str, SourceConfig] = field(default_factory=dict)
    general_sources: dict[str, SourceConfig] = field(default_factory=dict)
    bench_sources: dict[str, SourceConfig] = field(default_factory=dict)
    max_chars: int = 0  # of a prompt or response to train on; longer ones are dropped; 0: no limit
    drop_overlap: float = 0.0  # share of a benchmark text that training may not hold; 0: any
    responses: int = 0  # only items of so many responses, in training and benchmarks; 0: any


@dataclass
class AuditConfig:
    ngram: int  # words of a run that training and benchmark texts are compared by
    share: float  # of a benchmark text's runs: a training text with so many overlaps it
    max_overlap: float  # of a benchmark's items; above it the run stops


@dataclass
class ModelConfig:
    name: str
    source: str  # builtin:<name>, a folder, or a hub id
    revision: str | None
    dtype: str  # float32 | bfloat16
    trust_remote_code: bool


@dataclass
class OpenAIConfig:
    """An OpenAI-compatible endpoint; ``model.source: endpoint:<name>`` names what it serves."""

    base_url: str = "http://localhost:8000/v1"
    api: str = "chat"  # chat | completions
    key_env: str = ""  # name of the environment variable that holds the key; "" for no key
    concurrency: int = 16  # requests under way at one time
    timeout: float = 300.0  # seconds of one attempt
    max_retries: int = 6  # after the first attempt
    backoff: float = 1.0  # seconds before the first retry, about doubled for each further one
    max_wait: float = 120.0  # seconds; no wait is longer, and a server that asks for more is down
    budget: int = 0  # tokens a shard may use, prompts included; 0 for no limit
    logprobs: bool = False  # ask for them
    extra: dict[str, Any] = field(default_factory=dict)  # body fields to add; null takes one out


@dataclass
class VllmConfig:
    """The vLLM engine. Tensor parallelism is no key: it spans the GPUs that the job sees."""

    gpu_memory: float = 0.9  # share of each GPU's memory for weights and key-value cache
    kv_cache_gib: float = 1.0  # key-value cache on a machine without GPU
    max_batched_tokens: int = 0  # tokens of one engine step; 0 for vLLM's own choice
    enforce_eager: bool = False  # no compilation, no CUDA graphs
    adapter: str = ""  # folder of a LoRA adapter on top of the model; "" for none
    deadline: float = 600.0  # seconds that one engine step may take


@dataclass
class SamplerConfig:
    engine: str  # native | hf | vllm | openai
    max_new_tokens: int
    max_prompt_tokens: int
    batch_size: int  # sequences decoded together
    part_samples: int  # samples between resume points of a bank shard
    top_p: float
    max_errors: float = 0.0  # share of a shard's samples that the engine may fail for good
    force_scores: bool = False  # constrain the end of a judgement to scores; native alone
    stop: list[str] = field(default_factory=list, metadata=LATER)  # a text ends before any of them
    vllm: VllmConfig = field(default_factory=VllmConfig)
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)


@dataclass
class JudgeConfig:
    template: str  # a file name in judge/templates, or a path
    principles: str  # self | none | fixed | query_only | given
    order: str  # random | balanced | fixed
    score_min: int
    score_max: int
    single: str  # one response: verdict (0/1) | rating
    criteria: str = ""  # the principles if they are fixed; a file's content once composed
    answer: str = "scores"  # scores | index: the number of the better of two (LLM-as-a-judge)


@dataclass
class RolloutConfig:
    n_rft: int  # non-hinted trajectories per item (paper: 3)
    hinted: int  # hinted trajectories per item (paper: 1)
    temperature: float
    shards: int


@dataclass
class SelectConfig:
    use_plain: bool
    use_hinted: bool
    drop_too_easy: bool  # drop the item's plain rows when all N_RFT are correct
    allow_empty: bool


@dataclass
class OptimConfig:
    name: str  # adamw | muon
    lr: float
    muon_lr: float  # for matrices when name = muon
    weight_decay: float
    warmup_steps: int
    final_lr: float  # linear decay to this share of lr
    max_grad_norm: float


@dataclass
class RftConfig:
    optim: OptimConfig
    epochs: float
    batch_tokens: int  # tokens a step
    micro_tokens: int  # tokens per forward pass
    recompute: bool  # activation checkpointing
    general_share: float  # share of general rows in the mix (paper: 0.85)
    checkpoint_every: int


@dataclass
class GrpoConfig:
    lr: float
    steps: int
    prompts_per_step: int
    group_size: int
    kl_coef: float
    kl_estimator: str  # k1 | k2 | k3
    clip_low: float
    clip_high: float
    aggregation: str  # sequence | token | constant
    importance_cap: float  # of the trainer's to the sampler's probability; 0 for no correction
    updates_per_rollout: int
    temperature: float
    std: str  # population | sample | batch | none
    std_eps: float
    weight_decay: float
    warmup_steps: int
    final_lr: float
    max_grad_norm: float
    micro_tokens: int  # tokens per forward pass
    logprob_chunk: int  # tokens whose logits exist at one time
    recompute: bool  # activation checkpointing of each layer
    skip_dead: bool  # learn nothing from dead groups, KL neither
    refill: int  # most further prompts a step in the place of dead groups
    swap_orders: bool  # members of a group see the responses in different orders
    eval_every: int  # steps between evaluations on held-out items; 0 for none
    eval_items: int  # training items held out for them
    keep: str  # last | best: the weights that are written in the end
    alarm_drop: float  # fall of a domain's mean reward from its best that is an alarm
    alarm_window: int  # steps of that mean
    alarm_invalid: float  # share of a domain's unreadable outputs above which is an alarm
    max_logprob_gap: float | None  # to the sampler, nats a token; None: by model.dtype; 0: any
    stop_on_gap: bool  # a wider gap stops the stage, instead of an alarm
    checkpoint_every: int
    log_samples_every: int
    allow_empty: bool  # go on although every group was dead
    rollout_lag: int = 0  # updates that rollouts may be behind: 0, or 1 to overlap with the update
    colocate: bool = True  # sample where the policy trains, else on GPUs and in processes apart


@dataclass
class DifficultyConfig:
    n: int  # an item whose first n samples by the weak model are all correct is too easy


@dataclass
class RolloutPolicyConfig:
    n_samples: int
    items: int  # training items used; 0 means all
    temperature: float
    shards: int


@dataclass
class MetaRMConfig:
    optim: OptimConfig
    epochs: float
    batch_tokens: int  # tokens a step
    micro_tokens: int  # tokens per forward pass
    recompute: bool  # activation checkpointing
    dense_weight: float  # weight of the same loss at every token of the judgement
    match_margin: bool  # both classes weigh the same at every score margin
    dev_share: float  # items held out of the fit for AUC
    checkpoint_every: int


@dataclass
class BaselineConfig:
    optim: OptimConfig
    epochs: float
    batch_tokens: int  # tokens a step
    micro_tokens: int  # tokens per forward pass
    recompute: bool  # activation checkpointing
    dev_share: float  # items held out of the fit for the accuracy
    checkpoint_every: int
    critic_epochs: float = 2.0  # cloud: passes over the critiques
    k_max: int = 32  # cloud: critiques of each response of a benchmark
    temperature: float = 1.0  # cloud: of all critiques


@dataclass
class BenchConfig:
    k_max: int
    greedy: bool
    temperature: float
    shards: int
    single: str  # as judge.single, for evaluation; "" for the same
    order: str  # as judge.order, for evaluation; "" for the same


@dataclass
class RecastConfig:
    form: str  # pairs | reference: the benchmark items in another form; "" as they are


@dataclass
class ScalingConfig:
    ks: list[int]
    k_meta_share: float  # k_meta = max(1, ceil(share * k)) (paper: one half)
    subsets: int  # random subsets per item and k, where not all of them can be counted
    bootstrap: int
    level: float
    invalid: str  # drop | zero: what an invalid sample does in a vote
    adaptive: list[float]  # levels of certainty at which sampling may stop; empty for none
    max_repeats: float  # equal texts among an item's samples beyond chance; above it: refused


@dataclass
class HealthConfig:
    bins: int  # of the reliability plot


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
