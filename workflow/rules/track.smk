# Mirrors finished files to MLflow. With the tracker down it still succeeds and its output says so;
# `spct sync --run RUN` catches up later.
rule track:
    input:
        page="reports/{run}/report.html",
        curves="results/{run}/curves.csv",
        models=lambda w: RUNS.collect(w.run)["models"],
    output:
        "results/{run}/tracked.json",
    log:
        "logs/{run}/track.log",
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "spct sync --run {wildcards.run} --out {output} > {log} 2>&1"
