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


def files_of(name, entry):
    """The files of a figure, for all protocols."""
    stems = [f"{name}-{protocol}" for protocol in PROTOCOLS] if entry.per_protocol else [name]
    return expand(f"{OUT}/figures/{{stem}}.{{kind}}", stem=stems, kind=["svg", "png", "pdf"])


for name, entry in FIGURES.items():
    protocol = "{protocol}" if entry.per_protocol else "all"
    suffix = "-{protocol}" if entry.per_protocol else ""

    rule:
        name:
            name
        input:
            metrics=rules.aggregate.output if entry.reads == "metrics" else [],
            files=drawn(f"{OUT}/figures/{name}{suffix}.svg", FILES[entry.reads]),
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
            "../../environment.yml"
        resources:
            python=PYTHON,
        params:
            figure=name,
            study=run_table,
            about=about,
            code=RESULTS.code.digest(f"wa.analysis.figures.{entry.module}", function=name),
        message:
            f"{name} {{wildcards}}"
        shell:
            "{resources.python} -m wa.analysis.figures {params.figure} --study {params.study:q}"
            " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


rule final:
    input:
        metrics=drawn(f"{OUT}/figures/final.md", lambda _: rules.aggregate.output),
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
        "../../environment.yml"
    resources:
        python=PYTHON,
    params:
        study=run_table,
        about=about,
        code=RESULTS.code.digest("wa.analysis.figures.tables", function="final"),
    message:
        "final {output[0]}"
    shell:
        "{resources.python} -m wa.analysis.figures final --study {params.study:q}"
        " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


rule config:
    input:
        drawn(f"{OUT}/config.yaml", lambda _: []),
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
        "../../environment.yml"
    params:
        config=yaml.safe_dump(
            {k: v for k, v in sorted(STUDY.written.items()) if k not in HOW}, sort_keys=False
        ),
    message:
        "config {output}"
    shell:
        "printf %s {params.config:q} > {output:q} 2> {log:q}"


# File names and not rules' outputs: with results in a storage such as S3, Snakemake does not fill the
# wildcards of a rule's output.
rule figures:
    input:
        [files_of(name, entry) for name, entry in FIGURES.items()],
        rules.final.output,
        rules.config.output,
