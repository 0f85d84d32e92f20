# The table of docs/results.md: made on demand, by `snakemake results_table`.
rule results_table:
    input:
        metrics=rules.aggregate.output,
        published=f"{os.path.relpath(BASEDIR)}/docs/published.yaml",
        code=code("results", "figures"),
    output:
        f"{ROOT}/results.md",
    log:
        f"{ROOT}/results.log",
    conda:
        "../../environment.yml"
    params:
        methods=METHODS,
        dataset=STUDY.config["dataset"],
        settings=STUDY.settings(),
    shell:
        "python -m wa.results --metrics {input.metrics:q} --methods {params.methods} --dataset {params.dataset}"
        " --settings {params.settings:q} --published {input.published:q} --output {output:q} > {log:q} 2>&1"
