# Mirrors finished files to MLflow. With the tracker down it still succeeds and its output says so;
# `spct sync --run RUN` catches up later.
rule track:
    input:
        page="reports/{run}/report.html",
        curves="results/{run}/curves.csv",
        models=lambda w: RUNS.collect(w.run)["models"],
        run="results/{run}/config/run.yaml",
    output:
        "results/{run}/tracked.json",
    log:
        "logs/{run}/track.log",
    wildcard_constraints:
        run=any_of(RUNS.runs),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        # Asks for `output` so that Snakemake records no value: another tracker reruns nothing.
        tracker=lambda w, output: RUNS.tracking(w.run),
    shell:
        "spct sync --run {wildcards.run} {params.tracker:q} --out {output} > {log} 2>&1"
