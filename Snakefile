# Weight aligning (WA) and its relatives in class-incremental learning. Run it here:
# `snakemake --cores 2`. The workflow itself is in workflow/Snakefile, where Snakemake's catalog and
# the statement `module` expect it.
# The statement `include` would leave the default target to this file.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
