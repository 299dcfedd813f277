# The border between Hydra and Snakemake: the slice of a stage as a file, rewritten when it changes.
rule freeze:
    output:
        "results/{run}/config/{slice}.yaml",
    log:
        "logs/{run}/freeze/{slice}.log",
    wildcard_constraints:
        slice=r"([\w.-]+/)?\w+",
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        text=lambda w: RUNS.frozen(w.run, w.slice),
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"
