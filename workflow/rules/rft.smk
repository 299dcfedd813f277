rule rft:
    input:
        cfg="results/{run}/config/{size}/rft.yaml",
        train=made("prepare", "train.parquet"),
        general=made("prepare", "general.parquet"),
        rows=made("select", "rft.parquet"),
        base=base_model,
        template=own_template,
    output:
        directory("results/{run}/seed{seed}/rft/{size}"),
    log:
        "logs/{run}/seed{seed}/rft/{size}.log",
    priority: 60
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
        + " rft --config {input.cfg} seed={wildcards.seed} io.items={input.train}"
        " io.rows={input.rows} io.general={input.general} io.out={output} > {log} 2>&1"
