# Figures and tables, for the report. Each entry of wa/analysis/figures/catalog.py is a
# rule here. The report shows the svg, with the caption workflow/report/NAME.rst.
from wa.analysis.figures.catalog import FIGURES, READS, SENTENCES, TABLES
from wa.study.choices import FORMATS

config["sentences"] = SENTENCES  # for the captions

LOOK = STUDY.config["figures"]
STYLE = json.dumps({name: value for name, value in LOOK.items() if name not in ("draw", "formats")})
LABELS = {name: LOOK[name] for name in ("labels", "first_task")}  # all that tables show of it
KINDS = ["svg", *LOOK["formats"]]  # the report shows the svg
TABLE_KINDS = ("md", "tex", "csv", "html")
SUFFIXES = {f".{kind}" for kind in ("svg", *FORMATS, *TABLE_KINDS, "log")}  # of all there can be
CHOICES = {name: STUDY.config["methods"][name] for name in STUDY.show}

# What a figure reads apart from a table of the study, by the `reads` of its entry.
FILES = {
    "predictions": last_predictions,
    "history": lambda wildcards: beside_checkpoints(layout.HISTORY, runs_of(wildcards)),
    "anytime": lambda _: rules.aggregate.output.metrics,
}

tables = {reads: f"{OUT}/{file}" for reads, file in READS.items()}
tables |= {reads: COSTS for reads, file in READS.items() if file == layout.COST_TABLE}

# What every figure is made with: the code, apart from the function that draws it.
WRITE = RESULTS.code.digest("wa.analysis.figures.drawing", function="write")
DRAWN = []  # the files of all figures and tables

for name, entry in FIGURES.items():
    protocols = list(PROTOCOLS) if entry.per_protocol else ["all"]
    protocol = "{protocol}" if entry.per_protocol else "all"
    suffix = "-{protocol}" if entry.per_protocol else ""
    made = made_from(f"wa.analysis.figures.{entry.module}", name, written=WRITE, look=STYLE)
    file = f"{OUT}/figures/{name}{suffix}"
    if name in (LOOK["draw"] or FIGURES):
        DRAWN += expand(f"{file}.{{kind}}", protocol=protocols, kind=KINDS)

    rule:
        name:
            name
        input:
            metrics=tables.get(entry.reads, []),
            files=drawn(f"{file}.svg", made, FILES.get(entry.reads, lambda _: [])),
        output:
            report(
                f"{file}.svg",
                caption=f"../report/{name}.rst",
                category=entry.category,
                labels={"figure": entry.title, "protocol": protocol},
            ),
            [f"{file}.{kind}" for kind in LOOK["formats"]],  # for slides and papers
        log:
            f"{file}.log",
        localrule: True
        conda:
            ENVIRONMENT
        resources:
            python=PYTHON,
            note=note(f"{file}.svg"),
        params:
            figure=name,
            study=shown_runs,
            look=as_it_is(STYLE),
            about=about,
            made_from=made,
        message:
            f"{name} {{wildcards}}"
        shell:
            "{resources.python} -m wa.analysis.figures {params.figure} --study {params.study:q}"
            " --metrics {input.metrics:q} --look {params.look:q} --output {output:q}"
            " > {log:q} 2>&1"
            " && printf %s {params.made_from} > {resources.note:q}"


# Each table is a rule too: Markdown to read, csv for programs, HTML for the report, tex for papers.
for name, entry in TABLES.items():
    choices = json.dumps(CHOICES) if name == "ablation" else "{}"
    made = made_from(
        "wa.analysis.figures.tables",
        entry.function,
        written=RESULTS.code.digest("wa.analysis.figures.tables", function="write"),
        look=LABELS,
        choices=choices,
    )
    file = f"{OUT}/figures/{name}"
    DRAWN += [f"{file}.{kind}" for kind in TABLE_KINDS]

    rule:
        name:
            name
        input:
            metrics=drawn(f"{file}.md", made, lambda _, reads=entry.reads: tables[reads]),
        output:
            f"{file}.md",
            f"{file}.tex",
            report(
                f"{file}.csv",
                caption=f"../report/{name}.rst",
                category=TABLES_AND_CONFIG,
                labels={"figure": f"{name} (csv)", "protocol": "all"},
            ),
            report(
                f"{file}.html",
                caption=f"../report/{name}.rst",
                category=TABLES_AND_CONFIG,
                labels={"figure": name, "protocol": "all"},
            ),
        log:
            f"{file}.log",
        localrule: True
        conda:
            ENVIRONMENT
        resources:
            python=PYTHON,
            note=note(f"{file}.md"),
        params:
            table=name,
            study=shown_runs,
            look=as_it_is(json.dumps(LABELS)),
            choices=as_it_is(choices),
            about=about,
            made_from=made,
        message:
            f"{name} {{output[0]}}"
        shell:
            "{resources.python} -m wa.analysis.figures {params.table} --study {params.study:q}"
            " --metrics {input.metrics:q} --look {params.look:q} --choices {params.choices:q}"
            " --output {output:q} > {log:q} 2>&1"
            " && printf %s {params.made_from} > {resources.note:q}"


# File names and not rules' outputs: with results in a storage such as S3, Snakemake does not fill
# the wildcards of a rule's output.
rule figures:
    input:
        DRAWN,
        rules.config.output,
    message:
        "figures"
