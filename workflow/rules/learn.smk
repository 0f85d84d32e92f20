# A task is learned in three steps; its checkpoint, model.safetensors, and its herding.npz are what the next task reads.
rule train:
    input:
        rules.prepare.output,
        data=rules.prepare.output.dataset,
        order=lambda wildcards: f"{ROOT}/order-{task_of(wildcards).order}/order.json",
        model=previous_model,
        herding=previous_ranking,
        code=code(
            "training/train",
            "training/engine",
            "data/task",
            "data/timm_input",
            "models/model",
            "models/backbones",
            "models/resnet",
            "methods/loss",
            "data/augment",
            "randomness",
        ),
    output:
        trained=f"{ROOT}/{{task}}/trained.safetensors",
        features=f"{ROOT}/{{task}}/features.npz",
        history=f"{ROOT}/{{task}}/history.csv",
    log:
        f"{ROOT}/{{task}}/train.log",
    benchmark:
        f"{ROOT}/{{task}}/train.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **gpus(),
        nodes=STUDY.config["nodes"],
        processes=STUDY.config["processes"],
        device=STUDY.config["device"],
        runs_per_gpu=STUDY.config["runs_per_gpu"],
        test_every=STUDY.config["test_every"],
        path=STUDY.config["path"],  # of the original images, for `input: timm`; where they lie changes nothing
    params:
        tasks=lambda wildcards: task_of(wildcards).sizes,
        seed=lambda wildcards: task_of(wildcards).seed,
        memory=lambda wildcards: choice(wildcards, "memory") or 0,
        settings=lambda wildcards: task_of(wildcards).settings.flags(),
    shell:
        "python -m wa.training.launch --nodes {resources.nodes} --processes {resources.processes} --threads {threads}"
        " --device {resources.device} --runs-per-gpu {resources.runs_per_gpu} --"
        " --test-every {resources.test_every}"
        " --data $(dirname {input.data:q}) --path {resources.path:q} --order {input.order:q} --output $(dirname {output.trained:q})"
        " --model {input.model:q} --herding {input.herding:q}"
        " --tasks {params.tasks} --seed {params.seed} --memory {params.memory} {params.settings} > {log:q} 2>&1"


rule herd:
    input:
        features=f"{ROOT}/{{task}}/features.npz",
        previous=previous("{selection}.npz"),
        code=code("methods/selection"),
    output:
        f"{ROOT}/{{task}}/{{selection}}.npz",
    log:
        f"{ROOT}/{{task}}/{{selection}}.log",
    conda:
        "../../environment.yml"
    params:
        options=lambda wildcards: (
            ""
            if wildcards.selection == "herding"
            else f"--selection {wildcards.selection} --seed {task_of(wildcards).seed}"
        ),
    shell:
        "python -m wa.methods.selection --features {input.features:q} --previous {input.previous:q} --output {output:q}"
        " {params.options} > {log:q} 2>&1"


rule align:
    input:
        trained=f"{ROOT}/{{task}}/trained.safetensors",
        held_out=lambda wildcards: (
            f"{ROOT}/{wildcards.task}/features.npz"
            if choice(wildcards, "alignment") == "bias"
            else []
        ),
        code=code("methods/alignment"),
    output:
        model=f"{ROOT}/{{task}}/model.safetensors",
        report=f"{ROOT}/{{task}}/alignment.json",
    log:
        f"{ROOT}/{{task}}/align.log",
    conda:
        "../../environment.yml"
    params:
        alignment=lambda wildcards: choice(wildcards, "alignment") or "none",
    shell:
        "python -m wa.methods.alignment --trained {input.trained:q} --alignment {params.alignment} --features {input.held_out:q} --output {output.model:q}"
        " --report {output.report:q} > {log:q} 2>&1"
