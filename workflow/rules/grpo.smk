rule grpo:
    input:
        cfg="results/{run}/config/{size}/grpo.yaml",
        train=lambda w: RUNS.rl_items(w.run, w.seed),
        init=lambda w: RUNS.init(w.run, w.seed, RUNS.start(w.run), w.size),
        base=base_model,
        template=own_template,
    output:
        directory("results/{run}/seed{seed}/grpo/{size}"),
    log:
        "logs/{run}/seed{seed}/grpo/{size}.log",
    priority: 90
    threads: 1
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=0,
        nodes=1,
    params:
        init=many("init"),
        gpus_each=gpus_each(lambda run: 1 if RUNS.runs[run].cfg.grpo.colocate else 2),
    shell:
        TRAIN
        + " grpo --config {input.cfg} seed={wildcards.seed} io.items={input.train}"
        " {params.init} io.out={output} > {log} 2>&1"
