# For a set of runs (conf/set): the paper's tables, figures and claims in our own numbers.
rule paper:
    input:
        cfg="results/{set}/config/paper.yaml",
        members="results/{set}/config/set.yaml",
        files=lambda w: RUNS.set_inputs(w.set),
    output:
        page="reports/{set}/index.html",
        errors="reports/{set}/errors.html",
        tables="reports/{set}/tables.csv",
        claims="reports/{set}/claims.csv",
        figures=multiext("reports/{set}/", "inference.svg", "sizes.svg", "lengths.svg"),
    log:
        "logs/{set}/paper.log",
    wildcard_constraints:
        set="[^/]+",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        out=subpath(output.page, parent=True),
    shell:
        "spct paper --config {input.cfg} io.members={input.members} io.out={params.out}"
        " > {log} 2>&1"
