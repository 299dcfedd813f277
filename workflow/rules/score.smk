rule score:
    input:
        cfg=lambda w: RUNS.slice_path(w.run, Node("score", w.size, w.policy)),
        bench=lambda w: RUNS.bench(w.run, w.seed),
        bank=made("judge", "{shard}.parquet"),
        metarm=lambda w: RUNS.metarm(w.run, w.seed),
        template=own_template,
    output:
        "results/{run}/seed{seed}/score/{policy}-{size}/{shard}.parquet",
    log:
        "logs/{run}/seed{seed}/score/{policy}-{size}/{shard}.log",
    priority: 80
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=0,
    shell:
        SPCT
        + " score --config {input.cfg} seed={wildcards.seed} io.items={input.bench}"
        " io.bank={input.bank} io.metarm={input.metarm} io.out={output} > {log} 2>&1"
