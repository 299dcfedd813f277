# The whole road: preference data -> rejective fine-tuning -> GRPO -> meta reward model -> curves.
#
#   snakemake --cores all                                              experiment `tiny`
#   snakemake --cores all --config 'experiments=[tiny,tiny_no_kl]'     several, sharing what is equal
#   snakemake --cores all --config 'hydra=grpo.lr=1e-5'                overridden, in its own folder
#
# What is computed: conf/. Where it runs: profiles/. What a stage does: `spct --help`, src/spct/stages.py.
from snakemake.utils import min_version

min_version("9.0")


container: "docker://ghcr.io/spct/spct:0.1.0"


report: "reports/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/freeze.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/recast.smk"
include: "workflow/rules/rollout.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/rft.smk"
include: "workflow/rules/difficulty.smk"
include: "workflow/rules/grpo.smk"
include: "workflow/rules/rollout_policy.smk"
include: "workflow/rules/metarm.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/baseline.smk"
include: "workflow/rules/baseline_score.smk"
include: "workflow/rules/token_prob.smk"
include: "workflow/rules/curves.smk"
include: "workflow/rules/blind.smk"
include: "workflow/rules/health.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/track_set.smk"


localrules:
    all,
    freeze,
    track,
    track_set,


rule all:
    default_target: True
    input:
        expand("results/{run}/curves.csv", run=RUNS.targets),
        expand("reports/{run}/report.html", run=RUNS.targets),
        expand("results/{run}/tracked.json", run=RUNS.targets),
        expand("reports/{set}/index.html", set=RUNS.sets),
        expand("results/{set}/tracked.json", set=RUNS.sets),


onstart:
    check_machine()
    resume.record()


onsuccess:
    for name in [*RUNS.targets, *RUNS.sets]:
        for line in closing.after(name):
            print(line)


onerror:
    for path in log:
        for line in closing.failures(Path(path).read_text(encoding="utf-8")):
            print(line, file=sys.stderr)
