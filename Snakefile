# Weight aligning (WA) and its relatives in class-incremental learning.
#
#   snakemake --cores 2                                               the study of config/config.yaml
#   snakemake --cores 2 --configfile config/<other>.yaml              another study
#   snakemake --cores 2 metrics | figures                             a part of it
#   snakemake --cores 2 results_table                                 its results beside published numbers
from snakemake.utils import min_version

min_version("9.27")


# A config given by --configfile takes the place of the default one; Snakemake by itself would merge the two.
if not workflow.overwrite_configfiles:

    configfile: workflow.source_path("config/config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/learn.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/results.smk"


# On a cluster only trainings are submitted. The rest takes a second each, runs where Snakemake runs, and is no group with the
# training, for a group that fails loses the outputs of all its jobs.
workflow.localrules(*(rule.name for rule in workflow.rules if rule.name != "train"))


rule all:
    default_target: True
    input:
        rules.metrics.input,
        rules.figures.input,
