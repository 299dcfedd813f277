"""Named types of settings, each with its bounds: what :mod:`spct.schema` is written in.

An upper bound is what the quantity can mean at most, or where numbers stop being finite or memory
ends; never a matter of taste. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated

from spct.bounds import LARGEST, OneOf, Range, Several

POLICIES = ("base", "rft", "grpo")  # in the order of training
BASELINES = ("btrm", "pairrm", "cloud")
ENGINES = ("native", "hf", "vllm", "openai")
PRINCIPLES = ("self", "none", "fixed", "query_only", "given")
ORDERS = ("random", "balanced", "fixed")
VERDICTS = ("verdict", "rating")
STDS = ("population", "sample", "batch", "none")
AGGREGATIONS = ("sequence", "token", "constant")
KL_ESTIMATORS = ("k1", "k2", "k3")

# ---- whole numbers

Count = Annotated[int, Range(least=0, most=LARGEST)]  # 0 is none or all, as the setting says
Size = Annotated[int, Range(least=1, most=LARGEST)]
Tokens = Annotated[int, Range(least=0, most=10**15)]
Length = Annotated[int, Range(least=1, most=10_000_000)]  # of one text, in tokens
Together = Annotated[int, Range(least=1, most=65_536)]  # in memory at one time
Samples = Annotated[int, Range(least=1, most=10_000)]  # of one item
Hinted = Annotated[int, Range(least=0, most=10_000)]
Members = Annotated[int, Range(least=2, most=10_000, cure="a group of one has no advantage")]
Draws = Annotated[int, Range(least=1, most=100_000)]  # in memory at one time
# With fewer the spread that an interval rests on is off by more than a sixth; one draw has none.
Resamples = Annotated[int, Range(least=20, most=100_000)]
Bins = Annotated[int, Range(least=1, most=1000)]
Jobs = Annotated[int, Range(least=1, most=100_000)]
Requests = Annotated[int, Range(least=1, most=10_000)]  # a thread each
Retries = Annotated[int, Range(least=0, most=100)]  # the wait about doubles at each
Lag = Annotated[int, Range(least=0, most=1)]
Score = Annotated[int, Range(least=-1000, most=1000)]  # votes count every sum of a bank's scores
Seed = Annotated[int, Range(least=0, most=LARGEST)]
Seeds = Annotated[list[Seed], Several(least=1)]
Ks = Annotated[list[Samples], Several(least=1)]

# ---- numbers

Share = Annotated[float, Range(least=0, below=1)]
Part = Annotated[float, Range(above=0, most=1)]
Inside = Annotated[float, Range(above=0, below=1)]
Fraction = Annotated[float, Range(least=0, most=1)]
Positive = Annotated[float, Range(above=0, most=1e6)]
Weight = Annotated[float, Range(least=0, most=1e6)]
Level = Annotated[float, Range(least=0.5, most=0.9999)]  # of intervals: their ends are finite
Coefficient = Annotated[float, Range(least=0, most=1000)]
Bias = Annotated[float, Range(least=-1000, most=1000)]
Fall = Annotated[float, Range(above=0, most=2)]  # of a mean of rewards from -1 to 1
Passes = Annotated[float, Range(above=0, most=10_000)]  # over the data
Seconds = Annotated[float, Range(above=0, most=1e7)]
Pause = Annotated[float, Range(least=0, most=1e7)]  # seconds
# Below it float32 weights no longer move; above it decay could turn their sign.
Rate = Annotated[float, Range(least=1e-12, most=1)]
Norm = Annotated[float, Range(least=1e-6, most=1e12, cure="for no limit set a large one, 1e9")]
# Logits divided by less than 0.01 overflow; at 100 any token is as likely as any other.
Temperature = Annotated[float, Range(least=0.01, most=100, cure="at 0 all samples would be equal")]
GreedyOrTemperature = Annotated[float, Range(least=0.01, most=100, or_zero=True)]
Certainties = Annotated[list[Annotated[float, Range(above=0.5, below=1)]], Several()]

# ---- names

Policy = Annotated[str, OneOf(*POLICIES)]
Policies = Annotated[list[Policy], Several()]
SomePolicies = Annotated[list[Policy], Several(least=1)]
Baselines = Annotated[list[Annotated[str, OneOf(*BASELINES)]], Several()]
Models = Annotated[list[str], Several()]  # of conf/model
Stops = Annotated[list[str], Several()]  # strings, no two of them equal
Files = Annotated[list[str], Several(least=1)]
World = Annotated[str, OneOf("v1", "real")]
Dtype = Annotated[str, OneOf("float32", "bfloat16")]
Engine = Annotated[str, OneOf(*ENGINES)]
Api = Annotated[str, OneOf("chat", "completions")]
Principles = Annotated[str, OneOf(*PRINCIPLES)]
Order = Annotated[str, OneOf(*ORDERS)]
OrderOrSame = Annotated[str, OneOf("", *ORDERS)]
Verdict = Annotated[str, OneOf(*VERDICTS)]
VerdictOrSame = Annotated[str, OneOf("", *VERDICTS)]
Answer = Annotated[str, OneOf("scores", "index")]
Method = Annotated[str, OneOf("adamw", "muon")]
Std = Annotated[str, OneOf(*STDS)]
Aggregation = Annotated[str, OneOf(*AGGREGATIONS)]
KlEstimator = Annotated[str, OneOf(*KL_ESTIMATORS)]
Keep = Annotated[str, OneOf("last", "best")]
Form = Annotated[str, OneOf("", "pairs", "reference")]
Invalid = Annotated[str, OneOf("drop", "zero")]
