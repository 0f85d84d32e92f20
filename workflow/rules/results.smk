PUBLISHED = str(CHECKOUT / "docs/published.yaml")
COMPARED = made_from(
    "wa.analysis.results_table",
    settings=STUDY.as_written(),
    published=sha256(PUBLISHED),
)


# A study's results beside published numbers, as in docs/results.md. Only on demand:
# `snakemake results_table`.
rule results_table:
    input:
        metrics=drawn(f"{OUT}/results.md", COMPARED, lambda _: rules.aggregate.output.metrics),
    output:
        f"{OUT}/results.md",
    log:
        f"{OUT}/results.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
        note=note(f"{OUT}/results.md"),
        published=as_it_is(PUBLISHED),  # its content is a param: a checkout may move
    params:
        study=shown_runs,
        dataset=STUDY.config["dataset"],
        settings=as_it_is(STUDY.as_written()),
        made_from=COMPARED,
    message:
        "results_table {output}"
    shell:
        "{resources.python} -m wa.analysis.results_table --study {params.study:q}"
        " --metrics {input.metrics:q} --dataset {params.dataset} --settings {params.settings:q}"
        " --published {resources.published:q} --output {output:q} > {log:q} 2>&1"
        " && printf %s {params.made_from} > {resources.note:q}"
