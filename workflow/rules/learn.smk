# WA's loop over tasks: train -> herd and align -> train the next task. A task's model.safetensors
# and its ranking (herding.npz) are all that the next task reads.


# Its outputs are not deleted before it runs (`update`). If exactly this training is finished, it
# keeps them: then what came before was computed again with the same result. If it fails, the
# results of the former training stay.
rule train:
    input:
        arrays=trained(packed_arrays),
        data=trained(packed_facts),
        order=trained(class_order),
        model=trained(previous_model),
        unaligned=trained(previous_unaligned),
        ranking=trained(previous_ranking),
        memory=trained(previous_memory),
    output:
        trained=update(f"{ROOT}/{{task}}/trained.safetensors"),
        features=update(f"{ROOT}/{{task}}/features.npz"),
        history=update(f"{ROOT}/{{task}}/history.csv"),
    log:
        f"{ROOT}/{{task}}/train.log",
    benchmark:
        f"{ROOT}/{{task}}/train.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **gpus(),
        # Resources change no result. Params would: Snakemake runs a job again when they change.
        python=PYTHON,
        nodes=STUDY.config["nodes"],
        processes=STUDY.config["processes"],
        device=STUDY.config["device"],
        runs_per_gpu=STUDY.config["runs_per_gpu"],
        test_every=STUDY.config["test_every"],
        trackers=" ".join(f"--{name}" for name in TRACKED),
        path=as_it_is(STUDY.config["path"]),  # of the original images, for `input: timm`
    params:
        tasks=lambda wildcards: task_of(wildcards).sizes,
        seed=lambda wildcards: task_of(wildcards).seed,
        memory=lambda wildcards: str(STUDY.memory(task_of(wildcards))),
        settings=lambda wildcards: task_of(wildcards).settings.flags(),
        code=lambda wildcards: RESULTS.training_code(task_of(wildcards).settings),
    message:
        "train {wildcards}"
    shell:
        "{resources.python} -m wa.training.launch"
        " --nodes {resources.nodes} --processes {resources.processes} --threads {threads}"
        " --device {resources.device} --runs-per-gpu {resources.runs_per_gpu}"
        " -- --test-every {resources.test_every} {resources.trackers}"
        " --data $(dirname {input.data:q}) --path={resources.path:q}"
        " --order {input.order:q} --output $(dirname {output.trained:q})"
        " --model {input.model:q} --unaligned {input.unaligned:q} --ranking {input.ranking:q}"
        " --exemplars {input.memory:q} --tasks {params.tasks} --seed {params.seed}"
        " --memory {params.memory} {params.settings} --code {params.code} > {log:q} 2>&1"


rule herd:
    input:
        features=ranked(lambda wildcards: f"{ROOT}/{wildcards.task}/features.npz"),
        previous=ranked(previous("{selection}.npz")),
    output:
        f"{ROOT}/{{task}}/{{selection}}.npz",
    log:
        f"{ROOT}/{{task}}/{{selection}}.log",
    benchmark:
        f"{ROOT}/{{task}}/{{selection}}.benchmark.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        seed=lambda wildcards: task_of(wildcards).seed if wildcards.selection == "random" else 0,
        code=lambda wildcards: RESULTS.selecting_code(wildcards.selection),
    message:
        "herd {wildcards}"
    shell:
        "{resources.python} -m wa.methods.selection --features {input.features:q}"
        " --previous {input.previous:q} --selection {wildcards.selection} --seed {params.seed}"
        " --output {output:q} --code {params.code} > {log:q} 2>&1"


# Only for tasks by name. A benchmark keeps its packed images, and reads old ones by the ranking.
rule keep:
    input:
        data=kept(packed_facts),
        ranking=kept(own_ranking),
        previous=kept(previous_memory),
    output:
        f"{ROOT}/{{task}}/{layout.MEMORY}",
    log:
        f"{ROOT}/{{task}}/memory.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        memory=lambda wildcards: str(STUDY.memory(task_of(wildcards))),
        code=RESULTS.keeping_code(),
        forgotten=f"{ROOT}/{layout.FORGOTTEN}",
    message:
        "keep {wildcards}"
    shell:
        "{resources.python} -m wa.data.exemplars --data $(dirname {input.data:q})"
        " --ranking {input.ranking:q} --previous {input.previous:q} --memory {params.memory}"
        " --forgotten {params.forgotten:q}"
        " --output {output:q} --code {params.code} > {log:q} 2>&1"


rule align:
    input:
        trained=aligned(lambda wildcards: f"{ROOT}/{wildcards.task}/trained.safetensors"),
        features=aligned(aligning_features),
        ranking=aligned(aligning_ranking),
    output:
        model=f"{ROOT}/{{task}}/model.safetensors",
        report=f"{ROOT}/{{task}}/alignment.json",
    log:
        f"{ROOT}/{{task}}/align.log",
    benchmark:
        f"{ROOT}/{{task}}/align.benchmark.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        choices=lambda wildcards: aligning_options(alignment_of(wildcards)),
        memory=lambda wildcards: str(STUDY.memory(task_of(wildcards))),
        code=aligning_code,
    message:
        "align {wildcards}"
    shell:
        "{resources.python} -m wa.methods.alignment --trained {input.trained:q}"
        " {params.choices} --features {input.features:q} --ranking {input.ranking:q}"
        " --memory {params.memory} --output {output.model:q} --report {output.report:q}"
        " --code {params.code} > {log:q} 2>&1"
