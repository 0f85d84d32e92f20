TABLES_AND_CONFIG = "Tables and config"  # a part of the report

AGGREGATED = made_from("wa.analysis.aggregate", methods=None)


rule aggregate:
    input:
        metrics=drawn(
            f"{OUT}/metrics.csv",
            AGGREGATED,
            lambda _: [f"{task.path}/{layout.METRICS}" for run in RUNS for task in run],
            f"{OUT}/classes.csv",
        ),
    output:
        metrics=f"{OUT}/metrics.csv",
        classes=f"{OUT}/classes.csv",
    log:
        f"{OUT}/aggregate.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
        note=note(f"{OUT}/metrics.csv"),
    params:
        study=run_table,
        made_from=AGGREGATED,
    message:
        "aggregate {output.metrics}"
    shell:
        "{resources.python} -m wa.analysis.aggregate --study {params.study:q}"
        " --output {output.metrics:q} --classes {output.classes:q}"
        " > {log:q} 2>&1"
        " && printf %s {params.made_from} > {resources.note:q}"


# The methods with exemplars, and how they choose them.
RANKED = {
    name: method["selection"]
    for name, method in STUDY.config["methods"].items()
    if STUDY.memory_of(name).keeps
}
SPENT = made_from("wa.analysis.cost", methods=None, ranked=RANKED)
COSTS = f"{OUT}/{layout.COST_TABLE}"
CHECKPOINTS = beside_checkpoints(layout.TRAINED, RUNS)

# `wa evidence` copies the table, and leaves the checkpoints behind that it is made of.
if DRAFT and not CHECKPOINTS and Path(ROOT, layout.COST_TABLE).exists():
    COSTS = f"{ROOT}/{layout.COST_TABLE}"
else:

    # What jobs cost, and what they store. It reads what they leave, so nothing is trained for it.
    rule add_up_costs:
        input:
            costs=drawn(
                COSTS,
                SPENT,
                lambda _: costing(),
            ),
            data=[str(part.file) for part in STUDY.parts if part.file.exists() or not DRAFT],
        output:
            COSTS,
        log:
            f"{OUT}/cost.log",
        localrule: True
        conda:
            ENVIRONMENT
        resources:
            python=PYTHON,
            note=note(COSTS),
        params:
            study=run_table,
            ranked=as_it_is(json.dumps(RANKED)),
            made_from=SPENT,
        message:
            "add_up_costs {output}"
        shell:
            "{resources.python} -m wa.analysis.cost --study {params.study:q} --data {input.data:q}"
            " --ranked {params.ranked:q} --output {output:q} > {log:q} 2>&1"
            " && printf %s {params.made_from} > {resources.note:q}"


# wa.plot and the report read it, whatever was made of the study.
rule config:
    input:
        other_config,
    output:
        report(
            f"{OUT}/{layout.CONFIG}",
            caption="../report/config.rst",
            category=TABLES_AND_CONFIG,
            labels={"figure": "config", "protocol": "all"},
        ),
    log:
        f"{OUT}/config.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=as_it_is(STUDY.as_file()),
    message:
        "config {output}"
    shell:
        "printf %s {params.config:q} > {output:q} 2> {log:q}"


# Snakemake does not look whether the inputs of an up-to-date file still exist. If a job runs again
# and fails, Snakemake deletes its old outputs. The table would still look up to date, and the next
# run would say "Nothing to be done". So this target also lists one output of every job. (Features
# may be deleted to save space.)
rule metrics:
    input:
        rules.aggregate.output,
        rules.config.output,
        [] if DRAFT else one_per_job(),
    localrule: True
    message:
        "metrics"
