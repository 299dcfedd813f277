rule report:
    input:
        cfg="results/{run}/config/report.yaml",
        run="results/{run}/config/run.yaml",
        curves="results/{run}/curves.csv",
        comparisons="results/{run}/comparisons.csv",
        surface="results/{run}/surface.csv",
        official="results/{run}/official.csv",
        compute=multiext(
            "results/{run}/",
            "compute.csv",
            "crossover.csv",
            "signals.csv",
            "meta_auc.csv",
        ),
        health="results/{run}/health.csv",
        ledgers=lambda w: RUNS.collect(w.run)["ledgers"],
        models=lambda w: RUNS.collect(w.run)["models"],
        banks=lambda w: RUNS.collect(w.run)["banks"],
        benches=lambda w: RUNS.collect(w.run)["items"],
    output:
        page="reports/{run}/report.html",
        svg=report(
            "reports/{run}/scaling.svg",
            caption="../../reports/captions/scaling.rst",
            category="{run}",
        ),
        png="reports/{run}/scaling.png",
        compute=multiext("reports/{run}/training_vs_inference", ".svg", ".png"),
        health=directory("reports/{run}/health"),
    log:
        "logs/{run}/report.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        out=subpath(output.page, parent=True),
        ledgers=many("ledgers"),
        banks=many("banks"),
        benches=many("items", "benches"),
        metrics=lambda w, input: [
            f"io.metrics={path}/metrics.jsonl" for path in input.models
        ],
    shell:
        "spct report --config {input.cfg} io.curves={input.curves}"
        " io.comparisons={input.comparisons} io.surface={input.surface}"
        " io.official={input.official} io.health={input.health} {params.ledgers} {params.metrics}"
        " {params.banks} {params.benches}"
        " io.run={wildcards.run} io.out={params.out} > {log} 2>&1"
