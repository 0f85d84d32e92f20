# What an algorithm fits to features, such as class means. The rule of the next task reads it too.
rule fit:
    input:
        features=fitted(learned("features.npz")),
        trained=fitted(learned("trained.safetensors")),
        previous=fitted(previous_fitted),
    output:
        f"{ROOT}/{{task}}/fitted.npz",
    log:
        f"{ROOT}/{{task}}/fit.log",
    benchmark:
        f"{ROOT}/{{task}}/fit.benchmark.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        algorithm=algorithm_options,
        code=lambda wildcards: RESULTS.fitting_code(STUDY.algorithm(task_of(wildcards))[0]),
    message:
        "fit {wildcards}"
    shell:
        "{resources.python} -m wa.methods.fit --features {input.features:q}"
        " --trained {input.trained:q} --previous {input.previous:q} {params.algorithm}"
        " --output {output:q} --code {params.code} > {log:q} 2>&1"


# Task 0 of a run is evaluated in the run's folder, on the checkpoint that all runs share: its
# classifier `nme`, the nearest mean of exemplars, depends on the method's memory.
rule evaluate:
    input:
        features=evaluated(learned("features.npz")),
        trained=evaluated(learned("trained.safetensors")),
        model=evaluated(learned("model.safetensors")),
        alignment=evaluated(learned("alignment.json")),
        ranking=evaluated(own_ranking),
        fitted=evaluated(own_fitted),
    output:
        predictions=f"{ROOT}/{{task}}/predictions.npz",
        metrics=f"{ROOT}/{{task}}/metrics.json",
    log:
        f"{ROOT}/{{task}}/evaluate.log",
    benchmark:
        f"{ROOT}/{{task}}/evaluate.benchmark.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        memory=lambda wildcards: str(STUDY.memory(task_of(wildcards))),
        algorithm=algorithm_options,
        code=lambda wildcards: RESULTS.evaluating_code(STUDY.algorithm(task_of(wildcards))[0]),
    message:
        "evaluate {wildcards}"
    shell:
        "{resources.python} -m wa.analysis.evaluate --features {input.features:q}"
        " --trained {input.trained:q} --model {input.model:q} --alignment {input.alignment:q}"
        " --ranking {input.ranking:q} --memory {params.memory} --fitted {input.fitted:q}"
        " {params.algorithm} --predictions {output.predictions:q}"
        " --metrics {output.metrics:q} --code {params.code} > {log:q} 2>&1"
