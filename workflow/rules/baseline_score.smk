rule baseline_score:
    input:
        cfg="results/{run}/config/{size}/baseline_score.yaml",
        bench=lambda w: RUNS.bench(w.run, w.seed),
        init=lambda w: RUNS.baseline(w.run, w.seed, w.baseline, w.size),
        base=base_model,
        template=own_template,
    output:
        "results/{run}/seed{seed}/baseline_score/{baseline}-{size}/scores.parquet",
    log:
        "logs/{run}/seed{seed}/baseline_score/{baseline}-{size}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=0,
    params:
        init=many("init"),
    shell:
        SPCT
        + " baseline_score --config {input.cfg} seed={wildcards.seed} io.items={input.bench}"
        " {params.init} io.name={wildcards.baseline} io.out={output} > {log} 2>&1"
