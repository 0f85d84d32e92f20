rule aggregate:
    input:
        metrics=[f"{task.path}/metrics.json" for run in RUNS for task in run],
        code=code("analysis/aggregate", "analysis/metrics"),
    output:
        f"{OUT}/metrics.csv",
    log:
        f"{OUT}/aggregate.log",
    conda:
        "../../environment.yml"
    params:
        study=table,
    shell:
        "python -m wa.analysis.aggregate --study {params.study:q} --output {output:q} > {log:q} 2>&1"


# Of an up-to-date table Snakemake does not miss what it was made from. But when a job that ran once more has failed, its outputs
# are gone, and the same command must not find nothing to do. So the target names them. (Features may be deleted to save space.)
rule metrics:
    input:
        rules.aggregate.output,
        [] if DRAFT else one_a_job(),
