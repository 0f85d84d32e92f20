# Weight aligning (WA) and its relatives in class-incremental learning. Run it here: `snakemake --cores 2`.
# The workflow itself is in workflow/Snakefile, where Snakemake's catalog and the statement `module` expect it.
include: "workflow/Snakefile"


workflow.default_target = "all"  # an include leaves this to the file that includes
