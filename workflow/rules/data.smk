# Each part of the data is packed by itself: a benchmark as a whole, and tasks by name one by one.
# The images of tasks by name may be deleted, so they are no outputs.
for part in STUDY.parts:
    if packed_elsewhere(part):
        continue
    declared = [f"{part.folder}/{array}" for array in layout.ARRAYS]

    rule:
        name:
            "prepare" if part.task is None else f"prepare_{part.task}"
        input:
            tracked(
                lambda _, part=part: RESULTS.prepared(part),
                str(part.file),
                lambda _, part=part: str(STUDY.parts[0].file) if part.task else [],
            ),
        output:
            declared if part.task is None else [],
            dataset=str(part.file),
        log:
            f"{part.folder}/prepare.log",
        conda:
            ENVIRONMENT
        threads: 64  # as many as there are
        resources:
            python=PYTHON,
            path=as_it_is(part.path),  # no param: where the raw data lie changes nothing
        params:
            dataset=part.dataset,
            options=as_it_is(part.options()),
            code=RESULTS.packing_code(),
        message:
            "prepare {output.dataset}"
        shell:
            "{resources.python} -m wa.data.datasets --dataset {params.dataset}"
            " --path={resources.path:q} --output $(dirname {output.dataset:q})"
            " --processes {threads} {params.options}"
            " --code {params.code} > {log:q} 2>&1"


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
