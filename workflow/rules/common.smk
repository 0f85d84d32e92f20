# The run table, and input functions: nothing else.
import gc
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# A plan is millions of objects that live to its end: looking for garbage among them took a sixth of the time.
gc.set_threshold(100_000, 50, 100)

# Jobs run the wa/ of this checkout with the Python of this Snakemake, wherever and however that was started.
BASEDIR = str(workflow.basedir)
shell.prefix(f"export PYTHONPATH={shlex.quote(BASEDIR)} PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")
sys.path.insert(0, BASEDIR)

from wa.files import UserError, lock
from wa.study import Study

try:
    STUDY = Study(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

ROOT, DATA, METHODS = STUDY.root, STUDY.data, list(STUDY.config["methods"])


# One Snakemake a study. Its own lock would outlive a kill, and stop the same command from going on (see profiles/default).
onstart:
    try:
        STUDY_LOCK = lock(f"{ROOT}/.lock", wait=False)
    except UserError as error:
        raise WorkflowError(f"another Snakemake runs this study: {error}") from None


wildcard_constraints:
    order="[^/]+",
    task=r"order-[^/]+/seed-\d+/base-\d+(-[^/]+)?(/inc-\d+/[^/]+/task-\d+)?",
    selection="herding|random|closest",


def gpus():
    """The resources of a training that Slurm wants to know: its GPUs and, where it has several nodes, one task on each."""
    processes, nodes = STUDY.config["processes"], STUDY.config["nodes"]
    count = 0 if STUDY.config["device"] == "cpu" else processes
    if nodes == 1:
        return dict(gpu=count) if count else {}
    # tasks_per_gpu, else the plugin asks for contradicting numbers of tasks; gres counts for each node, gpu for all together.
    return dict(mpi="srun", tasks=nodes, tasks_per_gpu=0) | (dict(gres=f"gpu:{count}") if count else {})


def code(*modules):
    """The files of wa/ that determine a rule's result: when one changes, the rule runs again."""
    folder = os.path.relpath(f"{BASEDIR}/wa")  # relative: a checkout may move without running anything again
    return [local(f"{folder}/{module}.py") for module in modules]  # never in a storage such as S3


def task_of(wildcards):
    """The entry of the run table."""
    return STUDY.tasks[f"{ROOT}/{wildcards.task}"]


def choice(wildcards, key):
    """A choice of the task's method; task 0 of a protocol belongs to no method."""
    method = task_of(wildcards).method
    return STUDY.config["methods"][method][key] if method else None


def learned(name):
    """Input function: a file beside the checkpoint of the task."""
    return lambda wildcards: f"{task_of(wildcards).learned}/{name}"


def previous(name):
    """Input function: a file beside the checkpoint of the task before; none for task 0."""

    def files(wildcards):
        task = task_of(wildcards)
        return f"{task.previous}/{name.format(**wildcards)}" if task.previous else []

    return files


def previous_model(wildcards):
    """Input function: the model that a training starts from."""
    return [] if choice(wildcards, "start") == "scratch" else previous("model.safetensors")(wildcards)


def previous_ranking(wildcards):
    """Input function: the ranking whose first images are the memory that a training reads."""
    return [] if choice(wildcards, "memory") in (0, "all") else previous(f"{choice(wildcards, 'selection')}.npz")(wildcards)
