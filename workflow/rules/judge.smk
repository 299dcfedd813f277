# One process serves every benchmark of a policy.
rule judge:
    input:
        cfg="results/{run}/config/{size}/judge.yaml",
        bench=lambda w: RUNS.bench(w.run, w.seed),
        init=lambda w: RUNS.init(w.run, w.seed, w.policy, w.size),
        base=base_model,
        template=own_template,
    output:
        "results/{run}/seed{seed}/judge/{policy}-{size}/{shard}.parquet",
    log:
        "logs/{run}/seed{seed}/judge/{policy}-{size}/{shard}.log",
    priority: 20
    threads: 1
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=0,
    params:
        init=many("init"),
    shell:
        SPCT
        + " judge --config {input.cfg} seed={wildcards.seed} io.items={input.bench}"
        " {params.init} io.policy={wildcards.policy} io.shard={wildcards.shard}"
        " io.out={output} > {log} 2>&1"
