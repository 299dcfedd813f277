# The bases of experiment toy_scale. Those that ship are made by hand (`make bases`), never here.
rule pretrain:
    input:
        recipe=ancient("conf/pretrain/toy.yaml"),
    output:
        directory("results/bases/{base}"),
    log:
        "logs/bases/pretrain/{base}.log",
    wildcard_constraints:
        base="toy_(1|5|22|100)m",
    priority: 1000
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    shell:
        f"{DEVICES} python -m spct.pretrain.train"
        " {input.recipe} {wildcards.base} {output} > {log} 2>&1"
