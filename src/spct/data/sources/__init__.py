"""Training sets by loader's name: a short module each, from upstream's rows into items."""

from __future__ import annotations

from spct.data.sources import (
    alpacaeval_8way,
    dpo_demo,
    generic,
    gsm8k_solutions,
    helpsteer2,
    helpsteer2_preference,
    hh_rlhf,
    if_pairs,
    math,
    mmlu_pro_best_of_8,
    oasst,
    offsetbias,
    prometheus_graded,
    skywork_preference_80k_v02,
    ultrafeedback,
    webgpt_comparisons,
)
from spct.data.sources.base import Loader

LOADERS: dict[str, Loader] = {
    "alpacaeval_8way": alpacaeval_8way.load,
    "dpo_demo": dpo_demo.load,
    "generic": generic.load,
    "gsm8k_solutions": gsm8k_solutions.load,
    "helpsteer2": helpsteer2.load,
    "helpsteer2_preference": helpsteer2_preference.load,
    "hh_rlhf": hh_rlhf.load,
    "if_pairs": if_pairs.load,
    "math": math.load,
    "mmlu_pro_best_of_8": mmlu_pro_best_of_8.load,
    "oasst": oasst.load,
    "offsetbias": offsetbias.load,
    "prometheus_graded": prometheus_graded.load,
    "skywork_preference_80k_v02": skywork_preference_80k_v02.load,
    "ultrafeedback": ultrafeedback.load,
    "webgpt_comparisons": webgpt_comparisons.load,
}
