# Figures, tables and the config, for the report. Each entry of wa/analysis/figures/catalog.py is a
# rule here. The report shows the svg, with the caption workflow/report/NAME.rst.
from wa.analysis.figures.catalog import FIGURES, SENTENCES

TABLES = "Tables and config"
config["sentences"] = SENTENCES  # for the captions

# What a figure reads apart from metrics.csv, by the `reads` of its entry.
FILES = {
    "metrics": lambda _: [],
    "predictions": last_predictions,
    "history": lambda wildcards: beside_checkpoints(layout.HISTORY, runs_of(wildcards)),
    "benchmark": lambda _: beside_checkpoints(layout.BENCHMARK, RUNS),
}

DRAWN = []  # the files of all figures

for name, entry in FIGURES.items():
    protocols = list(PROTOCOLS) if entry.per_protocol else ["all"]
    protocol = "{protocol}" if entry.per_protocol else "all"
    suffix = "-{protocol}" if entry.per_protocol else ""
    made = made_from(f"wa.analysis.figures.{entry.module}", name)
    files = f"{OUT}/figures/{name}{suffix}.{{kind}}"
    DRAWN += expand(files, protocol=protocols, kind=["svg", "png", "pdf"])

    rule:
        name:
            name
        input:
            metrics=rules.aggregate.output if entry.reads == "metrics" else [],
            files=drawn(f"{OUT}/figures/{name}{suffix}.svg", made, FILES[entry.reads]),
        output:
            # The png and the pdf are for slides and papers.
            report(
                f"{OUT}/figures/{name}{suffix}.svg",
                caption=f"../report/{name}.rst",
                category=entry.category,
                labels={"figure": entry.title, "protocol": protocol},
            ),
            f"{OUT}/figures/{name}{suffix}.png",
            f"{OUT}/figures/{name}{suffix}.pdf",
        log:
            f"{OUT}/figures/{name}{suffix}.log",
        localrule: True
        conda:
            ENVIRONMENT
        resources:
            python=PYTHON,
            note=note(f"{OUT}/figures/{name}{suffix}.svg"),
        params:
            figure=name,
            study=run_table,
            about=about,
            made_from=made,
        message:
            f"{name} {{wildcards}}"
        shell:
            "{resources.python} -m wa.analysis.figures {params.figure} --study {params.study:q}"
            " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"
            " && printf %s {params.made_from} > {resources.note:q}"


TABLE = made_from("wa.analysis.figures.tables", "final")


rule final:
    input:
        metrics=drawn(f"{OUT}/figures/final.md", TABLE, lambda _: rules.aggregate.output),
    output:
        f"{OUT}/figures/final.md",
        report(
            f"{OUT}/figures/final.csv",
            caption="../report/final.rst",
            category=TABLES,
            labels={"figure": "final results (csv)", "protocol": "all"},
        ),
        report(
            f"{OUT}/figures/final.html",
            caption="../report/final.rst",
            category=TABLES,
            labels={"figure": "final results", "protocol": "all"},
        ),
    log:
        f"{OUT}/figures/final.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
        note=note(f"{OUT}/figures/final.md"),
    params:
        study=run_table,
        about=about,
        made_from=TABLE,
    message:
        "final {output[0]}"
    shell:
        "{resources.python} -m wa.analysis.figures final --study {params.study:q}"
        " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"
        " && printf %s {params.made_from} > {resources.note:q}"


rule config:
    input:
        other_config,
    output:
        report(
            f"{OUT}/config.yaml",
            caption="../report/config.rst",
            category=TABLES,
            labels={"figure": "config", "protocol": "all"},
        ),
    log:
        f"{OUT}/config.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=as_it_is(WRITTEN),
    message:
        "config {output}"
    shell:
        "printf %s {params.config:q} > {output:q} 2> {log:q}"


# File names and not rules' outputs: with results in a storage such as S3, Snakemake does not fill
# the wildcards of a rule's output.
rule figures:
    input:
        DRAWN,
        rules.final.output,
        rules.config.output,
    message:
        "figures"
