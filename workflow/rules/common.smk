# The run table, input functions, and what the rules of figures share: no rules.
import gc
import os
import shlex
import sys
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# A plan is millions of objects that live to its end: looking for garbage among them took a sixth of the time.
gc.set_threshold(100_000, 50, 100)

# Jobs run the wa/ of this checkout with the Python of this Snakemake, wherever and however that was started.
BASEDIR = str(workflow.basedir)
shell.prefix(
    f"export PYTHONPATH={shlex.quote(BASEDIR)} PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; "
)
sys.path.insert(0, BASEDIR)

from wa.errors import UserError
from wa.locks import lock
from wa.study.study import Study

try:
    STUDY = Study(dict(config))
except UserError as error:
    raise WorkflowError(str(error)) from None

ROOT, DATA, DRAFT = STUDY.root, STUDY.data, STUDY.config["draft"]
OUT = f"{ROOT}/draft" if DRAFT else ROOT  # of tables and figures
PROTOCOLS = {f"base-{base}-inc-{inc}": (base, inc) for base, inc in STUDY.protocols}

# Keys of the config that say where and how a study runs, not what it is.
HOW = ("path", "device", "processes", "nodes", "runs_per_gpu", "test_every", "draft")

# The runs that tables and figures show. A draft shows what has been evaluated, and has no rule that could make more.
RUNS = list(STUDY.runs())
if DRAFT:
    all_runs = RUNS
    RUNS = [
        list(takewhile(lambda task: Path(task.path, "metrics.json").exists(), run))
        for run in all_runs
    ]
    MISSING = [
        f"{Path(run[0].path).parent}: {len(done)} of {len(run)} tasks"
        for run, done in zip(all_runs, RUNS)
        if done != run
    ]
    logger.info(
        "\n  ".join(
            [f"Draft of {ROOT}: {len(MISSING)} of {len(RUNS)} runs are not finished.", *MISSING]
        )
    )
    RUNS = [run for run in RUNS if run]
    if not RUNS:
        raise WorkflowError(f"{ROOT}: no task has been evaluated yet, so there is nothing to draw")

# The report's front page shows the config, recipes and defaults in it, and this.
config.update(STUDY.config)
config["written"] = STUDY.written
config["versions"] = {name: version(name) for name in ("snakemake", "torch", "numpy")}
config["missing"] = MISSING if DRAFT else []


# One Snakemake a study. Its own lock would outlive a kill, and stop the same command from going on (see profiles/default).
onstart:
    global STUDY_LOCK  # held as long as this Snakemake lives
    try:
        STUDY_LOCK = lock(f"{OUT}/.lock", wait=False)
    except UserError as error:
        raise WorkflowError(f"another Snakemake runs this study: {error}") from None


onerror:
    if not DRAFT and any(Path(run[0].path, "metrics.json").exists() for run in RUNS):
        which = "".join(
            f" --configfile {shlex.quote(str(file))}" for file in workflow.overwrite_configfiles
        )
        me = sys.argv[0] if sys.argv[0].endswith("snakemake") else "snakemake"
        logger.error(
            f"{ROOT} is not finished; to draw what is there of it: {me} --cores 2{which} --config draft=True"
        )


wildcard_constraints:
    order="[^/]+",
    protocol="|".join(PROTOCOLS),
    task=r"order-[^/]+/seed-\d+/base-\d+(-[^/]+)?(/inc-\d+/[^/]+/task-\d+)?",
    selection="herding|random|closest",


def gpus():
    """The resources of a training that Slurm wants to know: its GPUs and, where it has several nodes, one task on each."""
    processes, nodes = STUDY.config["processes"], STUDY.config["nodes"]
    count = 0 if STUDY.config["device"] == "cpu" else processes
    if nodes == 1:
        return dict(gpu=count) if count else {}
    # tasks_per_gpu, else the plugin asks for contradicting numbers of tasks; gres counts for each node, gpu for all together.
    return dict(mpi="srun", tasks=nodes, tasks_per_gpu=0) | (
        dict(gres=f"gpu:{count}") if count else {}
    )


def code(*modules):
    """The files of wa/ that determine a rule's result: when one changes, the rule runs again."""
    folder = os.path.relpath(
        f"{BASEDIR}/wa"
    )  # relative: a checkout may move without running anything again
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
    return (
        [] if choice(wildcards, "start") == "scratch" else previous("model.safetensors")(wildcards)
    )


def previous_ranking(wildcards):
    """Input function: the ranking whose first images are the memory that a training reads."""
    return (
        []
        if choice(wildcards, "memory") in (0, "all")
        else previous(f"{choice(wildcards, 'selection')}.npz")(wildcards)
    )


def table(wildcards, output):
    """The runs that a program reads (of the figure's protocol). Of results in a storage such as S3, the local copies are read."""
    copies = output[0].rpartition(OUT)[0]
    return STUDY.table(PROTOCOLS.get(wildcards.get("protocol")), copies)


def figure(name, category, title, protocol="all"):
    """The outputs of a figure's rule; with protocol="{protocol}", of one figure a protocol."""
    path = f"{OUT}/figures/{name}" + ("" if protocol == "all" else f"-{protocol}")
    labels = {"figure": title, "protocol": protocol}
    svg = report(f"{path}.svg", caption=f"../report/{name}.rst", category=category, labels=labels)
    return [svg, f"{path}.png", f"{path}.pdf"]


def code_of_figures(module):
    return code(
        "analysis/figures/__main__",
        "analysis/figures/drawing",
        "analysis/figures/table",
        f"analysis/figures/{module}",
        "analysis/aggregate",
    )


def runs_of(wildcards):
    """The runs of the figure's protocol."""
    base, inc = PROTOCOLS[wildcards.protocol]
    return [run for run in RUNS if run[0].sizes[0] == base and f"/inc-{inc}/" in run[0].path]


def last_predictions(wildcards):
    """Input function: the predictions after the last task."""
    ends = [run[-1] for run in runs_of(wildcards)]
    return [f"{task.path}/predictions.npz" for task in ends if sum(task.sizes) == STUDY.n_classes]


def beside_checkpoints(name, runs):
    """A file that every training of the runs leaves; of a draft, where it is there."""
    files = [
        f"{folder}/{name}" for folder in dict.fromkeys(task.learned for run in runs for task in run)
    ]
    return [file for file in files if not DRAFT or Path(file).exists()]


def one_a_job():
    """A file of each training, ranking, alignment and evaluation of all runs."""
    files = {}
    for run in RUNS:
        for task in run:
            method = STUDY.config["methods"][task.method]
            names = ["trained.safetensors", "model.safetensors"] + (
                [f"{method['selection']}.npz"] if method["memory"] else []
            )
            files |= dict.fromkeys(
                [*(f"{task.learned}/{name}" for name in names), f"{task.path}/metrics.json"]
            )
    return list(files)


def about(wildcards):
    """For the captions: what was run."""
    c, protocols = STUDY.config, [PROTOCOLS[wildcards.protocol]] if wildcards else STUDY.protocols
    return (
        f"Study {c['experiment']}: {c['dataset']}, {c['training']['backbone']}; "
        + "; ".join(f"base {base}, increment {inc}" for base, inc in protocols)
        + f"; class orders {', '.join(STUDY.orders)}; seeds {', '.join(map(str, c['seeds']))}; "
        + f"{len(STUDY.orders) * len(c['seeds'])} runs of each method and protocol"
        + (
            f", of which {len(MISSING)} (over all methods and protocols) are not finished: a draft."
            if DRAFT
            else "."
        )
    )
