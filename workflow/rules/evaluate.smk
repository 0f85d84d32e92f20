# Task 0 of a run is evaluated in the run's folder, on the checkpoint that all runs share: its
# classifier `nme`, the nearest mean of exemplars, depends on the method's memory.
rule evaluate:
    input:
        features=evaluated(learned("features.npz")),
        trained=evaluated(learned("trained.safetensors")),
        model=evaluated(learned("model.safetensors")),
        alignment=evaluated(learned("alignment.json")),
        ranking=evaluated(own_ranking),
    output:
        predictions=f"{ROOT}/{{task}}/predictions.npz",
        metrics=f"{ROOT}/{{task}}/metrics.json",
    log:
        f"{ROOT}/{{task}}/evaluate.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        memory=lambda wildcards: str(STUDY.memory(task_of(wildcards))),
        code=RESULTS.evaluating_code(),
    message:
        "evaluate {wildcards}"
    shell:
        "{resources.python} -m wa.analysis.evaluate --features {input.features:q}"
        " --trained {input.trained:q} --model {input.model:q} --alignment {input.alignment:q}"
        " --ranking {input.ranking:q} --memory {params.memory} --predictions {output.predictions:q}"
        " --metrics {output.metrics:q} --code {params.code} > {log:q} 2>&1"
