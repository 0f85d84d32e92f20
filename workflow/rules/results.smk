# The table of docs/results.md: made on demand, by `snakemake results_table`.
rule results_table:
    input:
        metrics=rules.aggregate.output,
        published=local(os.path.relpath(f"{BASEDIR}/docs/published.yaml")),
        code=code("analysis/results_table", "analysis/figures/table"),
    output:
        f"{OUT}/results.md",
    log:
        f"{OUT}/results.log",
    conda:
        "../../environment.yml"
    params:
        study=table,
        dataset=STUDY.config["dataset"],
        settings=STUDY.as_written(),
    shell:
        "python -m wa.analysis.results_table --study {params.study:q} --metrics {input.metrics:q} --dataset {params.dataset}"
        " --settings {params.settings:q} --published {input.published:q} --output {output:q} > {log:q} 2>&1"
