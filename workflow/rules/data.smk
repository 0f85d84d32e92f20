rule prepare:
    input:
        code=code("data/datasets", "data/packing"),
    output:
        expand(
            f"{DATA}/{{split}}_{{array}}.npy", split=["train", "test"], array=["images", "labels"]
        ),
        dataset=f"{DATA}/dataset.json",
    log:
        f"{DATA}/prepare.log",
    conda:
        "../../environment.yml"
    threads: 64  # as many as there are
    resources:
        path=STUDY.config["path"],  # no param: where the raw data lie changes nothing, and a wrong path may not cost the packed ones
    params:
        dataset=STUDY.config["dataset"],
        options=STUDY.packing(),
    shell:
        "python -m wa.data.datasets --dataset {params.dataset} --path {resources.path:q} --output $(dirname {output.dataset:q})"
        " --processes {threads} {params.options} > {log:q} 2>&1"


rule order:
    input:
        dataset=rules.prepare.output.dataset,
        code=code("data/scenario"),
    output:
        f"{ROOT}/order-{{order}}/order.json",
    log:
        f"{ROOT}/order-{{order}}/order.log",
    conda:
        "../../environment.yml"
    params:
        order=lambda wildcards: STUDY.orders[wildcards.order],
    shell:
        "python -m wa.data.scenario --order {params.order} --dataset {input.dataset:q} --output {output:q} > {log:q} 2>&1"
