if not packed_elsewhere():

    rule prepare:
        input:
            tracked(lambda _: RESULTS.prepared(), f"{DATA}/dataset.json", lambda _: []),
        output:
            [f"{DATA}/{array}" for array in layout.ARRAYS],
            dataset=f"{DATA}/dataset.json",
        log:
            f"{DATA}/prepare.log",
        conda:
            ENVIRONMENT
        threads: 64  # as many as there are
        resources:
            python=PYTHON,
            path=as_it_is(STUDY.config["path"]),  # no param: where the raw data lie changes nothing
        params:
            dataset=STUDY.config["dataset"],
            options=as_it_is(STUDY.packing()),
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
            lambda _: f"{DATA}/dataset.json",
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
