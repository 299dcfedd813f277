rule select:
    input:
        cfg="results/{run}/config/select.yaml",
        train=made("prepare", "train.parquet"),
        banks=bank("rollout"),
    output:
        rows="results/{run}/seed{seed}/select/{size}/rft.parquet",
        ledger="results/{run}/seed{seed}/select/{size}/ledger.json",
    log:
        "logs/{run}/seed{seed}/select/{size}.log",
    priority: 60
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        banks=many("banks"),
    shell:
        "spct select --config {input.cfg} seed={wildcards.seed} io.items={input.train}"
        " {params.banks} io.out={output.rows} io.out_ledger={output.ledger} > {log} 2>&1"
