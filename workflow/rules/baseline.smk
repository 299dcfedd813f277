rule baseline:
    input:
        cfg="results/{run}/config/{size}/baseline.yaml",
        train=lambda w: RUNS.rl_items(w.run, w.seed),
        base=base_model,
        template=own_template,
    output:
        directory("results/{run}/seed{seed}/baseline/{baseline}-{size}"),
    log:
        "logs/{run}/seed{seed}/baseline/{baseline}-{size}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
        nodes=1,
    params:
        gpus_each=gpus_each(),
    shell:
        TRAIN
        + " baseline --config {input.cfg} seed={wildcards.seed} io.items={input.train}"
        " io.name={wildcards.baseline} io.out={output} > {log} 2>&1"
