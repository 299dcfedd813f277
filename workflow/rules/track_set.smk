# The page, tables and figures of a set as artifacts in MLflow, beside its runs.
rule track_set:
    input:
        page="reports/{set}/index.html",
        tables="reports/{set}/tables.csv",
        claims="reports/{set}/claims.csv",
    output:
        "results/{set}/tracked.json",
    log:
        "logs/{set}/track.log",
    wildcard_constraints:
        set=any_of(RUNS.sets),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        # as in the rule track
        tracker=lambda w, output: RUNS.tracking(RUNS.sets[w.set][1][0]),
    shell:
        "spct sync --run {wildcards.set} {params.tracker:q} --out {output} > {log} 2>&1"
