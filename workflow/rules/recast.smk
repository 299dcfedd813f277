# Only for a run that judges its benchmarks in another form (conf/recast).
rule recast:
    input:
        cfg="results/{run}/config/recast.yaml",
        bench=made("prepare", "bench.parquet"),
    output:
        "results/{run}/seed{seed}/recast/bench.parquet",
    log:
        "logs/{run}/seed{seed}/recast.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "spct recast --config {input.cfg} seed={wildcards.seed} io.items={input.bench}"
        " io.out={output} > {log} 2>&1"
