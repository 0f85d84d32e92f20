# Weight aligning (WA) and its relatives in class-incremental learning.
#
#   snakemake --cores 2                                               the study of config/config.yaml
#   snakemake --cores 2 --configfile config/<other>.yaml              another study
#   snakemake --cores 2 metrics | figures                             a part of it
#   snakemake --cores 2 --config draft=True                           the figures of what is there of it
#   snakemake --report report.html                                    its report
#   snakemake --cores 2 results_table                                 its results beside published numbers
from snakemake.utils import min_version

min_version("9.27")


# A config given by --configfile takes the place of the default one; Snakemake by itself would merge the two.
if not workflow.overwrite_configfiles:

    configfile: workflow.source_path("config/config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


if not DRAFT:

    include: "workflow/rules/data.smk"
    include: "workflow/rules/learn.smk"
    include: "workflow/rules/evaluate.smk"


include: "workflow/rules/aggregate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/results.smk"


# On a cluster only trainings are submitted. The rest takes a second each, runs where Snakemake runs, and is no group with the
# training, for a group that fails loses the outputs of all its jobs.
workflow.localrules(*(rule.name for rule in workflow.rules if rule.name != "train"))


# A job that starts is a line on the screen, not its dozens of files; one that fails shows them all, and its log.
for job in workflow.rules:
    job.message = f"{job.name} {{wildcards}}"


rule all:
    default_target: True
    input:
        rules.metrics.input,
        rules.figures.input,
