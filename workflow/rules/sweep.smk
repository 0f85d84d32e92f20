# The methods that sweeps made, compared on the validation images, and the config of the best ones.
SWEPT = made_from(
    "wa.analysis.sweep",
    methods=None,
    look=STYLE,
    config={k: v for k, v in STUDY.written.items() if k not in RERUNS_NOTHING},
)
SWEEP = f"{OUT}/figures/sweep"
BEST = f"{OUT}/best.yaml"


rule sweep:
    input:
        metrics=drawn(f"{SWEEP}.svg", SWEPT, lambda _: rules.aggregate.output.metrics),
    output:
        files=[
            *(f"{SWEEP}.{kind}" for kind in LOOK["formats"]),
            f"{SWEEP}.md",
            f"{SWEEP}.tex",
            report(
                f"{SWEEP}.svg",
                caption="../report/sweep.rst",
                category="Accuracy",
                labels={"figure": "sweep", "protocol": "all"},
            ),
            report(
                f"{SWEEP}.csv",
                caption="../report/sweep.rst",
                category=TABLES_AND_CONFIG,
                labels={"figure": "sweep (csv)", "protocol": "all"},
            ),
            report(
                f"{SWEEP}.html",
                caption="../report/sweep.rst",
                category=TABLES_AND_CONFIG,
                labels={"figure": "sweep", "protocol": "all"},
            ),
        ],
        best=[] if DRAFT else BEST,  # a draft does not know it
    log:
        f"{SWEEP}.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
        note=note(f"{SWEEP}.svg"),
        config=as_it_is(json.dumps({k: v for k, v in STUDY.written.items() if k != "draft"})),
        snakemake=as_it_is(snakemake_here()),
    params:
        study=run_table,
        look=as_it_is(STYLE),
        about=about,
        made_from=SWEPT,
    message:
        f"sweep {SWEEP}.svg"
    shell:
        "{resources.python} -m wa.analysis.sweep --study {params.study:q} --metrics {input.metrics:q}"
        " --look {params.look:q} --config {resources.config:q} --best {output.best:q}"
        " --snakemake {resources.snakemake:q}"
        " --output {output.files:q}"
        " > {log:q} 2>&1"
        " && printf %s {params.made_from} > {resources.note:q}"
