# One rule a figure: the program wa.figures has one of the same name. `accuracy` says how; the others say what differs.
# The svg is in the report, with workflow/report/<rule>.rst as its caption; png and pdf are for slides and papers.
BIAS, TRAINING, TABLES = "Bias of the classifier", "Training", "Tables and config"


rule accuracy:
    input:
        metrics=rules.aggregate.output,
        code=code_of_figures("lines"),
    output:
        figure("accuracy", "Accuracy", "accuracy against classes seen"),
    log:
        f"{OUT}/figures/accuracy.log",
    conda:
        "../../environment.yml"
    params:
        figure=lambda wildcards, output: Path(output[0]).stem.split("-")[0],
        study=table,
        about=about,
    shell:
        "python -m wa.analysis.figures {params.figure} --study {params.study:q} --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


use rule accuracy as comparison with:
    input:
        metrics=rules.aggregate.output,
        code=code_of_figures("comparison"),
    output:
        figure("comparison", "Accuracy", "final comparison"),
    log:
        f"{OUT}/figures/comparison.log",


use rule accuracy as matrix with:
    input:
        metrics=rules.aggregate.output,
        code=code_of_figures("panels"),
    output:
        figure("matrix", "Accuracy", "accuracy matrix, task by task", "{protocol}"),
    log:
        f"{OUT}/figures/matrix-{{protocol}}.log",


use rule accuracy as forgetting with:
    output:
        figure("forgetting", "Forgetting", "forgetting"),
    log:
        f"{OUT}/figures/forgetting.log",


use rule accuracy as old_new with:
    output:
        figure("old_new", "Forgetting", "old and new classes"),
    log:
        f"{OUT}/figures/old_new.log",


use rule accuracy as norms with:
    input:
        metrics=rules.aggregate.output,
        code=code_of_figures("panels"),
    output:
        figure("norms", BIAS, "norms of the rows, as trained and aligned", "{protocol}"),
    log:
        f"{OUT}/figures/norms-{{protocol}}.log",


use rule accuracy as gamma with:
    output:
        figure("gamma", BIAS, "gamma over tasks"),
    log:
        f"{OUT}/figures/gamma.log",


use rule accuracy as new_share with:
    output:
        figure("new_share", BIAS, "how often new classes are predicted"),
    log:
        f"{OUT}/figures/new_share.log",


use rule accuracy as confusion with:
    input:
        predictions=last_predictions,
        metrics=[],
        code=code_of_figures("predictions"),
    output:
        figure("confusion", BIAS, "confusion, as trained and aligned", "{protocol}"),
    log:
        f"{OUT}/figures/confusion-{{protocol}}.log",


use rule accuracy as calibration with:
    input:
        predictions=last_predictions,
        metrics=[],
        code=code_of_figures("predictions"),
    output:
        figure("calibration", BIAS, "calibration, as trained and aligned", "{protocol}"),
    log:
        f"{OUT}/figures/calibration-{{protocol}}.log",


use rule accuracy as curves with:
    input:
        history=lambda wildcards: beside_checkpoints("history.csv", runs_of(wildcards)),
        metrics=[],
        code=code_of_figures("training") + code("analysis/figures/lines"),
    output:
        figure("curves", TRAINING, "training curves", "{protocol}"),
    log:
        f"{OUT}/figures/curves-{{protocol}}.log",


use rule accuracy as cost with:
    input:
        benchmark=beside_checkpoints("train.benchmark.tsv", RUNS),
        metrics=[],
        code=code_of_figures("training") + code("analysis/figures/lines"),
    output:
        figure("cost", TRAINING, "time and memory"),
    log:
        f"{OUT}/figures/cost.log",


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
        "python -m wa.analysis.figures final --study {params.study:q} --metrics {input.metrics:q} --output {output:q} > {log:q} 2>&1"


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


rule figures:
    input:
        rules.accuracy.output,
        rules.comparison.output,
        rules.forgetting.output,
        rules.old_new.output,
        rules.gamma.output,
        rules.new_share.output,
        rules.cost.output,
        rules.final.output,
        rules.config.output,
        expand(  # their names, for Snakemake expands no rule's output once that lies in a storage such as S3
            f"{OUT}/figures/{{figure}}-{{protocol}}.{{kind}}",
            figure=["matrix", "norms", "confusion", "calibration", "curves"],
            protocol=PROTOCOLS,
            kind=["svg", "png", "pdf"],
        ),
