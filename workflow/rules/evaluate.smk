# Task 0 of a run is evaluated in the run's folder, on the checkpoint that all runs share: its nearest-mean-of-exemplars
# classifier depends on the method's memory.
rule evaluate:
    input:
        features=learned("features.npz"),
        trained=learned("trained.safetensors"),
        model=learned("model.safetensors"),
        alignment=learned("alignment.json"),
        herding=lambda wildcards: (
            learned(f"{choice(wildcards, 'selection')}.npz")(wildcards)
            if choice(wildcards, "memory")
            else []
        ),
        code=code("analysis/evaluate", "analysis/metrics", "methods/selection"),
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
        "python -m wa.analysis.evaluate --features {input.features:q} --trained {input.trained:q} --model {input.model:q}"
        " --alignment {input.alignment:q} --herding {input.herding:q}"
        " --memory {params.memory} --predictions {output.predictions:q} --metrics {output.metrics:q} > {log:q} 2>&1"
