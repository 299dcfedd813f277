rule token_prob:
    input:
        cfg="results/{run}/config/{size}/token_prob.yaml",
        bench=lambda w: RUNS.bench(w.run, w.seed),
        banks=bank("judge"),
        init=lambda w: RUNS.init(w.run, w.seed, w.policy, w.size),
        base=base_model,
        template=own_template,
    output:
        "results/{run}/seed{seed}/token_prob/{policy}-{size}/scores.parquet",
    log:
        "logs/{run}/seed{seed}/token_prob/{policy}-{size}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=0,
    params:
        banks=many("banks"),
        init=many("init"),
    shell:
        SPCT
        + " token_prob --config {input.cfg} seed={wildcards.seed} io.items={input.bench}"
        " {params.banks} {params.init} io.policy={wildcards.policy} io.out={output} > {log} 2>&1"
