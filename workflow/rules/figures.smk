rule accuracy:
    input:
        metrics=rules.aggregate.output,
        code=code("figures"),
    output:
        f"{ROOT}/figures/accuracy.svg",
        f"{ROOT}/figures/accuracy.png",
    log:
        f"{ROOT}/figures/accuracy.log",
    conda:
        "../../environment.yml"
    params:
        methods=METHODS,
    shell:
        "python -m wa.figures accuracy --metrics {input.metrics:q} --methods {params.methods} --output {output:q} > {log:q} 2>&1"


rule final:
    input:
        metrics=rules.aggregate.output,
        code=code("figures"),
    output:
        f"{ROOT}/figures/final.csv",
        f"{ROOT}/figures/final.md",
    log:
        f"{ROOT}/figures/final.log",
    conda:
        "../../environment.yml"
    params:
        methods=METHODS,
    shell:
        "python -m wa.figures final --metrics {input.metrics:q} --methods {params.methods} --output {output:q} > {log:q} 2>&1"


rule figures:
    input:
        rules.accuracy.output,
        rules.final.output,
