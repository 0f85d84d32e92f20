# A benchmark is packed as a whole, and tasks by name one by one. The images of tasks by name may be
# deleted, so they are no outputs. Their dataset.json stays if the job fails (`update`): without it,
# a task whose images are gone could not be read any more.
if STUDY.named or not packed_elsewhere(STUDY.parts[0]):

    rule prepare:
        input:
            tracked(
                lambda wildcards: RESULTS.prepared(part_of(wildcards)),
                f"{PART}/dataset.json",
                lambda wildcards: str(STUDY.parts[0].file) if part_of(wildcards).task else [],
            ),
        output:
            [] if STUDY.named else [f"{PART}/{array}" for array in layout.ARRAYS],
            dataset=(update if STUDY.named else str)(f"{PART}/dataset.json"),
        log:
            f"{PART}/prepare.log",
        conda:
            ENVIRONMENT
        threads: 64  # as many as there are
        resources:
            python=PYTHON,
            path=as_it_is(STUDY.config["path"]),  # no param: where the raw data lie changes nothing
        params:
            dataset=STUDY.config["dataset"],
            options=lambda wildcards: part_of(wildcards).options(),
            code=RESULTS.packing_code(),
        message:
            "prepare {output.dataset}"
        shell:
            "{resources.python} -m wa.data.datasets --dataset {params.dataset}"
            " --path={resources.path:q} --output $(dirname {output.dataset:q})"
            " --processes {threads} {params.options} --code {params.code} > {log:q} 2>&1"


rule order:
    input:
        dataset=tracked(
            lambda wildcards: RESULTS.ordered(wildcards.order),
            f"{ROOT}/order-{{order}}/order.json",
            lambda _: str(STUDY.parts[0].file),
        ),
    output:
        f"{ROOT}/order-{{order}}/order.json",
    log:
        f"{ROOT}/order-{{order}}/order.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        python=PYTHON,
    params:
        order=lambda wildcards: STUDY.order_option(wildcards.order),
    message:
        "order {wildcards}"
    shell:
        "{resources.python} -m wa.data.scenario --order {params.order} --dataset {input.dataset:q}"
        " --output {output:q} > {log:q} 2>&1"
