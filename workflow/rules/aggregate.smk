rule aggregate:
    input:
        metrics=[f"{task.path}/metrics.json" for run in RUNS for task in run],
        code=code("aggregate", "metrics"),
    output:
        f"{OUT}/metrics.csv",
    log:
        f"{OUT}/aggregate.log",
    conda:
        "../../environment.yml"
    params:
        study=table,
    shell:
        "python -m wa.aggregate --study {params.study:q} --output {output:q} > {log:q} 2>&1"


rule metrics:
    input:
        rules.aggregate.output,
