rule curves:
    input:
        cfg="results/{run}/config/curves.yaml",
        benches=lambda w: RUNS.collect(w.run)["items"],
        banks=lambda w: RUNS.collect(w.run)["banks"],
        scores=lambda w: RUNS.collect(w.run)["scores"],
        models=lambda w: RUNS.collect(w.run)["models"],
        rollouts=lambda w: RUNS.collect(w.run)["rollouts"],
        bases=lambda w: [ancient(local(path)) for path in RUNS.bases(w.run)],
        audits=lambda w: RUNS.audits(w.run),
    output:
        curves=report(
            "results/{run}/curves.csv",
            caption="../../reports/captions/curves.rst",
            category="{run}",
        ),
        comparisons=report(
            "results/{run}/comparisons.csv",
            caption="../../reports/captions/comparisons.rst",
            category="{run}",
        ),
        surface=report(
            "results/{run}/surface.csv",
            caption="../../reports/captions/surface.rst",
            category="{run}",
        ),
        official=report(
            "results/{run}/official.csv",
            caption="../../reports/captions/official.rst",
            category="{run}",
        ),
        compute="results/{run}/compute.csv",
        crossover="results/{run}/crossover.csv",
        signals="results/{run}/signals.csv",
        meta_auc="results/{run}/meta_auc.csv",
    log:
        "logs/{run}/curves.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        benches=many("items", "benches"),
        banks=many("banks"),
        scores=many("scores"),
        models=many("models"),
        rollouts=many("rollouts"),
        bases=many("bases"),
    shell:
        "spct curves --config {input.cfg} {params.benches} {params.banks} {params.scores}"
        " {params.models} {params.rollouts} {params.bases}"
        " io.run={wildcards.run} io.out={output.curves} io.out_comparisons={output.comparisons}"
        " io.out_surface={output.surface} io.out_official={output.official}"
        " io.out_compute={output.compute} io.out_crossover={output.crossover}"
        " io.out_signals={output.signals} io.out_meta_auc={output.meta_auc} > {log} 2>&1"
