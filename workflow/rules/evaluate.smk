# Task 0 of a run is evaluated in the run's folder, on the checkpoint that all runs share: its nearest-mean-of-exemplars
# classifier depends on the method's memory.
rule evaluate:
    input:
        features=learned("features.npz"),
        trained=learned("trained.safetensors"),
        model=learned("model.safetensors"),
        alignment=learned("alignment.json"),
        herding=lambda wildcards: (
            learned(f"{choice(wildcards, 'selection')}.npz")(wildcards) if choice(wildcards, "memory") else []
        ),
        code=code("evaluate", "metrics", "herding"),
    output:
        predictions=f"{ROOT}/{{task}}/predictions.npz",
        metrics=f"{ROOT}/{{task}}/metrics.json",
    log:
        f"{ROOT}/{{task}}/evaluate.log",
    conda:
        "../../environment.yml"
    params:
        memory=lambda wildcards: choice(wildcards, "memory"),
    shell:
        "python -m wa.evaluate --features {input.features:q} --trained {input.trained:q} --model {input.model:q}"
        " --alignment {input.alignment:q} --herding {input.herding:q}"
        " --memory {params.memory} --predictions {output.predictions:q} --metrics {output.metrics:q} > {log:q} 2>&1"


rule aggregate:
    input:
        metrics=[f"{task.path}/metrics.json" for run in STUDY.runs() for task in run],
        code=code("aggregate", "metrics"),
    output:
        f"{ROOT}/metrics.csv",
    log:
        f"{ROOT}/aggregate.log",
    conda:
        "../../environment.yml"
    params:
        study=STUDY.table(),
    shell:
        "python -m wa.aggregate --study {params.study:q} --output {output:q} > {log:q} 2>&1"


rule metrics:
    input:
        rules.aggregate.output,
