rule metarm:
    input:
        cfg="results/{run}/config/{size}/metarm.yaml",
        train=made("prepare", "train.parquet"),
        banks=lambda w: RUNS.metarm_banks(w.run, w.seed),
        base=base_model,
        template=own_template,
    output:
        directory("results/{run}/seed{seed}/metarm/{size}"),
    log:
        "logs/{run}/seed{seed}/metarm/{size}.log",
    priority: 100
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
        nodes=1,
    params:
        banks=many("banks"),
        gpus_each=gpus_each(),
    shell:
        TRAIN
        + " metarm --config {input.cfg} seed={wildcards.seed} io.items={input.train}"
        " {params.banks} io.out={output} > {log} 2>&1"
