# Figures, tables and the config, for the report. Each entry of wa/analysis/figures/catalog.py is a
# rule here. The report shows the svg, with the caption workflow/report/NAME.rst. The png and the
# pdf are for slides and papers.
from wa.analysis.figures.catalog import FIGURES, SENTENCES

TABLES = "Tables and config"
config["sentences"] = SENTENCES  # for the captions

# What a figure reads apart from metrics.csv, by the `reads` of its entry.
FILES = {
    "metrics": [],
    "predictions": last_predictions,
    "history": lambda wildcards: beside_checkpoints("history.csv", runs_of(wildcards)),
    "benchmark": beside_checkpoints("train.benchmark.tsv", RUNS),
}

DRAWN = []  # the files of all figures

for name, entry in FIGURES.items():
    protocols = list(PROTOCOLS) if entry.per_protocol else ["all"]
    protocol = "{protocol}" if entry.per_protocol else "all"
    suffix = "-{protocol}" if entry.per_protocol else ""
    files = f"{OUT}/figures/{name}{suffix}.{{kind}}"
    DRAWN += expand(files, protocol=protocols, kind=["svg", "png", "pdf"])

    rule:
        name:
            name
        input:
            metrics=rules.aggregate.output if entry.reads == "metrics" else [],
            files=FILES[entry.reads],
            code=code_of_figures(entry.module) + code("analysis/figures/lines"),
        output:
            figure(name, entry.category, entry.title, protocol),
        log:
            f"{OUT}/figures/{name}{suffix}.log",
        conda:
            "../../environment.yml"
        params:
            figure=name,
            study=table,
            about=about,
        shell:
            "python -m wa.analysis.figures {params.figure} --study {params.study:q}"
            " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


rule final:
    input:
        metrics=rules.aggregate.output,
        code=code("analysis/figures/__main__", "analysis/figures/table", "analysis/figures/tables"),
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
    conda:
        "../../environment.yml"
    params:
        study=table,
        about=about,
    shell:
        "python -m wa.analysis.figures final --study {params.study:q}"
        " --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


rule config:
    output:
        report(
            f"{OUT}/config.yaml",
            caption="../report/config.rst",
            category=TABLES,
            labels={"figure": "config", "protocol": "all"},
        ),
    log:
        f"{OUT}/config.log",
    conda:
        "../../environment.yml"
    params:
        config=yaml.safe_dump(
            {k: v for k, v in sorted(STUDY.written.items()) if k not in HOW}, sort_keys=False
        ),
    shell:
        "printf %s {params.config:q} > {output:q} 2> {log:q}"


# File names and not rules' outputs: with results in a storage such as S3, Snakemake does not fill
# the wildcards of a rule's output.
rule figures:
    input:
        DRAWN,
        rules.final.output,
        rules.config.output,
