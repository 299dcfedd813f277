"""What no configuration says: how long texts are, what is kept, how many items a source has.

Each has its source, which ``spct plan`` prints with the figures that rest on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spct.schema import Config, SourceConfig

PAPER = "arXiv 2504.02495"
# Base models of the paper's own runs; their data, in part in-house, is planned at its size.
PAPER_MODELS = ("gemma2_27b", "deepseek_v2_lite")
PAPER_ITEMS = 237_000  # section 3.1: RL set
PAPER_GENERAL = 1_070_000  # the same: general instruction data of RFT
PAPER_KEPT = 186_000  # the same: rejectively sampled rows of RFT
PAPER_HOURS = {"rft": 19.2, "grpo": 15.6}  # appendix: hours of the 27B on 128 A100
PAPER_GPUS = 128


@dataclass(frozen=True)
class Count:
    """A number and where it is from."""

    value: float
    source: str


@dataclass(frozen=True)
class Lengths:
    """Tokens of texts, means; shares of what is kept. ``source`` says where they are from."""

    prompt: float  # of a judge's prompt
    completion: float  # of a judgement
    general: float  # prompt and completion of a general text of RFT
    kept: float  # of the base's rollouts, rows that RFT learns from
    readable: float  # of samples, those whose scores can be read
    source: str


TOY = Lengths(
    22, 25, 15, 0.34, 0.97,
    "measured on tiny, seed 0: prompts 21.8 to 22.8, judgements 23.9 to 25.7, general text 15.2 "
    "tokens; 33 to 36 % kept",
)  # fmt: skip
REAL = Lengths(
    1900, 280, 900, PAPER_KEPT / (4 * PAPER_ITEMS), 0.97,
    f"judgements: {PAPER} Fig. 7, 218 to 376 tokens; prompts and general text: ours, so that a "
    "step of RFT and of the meta RM has the paper's number of sequences (conf/experiment/"
    "deepseek_grm_27b.yaml); kept: the paper's 186K rows of 4 x 237K",
)  # fmt: skip

# Rows of training sets and benchmarks by source name; None: what the loader keeps is not known.
ROWS: dict[str, Count] = {
    "helpsteer2_preference": Count(6_766, "a description of its files, train split"),
    "ultrafeedback": Count(63_967, "its card, not looked up here"),
    "offsetbias": Count(8_504, "its card"),
    "skywork_preference_80k_v02": Count(77_016, "its card"),
    "math": Count(7_500, "its card, not looked up here, train split; one item of each problem"),
    "hh_rlhf_hub": Count(160_800, "its card, not looked up here, train split"),
    "rewardbench": Count(2_985, "its card, not looked up here, filtered split"),
    "rewardbench_math_prm": Count(447, "counted in the file"),
    "ppe_preference": Count(16_038, "its card"),
    "rmb": Count(15_926, "counted in the stored files"),
    "realmistake": Count(900, "counted in the file"),
    **{
        f"ppe_correctness_{name}": Count(2_560, "512 questions, five pairs each (assumed)")
        for name in ("mmlu_pro", "math", "gpqa", "mbpp_plus", "ifeval")
    },
}
UNKNOWN_ROWS = 5_000  # of a source that is not in the table


@dataclass(frozen=True)
class Items:
    """How many items of how many responses there are: counts by number of responses."""

    by_responses: dict[int, float]
    source: str

    @property
    def total(self) -> float:
        return sum(self.by_responses.values())

    @property
    def hintable(self) -> float:
        """Items of which one response of several is the best."""
        return sum(count for n, count in self.by_responses.items() if n > 1)


_RESPONSES = {"pair": 2, "single": 1, "best_of_4": 4}
_BENCH_RESPONSES = {"toy_best_of_4": 4, "toy_single": 1}


def training_items(cfg: Config) -> Items:
    """The training items."""
    return _restricted(_training_items(cfg), cfg)


def bench_items(cfg: Config) -> Items:
    """The benchmark items as the run judges them."""
    found, form = _restricted(_bench_items(cfg), cfg), cfg.recast.form
    counts, told = found.by_responses, f"{found.source}; recast.form={form}"
    if form == "pairs":  # lists alone, the best against each other
        return Items({2: sum(count * (n - 1) for n, count in counts.items() if n > 2)}, told)
    if form == "reference":
        return Items({n: count for n, count in counts.items() if n > 1}, told)
    return found


def _restricted(items: Items, cfg: Config) -> Items:
    """Those of ``data.responses`` responses alone, if it asks for a number."""
    only = cfg.data.responses
    if not only:
        return items
    counts = {n: count for n, count in items.by_responses.items() if n == only}
    return Items(counts, f"{items.source}; data.responses={only}")


def _training_items(cfg: Config) -> Items:
    data = cfg.data
    if data.world != "real":
        shares = {_RESPONSES[kind]: share for kind, share in data.train_mix.items()}
        counts = {n: share * data.train_items for n, share in shares.items()}
        return Items(counts, "data.train_items, data.train_mix")
    if data.train_items:
        return Items({2: data.train_items}, "data.train_items; taken as pairs")
    if cfg.plan.main in PAPER_MODELS:
        public = sum(rows_of(name).value for name in data.train_sources)
        note = f"{PAPER} section 3.1; the public sources hold about {public:,.0f}"
        return Items({2: PAPER_ITEMS}, f"{note}; taken as pairs")
    return _listed(data.train_sources)


def _bench_items(cfg: Config) -> Items:
    data = cfg.data
    if data.world != "real":
        counts: dict[int, float] = {}
        for name, count in data.benchmarks.items():
            n = _BENCH_RESPONSES.get(name, 2)
            counts[n] = counts.get(n, 0) + count
        return Items(counts, "data.benchmarks")
    return _listed(data.bench_sources)


def general_texts(cfg: Config) -> Count:
    """Texts there are for RFT's general share."""
    data = cfg.data
    if data.general_items or data.world != "real":
        return Count(data.general_items, "data.general_items")
    if cfg.plan.main in PAPER_MODELS:
        return Count(PAPER_GENERAL, f"{PAPER} section 3.1, in-house")
    found = _listed(data.general_sources)
    return Count(found.total, found.source)


def rows_of(source: str) -> Count:
    """Rows of a source by its name."""
    return ROWS.get(source, Count(UNKNOWN_ROWS, f"assumed {UNKNOWN_ROWS:,}: not in the table"))


def _listed(sources: Mapping[str, SourceConfig]) -> Items:
    """The rows of sources, each at most its ``limit``; ReaLMistake alone has single responses."""
    rows = {
        name: min(rows_of(name).value, source.limit or float("inf"))
        for name, source in sources.items()
    }
    single = rows.get("realmistake", 0.0)
    pairs = sum(rows.values()) - single
    told = ", ".join(f"{name} {count:,.0f}" for name, count in rows.items())
    return Items({1: single, 2: pairs} if single else {2: pairs}, f"rows of {told}")


def lengths(cfg: Config) -> Lengths:
    """Lengths in the toy world, or of real texts."""
    return TOY if cfg.data.world != "real" else REAL
