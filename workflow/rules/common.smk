# The run table, input functions, and what the rules of figures share: no rules.
import gc
import hashlib
import json
import os
import shlex
import sys
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

from snakemake.api import resolve_snakefile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# A plan is millions of objects that live to its end. Looking for garbage among them took a sixth of
# the time.
gc.set_threshold(100_000, 50, 100)


class Error(WorkflowError):
    """What the user has to know, without the lines of this file that Snakemake would add."""

    __traceback__ = None


def as_it_is(text):
    """Param or resource: a text of the user.

    Snakemake would take `{x}` in a plain text for a wildcard.
    """
    return lambda wildcards: text


# Jobs run the wa/ of this checkout, whatever lies in the folder where Snakemake was started. They
# use the Python of this Snakemake, or with --sdm conda that of environment.yml. It is a resource,
# because a checkout may move.
CHECKOUT = Path(workflow.current_basedir).parents[1]
CONDA = "CONDA" in {method.name for method in workflow.deployment_settings.deployment_method}
PYTHON = as_it_is(
    shlex.join(
        [
            "env",
            "PYTHONSAFEPATH=1",
            "PYTHONUTF8=1",  # whatever the locale is
            f"PYTHONPATH={CHECKOUT}",
            "python" if CONDA else sys.executable,
        ]
    )
)
ENVIRONMENT = str(CHECKOUT / "environment.yml").replace("{", "{{").replace("}", "}}")
sys.path.insert(0, str(CHECKOUT))

from wa import __version__
from wa.data.datasets import before_packing
from wa.data.packed import read_dataset
from wa.errors import UserError, command, counted, printable_bytes
from wa.files import sha256, was_changed
from wa.locks import Locked, lock
from wa.stopping import stop_jobs_too
from wa.study import layout
from wa.study.choices import RERUNS_NOTHING
from wa.study.config_file import read_all
from wa.study.parts import of_other_data
from wa.study.results import Results
from wa.study.study import Study
from wa.training.trackers import TRACKERS, check_installed

sys.path.remove(str(CHECKOUT))


NOTES = ".snakemake" if Path(".snakemake").exists() else "."
if not os.access(NOTES, os.W_OK):
    raise Error(
        f"{Path.cwd()} cannot be written, but Snakemake keeps its notes there. To draw the figures"
        " of such results elsewhere, copy what they need: wa evidence --help"
    )


def written():
    """The config as it is written.

    Snakemake reads it as YAML 1.1, and drops keys that are there twice. So the files are read
    again. A module has no file: it gets the config from the workflow that uses it.
    """
    if not workflow.modifier.is_main_snakefile():
        return dict(config)
    files = workflow.overwrite_configfiles or workflow.configfiles
    return read_all(files, workflow.config_settings.config_args or [])


try:
    STUDY = Study(written())
    RESULTS = Results(STUDY)
    ROOT, DRAFT = STUDY.root, STUDY.config["draft"]
    if not DRAFT and (said := of_other_data(ROOT, STUDY.parts)):
        raise UserError(said)
    if STUDY.named and not DRAFT:
        RESULTS.check()
except UserError as error:
    raise Error(printable_bytes(str(error))) from None

for line in STUDY.notes:
    logger.warning(printable_bytes(line))

# What packing will download or leave out is on the screen too, not only in its log.
if not DRAFT and not STUDY.parts[-1].file.exists():
    for line in before_packing(STUDY.config["dataset"], STUDY.config["path"]):
        logger.warning(printable_bytes(line))


def are(items):
    return "is" if len(items) == 1 else "are"


TRACKED = [name for name in TRACKERS if STUDY.config[name]]
OUT = f"{ROOT}/draft" if DRAFT else ROOT  # of tables and figures
PROTOCOLS = {f"base-{base}-inc-{inc}": (base, inc) for base, inc in STUDY.protocols}

# The runs that tables and figures show. A draft shows what has been evaluated, and has no rule that
# could make more.
RUNS, MISSING = list(STUDY.runs()), []
if DRAFT:
    all_runs = RUNS
    RUNS = [
        list(takewhile(lambda task: Path(task.path, layout.METRICS).exists(), run))
        for run in all_runs
    ]
    MISSING = [
        f"{Path(run[0].path).parent}: {len(done)} of {counted(len(run), 'task')}"
        for run, done in zip(all_runs, RUNS)
        if done != run
    ]
    all_of_them = f"all {len(RUNS)} runs are" if len(RUNS) > 1 else "its run is"
    not_all = f"{len(MISSING)} of {counted(len(RUNS), 'run')} {are(MISSING)} not"
    title = f"Draft of {ROOT}: {not_all if MISSING else all_of_them} finished."
    logger.info("\n  ".join([title, *MISSING]))
    RUNS = [run for run in RUNS if run]
    if not RUNS:
        raise Error(f"{ROOT}: no task has been evaluated yet, so there is nothing to draw")

SHOWN = [run for run in RUNS if run[0].method in STUDY.show]  # in figures and tables


def no_longer_in_config():
    """The methods with results on disk that the config does not have."""
    folders = {Path(run[0].path).parents[1] for run in RUNS}
    found = {
        file.parts[-3] for folder in folders for file in folder.glob(f"*/task-0/{layout.METRICS}")
    }
    return sorted(found - set(STUDY.config["methods"]))


if gone := no_longer_in_config():
    logger.info(
        f"{ROOT} has results of methods that are not in the config: {', '.join(gone)}. metrics.csv"
        " will not list them. To draw only some methods, keep all of them in the config, and set"
        " `show`."
    )


def program_version():
    """For the report: the version of this program, and the commit of a git checkout."""
    from wa.commands.evidence import commit  # it imports what no plan needs

    found = commit()
    return __version__ + (f" (commit {found})" if found != "unknown" else "")


def packed_hashes():
    """For the report: the folder of each packed part -> its arrays, each with its SHA-256."""
    found = {}
    for part in STUDY.parts:
        if part.file.exists():
            dataset = read_dataset(part.file)
            hashes = {
                array: dataset.get(layout.array_hash(array), "unknown")[:12]
                for array in layout.ARRAYS
            }
            found[part.folder] = " ".join(f"{array} {value}" for array, value in hashes.items())
    return found


# The report's front page shows the config, recipes and defaults in it, and this.
# It is a new dict: the one that a `module` statement gives belongs to the other workflow.
config = STUDY.config | {
    "written": STUDY.written,
    "versions": {name: version(name) for name in ("snakemake", "torch", "numpy")},
    "missing": MISSING,
    "program": program_version,
    "data": packed_hashes,
}


# One Snakemake per study. Its own lock would outlive a kill and stop the same command from going on
# (profiles/default).
onstart:
    global STUDY_LOCK  # held as long as this Snakemake lives
    try:
        if not CONDA and any(job.rule.name == "train" for job in workflow.dag.needrun_jobs()):
            check_installed(TRACKED)
        STUDY_LOCK = lock(f"{OUT}/{layout.LOCK}", wait=False)
    except Locked as error:
        raise Error(f"another Snakemake runs this study: {error}") from None
    except UserError as error:
        raise Error(printable_bytes(str(error))) from None
    stop_jobs_too()
    # With a limit of jobs per second, each look for jobs has Snakemake 9 look again a second later. So
    # every job that ends adds one more look per second, until Snakemake does nothing else. The
    # default limit is 100.
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def left_over():
    """The figures and tables on disk that the config no longer makes, in words for a shell.

    These are formats, figures and protocols that left the config. Nothing deletes them: they may be
    in a paper. Other files are the user's own.
    """
    files = [*DRAWN, *(rules.sweep.output if STUDY.config["sweep"] else [])]
    made = {Path(file).name for file in files} | {f"{Path(file).stem}.log" for file in files}
    suffixes = {}  # of each stem
    for file in sorted(Path(OUT, "figures").glob("[!.]*")):
        is_ours = file.stem.partition("-base-")[0] in {*FIGURES, *TABLES, "sweep"}
        if is_ours and file.suffix in SUFFIXES and file.name not in made:
            suffixes.setdefault(file.stem, []).append(file.suffix)
    stems = {}  # of the same suffixes
    for stem, found in suffixes.items():
        stems.setdefault(tuple(found), []).append(stem)
    start = f"{shlex.quote(OUT)}/figures/"
    return [start + either(names) + either(found) for found, names in stems.items()]


def either(words):
    """Words for a shell: `{a,b}`, or one word as it is."""
    return f"{{{','.join(words)}}}" if len(words) > 1 else words[0]


def best_of_sweeps():
    """What best.yaml says at its start: the best methods, and the command that runs them."""
    file = Path(OUT, "best.yaml")
    if not STUDY.config["sweep"] or not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("# ")]


onsuccess:
    for line in best_of_sweeps():
        logger.info(line)
    draws = any(job.rule.name in {*FIGURES, *TABLES} for job in workflow.dag.jobs)
    if draws and (files := left_over()):
        logger.info(
            f"{OUT}/figures has files that the config no longer makes."
            f" To delete them: rm {' '.join(files)}"
        )


def snakemake_here():
    """The command that runs this workflow in this folder."""
    found, main = resolve_snakefile(None, allow_missing=True), workflow.main_snakefile
    is_found = found and os.path.samefile(found, main)
    return command("snakemake") + ("" if is_found else f" -s {shlex.quote(main)}")


onerror:
    files = [shlex.quote(str(file)) for file in workflow.overwrite_configfiles]
    named = f" --config {files[0]}" if files else ""
    logger.error(f"For the errors of all failed jobs: {command('wa')} status{named}")
    if not DRAFT and any(Path(run[0].path, layout.METRICS).exists() for run in RUNS):
        which = "".join(f" --configfile {file}" for file in files)
        logger.error(
            f"{ROOT} is not finished. To draw what is there:"
            f" {snakemake_here()} --cores 2{which} --config draft=True"
        )


SELECTIONS = {method["selection"] for method in STUDY.config["methods"].values()}


wildcard_constraints:
    part=r"\d+",
    order="[^/]+",
    protocol="|".join(PROTOCOLS),
    task=layout.TASK,
    selection="|".join(sorted(SELECTIONS)),


def gpus():
    """The resources of a training that Slurm wants to know.

    These are its GPUs and, with several nodes, one task on each.
    """
    processes, nodes = STUDY.config["processes"], STUDY.config["nodes"]
    count = 0 if STUDY.config["device"] == "cpu" else processes
    if nodes == 1:
        return dict(gpu=count) if count else {}
    # Without tasks_per_gpu the plugin asks for contradicting numbers of tasks. gres counts for each
    # node, gpu for all.
    resources = dict(mpi="srun", tasks=nodes, tasks_per_gpu=0)
    return resources | (dict(gres=f"gpu:{count}") if count else {})


def task_of(wildcards):
    """The entry of the run table."""
    return STUDY.tasks[f"{ROOT}/{wildcards.task}"]


# A job runs again if its result is not the one that the study wants today. Each result says in its
# header what it was made from (wa/identity.py), and wa/study/results.py compares. Snakemake's own
# records, which go by path, would be lost when a study is renamed, copied or moved.


def tracked(verdict, output, files):
    """Input function: files(wildcards), in the light of the verdict on the result of the job.

    A result that is what the study wants stays, whatever the dates of its inputs. One that differs
    is made anew. Where nothing is known, Snakemake decides by what is there and by dates.
    """

    def inputs(wildcards):
        found, said = files(wildcards), verdict(wildcards)
        if said == "":
            return ancient(found)
        if said:
            force(output.format(**wildcards), said)
        return found

    return inputs


FORCED = set()


def force(output, why):
    """Have the job that makes `output` run if it is part of the plan."""
    workflow.dag.forcefiles.add(output)
    if output in FORCED:
        return
    if len(FORCED) < 5:
        logger.info(f"{output} is made anew: {why}.")
    elif len(FORCED) == 5:
        logger.info("... and more.")
    FORCED.add(output)


# The packed data: one folder, or one for each task by name.
PART = f"{ROOT}/{layout.DATA}/task-{{part}}" if STUDY.named else STUDY.parts[0].folder


def part_of(wildcards):
    return STUDY.parts[int(wildcards.part) if STUDY.named else 0]


def packed_elsewhere(part):
    """Whether another module of the same workflow has the rule that packs this part of the data.

    Different options for one folder stay two rules, and Snakemake refuses them.
    """
    dataset = workflow.modifier.modify_path(str(part.file), "output")
    for other in workflow.rules:
        if dataset in other.output and other.params["options"](None) == part.options():
            return True
    return False


def trained(files):
    return tracked(
        lambda wildcards: RESULTS.trained(f"{ROOT}/{wildcards.task}"),
        f"{ROOT}/{{task}}/trained.safetensors",
        files,
    )


def ranked(files):
    return tracked(
        lambda wildcards: RESULTS.ranked(f"{ROOT}/{wildcards.task}", wildcards.selection),
        f"{ROOT}/{{task}}/{{selection}}.npz",
        files,
    )


def kept(files):
    return tracked(
        lambda wildcards: RESULTS.kept(f"{ROOT}/{wildcards.task}"),
        f"{ROOT}/{{task}}/{layout.MEMORY}",
        files,
    )


def aligned(files):
    return tracked(
        lambda wildcards: RESULTS.aligned(f"{ROOT}/{wildcards.task}"),
        f"{ROOT}/{{task}}/model.safetensors",
        files,
    )


def fitted(files):
    return tracked(
        lambda wildcards: RESULTS.fitted(f"{ROOT}/{wildcards.task}"),
        f"{ROOT}/{{task}}/{layout.FITTED}",
        files,
    )


def evaluated(files):
    return tracked(
        lambda wildcards: RESULTS.evaluated(task_of(wildcards)),
        f"{ROOT}/{{task}}/metrics.json",
        files,
    )


# Tables and figures have no header. What each was made from stands beside it, in a hidden file.


def made_from(code, function="main", methods=STUDY.show, **more):
    """Param: the digest of what a table or a figure is made from.

    That is its code, its runs, and what its captions say.
    """

    def digest(wildcards):
        protocol = PROTOCOLS.get(wildcards.get("protocol"))
        parts = [
            RESULTS.code.digest(code, function=function),
            STUDY.run_table(protocol, names=methods).to_json(),
            about(wildcards),
            more,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    return digest


def note(output):
    """Resource: the hidden file beside a table or a figure that keeps its made_from."""
    file = Path(output)
    return lambda wildcards: str(file.with_name(f".{file.stem}")).format(**wildcards)


def drawn(output, made, files, *beside):
    """Input function of a table or a figure: files(wildcards).

    The table or figure is made anew if it was made from something else.
    beside: other tables that the same job writes.
    """

    def inputs(wildcards):
        file, kept = output.format(**wildcards), Path(note(output)(wildcards))
        if Path(file).exists() and not (
            kept.exists() and kept.read_text(encoding="utf-8") == made(wildcards)
        ):
            workflow.dag.forcefiles.add(file)
        for table in (file, *beside):
            if Path(table).exists() and was_changed(table):
                force(table, "it was edited after the study wrote it")
        return files(wildcards)

    return inputs


def other_config(wildcards):
    """Input function of the config's copy, which has no inputs.

    The copy is written anew if it says something else.
    """
    file = Path(OUT, layout.CONFIG)
    if file.exists() and file.read_text(encoding="utf-8") != STUDY.as_file():
        workflow.dag.forcefiles.add(str(file))
    return []


def previous(name):
    """Input function: a file beside the checkpoint of the task before; none for task 0."""

    def files(wildcards):
        task = task_of(wildcards)
        return f"{task.previous}/{name.format(**wildcards)}" if task.previous else []

    return files


def previous_model(wildcards):
    """Input function: the model that a training starts from."""
    task = task_of(wildcards)
    scratch = task.settings.start == "scratch"
    return f"{task.previous}/{layout.MODEL}" if task.previous and not scratch else []


def previous_unaligned(wildcards):
    """Input function: the model before aligning, for a training that starts from it."""
    task = task_of(wildcards)
    starts = task.previous and task.settings.start == "trained"
    return f"{task.previous}/{layout.TRAINED}" if starts else []


def alignment_of(wildcards):
    return STUDY.alignment(task_of(wildcards))


def aligning_options(choices):
    """The options of wa.methods.alignment for the choices of a method."""
    given = {name: value for name, value in choices.items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())


def aligning_features(wildcards):
    """Input function: the features of held-out images, for `bias`, or of exemplars, for `nme`."""
    choices = alignment_of(wildcards)
    needed = choices["alignment"] == "bias" or choices["classifier"] == "nme"
    return f"{ROOT}/{wildcards.task}/{layout.FEATURES}" if needed else []


def aligning_ranking(wildcards):
    """Input function: the ranking of the exemplars whose means the classifier `nme` needs."""
    if alignment_of(wildcards)["classifier"] != "nme":
        return []
    return f"{ROOT}/{wildcards.task}/{layout.ranking(STUDY.selection(task_of(wildcards)))}"


def aligning_code(wildcards):
    choices = alignment_of(wildcards)
    return RESULTS.aligning_code(choices["alignment"], choices["classifier"])


def packed_arrays(wildcards):
    """Input function: the packed arrays of a benchmark. Those of tasks by name may be deleted."""
    return [] if STUDY.named else [f"{STUDY.parts[0].folder}/{array}" for array in layout.ARRAYS]


def packed_facts(wildcards):
    """Input function: dataset.json of the data that a task reads."""
    return [str(part.file) for part in STUDY.read_by(task_of(wildcards))]


def class_order(wildcards):
    """Input function: the class order. Tasks by name come in the order of the config."""
    return [] if STUDY.named else f"{ROOT}/order-{task_of(wildcards).order}/order.json"


def previous_ranking(wildcards):
    """Input function: the ranking whose first images are the memory that a training reads."""
    task = task_of(wildcards)
    if STUDY.named or not task.previous or not STUDY.memory(task).needs_ranking:
        return []
    return f"{task.previous}/{layout.ranking(STUDY.selection(task))}"


def previous_memory(wildcards):
    """Input function: the memory of images of the task before, of tasks by name."""
    task = task_of(wildcards)
    if not STUDY.named or not task.previous or not STUDY.memory(task).needs_ranking:
        return []
    return str(task.memory_before)


def own_ranking(wildcards):
    """Input function: the ranking whose first images are the memory that an evaluation reads."""
    task = task_of(wildcards)
    if STUDY.memory(task).is_none:
        return []
    return f"{task.learned}/{layout.ranking(STUDY.selection(task))}"


def previous_fitted(wildcards):
    """Input function: what the method's algorithm fitted after the task before."""
    folder = STUDY.previous_in_run(task_of(wildcards))
    return f"{folder}/{layout.FITTED}" if folder else []


def own_fitted(wildcards):
    """Input function: what the method's algorithm fitted, if it fits a classifier."""
    task = task_of(wildcards)
    return f"{task.path}/{layout.FITTED}" if STUDY.fits(task) else []


def algorithm_options(wildcards):
    """The options of a program that runs the code of a method's algorithm."""
    task = task_of(wildcards)
    name, options = STUDY.algorithm(task)
    words = [f"--algorithm={name}", f"--seed={task.seed}", "--options", *options]
    return shlex.join(words)


def learned(name):
    """Input function: a file beside the checkpoint of the task."""
    return lambda wildcards: f"{task_of(wildcards).learned}/{name}"


def run_table(wildcards, output):
    """The runs that a program reads (of the figure's protocol).

    Of results in a storage such as S3, these are the local copies.
    """
    copies = output[0].rpartition(OUT)[0]
    return STUDY.run_table(PROTOCOLS.get(wildcards.get("protocol")), copies).to_json()


def shown_runs(wildcards, output):
    """As run_table, but only the methods that figures and tables show."""
    copies = output[0].rpartition(OUT)[0]
    return STUDY.run_table(PROTOCOLS.get(wildcards.get("protocol")), copies, STUDY.show).to_json()


def runs_of(wildcards):
    """The runs that the figure of a protocol shows."""
    base, inc = PROTOCOLS[wildcards.protocol]
    return [run for run in SHOWN if run[0].sizes[0] == base and f"/inc-{inc}/" in run[0].path]


def last_predictions(wildcards):
    """Input function: the predictions after the last task."""
    ends = [run[-1] for run in runs_of(wildcards)]
    complete = [task for task in ends if sum(task.sizes) == STUDY.n_classes]
    return [f"{task.path}/{layout.PREDICTIONS}" for task in complete]


def beside_checkpoints(name, runs):
    """A file that every training of the runs leaves; for a draft, where it is there."""
    folders = dict.fromkeys(task.learned for run in runs for task in run)
    files = [f"{folder}/{name}" for folder in folders]
    return [file for file in files if not DRAFT or Path(file).exists()]


def costing():
    """The files that tell what jobs cost, or that lie beside their benchmarks.

    Earlier versions measured trainings only. Other jobs shall not run again to be measured, so
    their benchmarks are not among the files.
    """
    files = {}
    for name in (layout.TRAINED, layout.MODEL, layout.HISTORY, layout.BENCHMARK):
        files |= dict.fromkeys(beside_checkpoints(name, RUNS))
    for run in RUNS:
        for task in run:
            files[f"{task.path}/{layout.METRICS}"] = None
            if STUDY.memory(task).keeps:
                files[f"{task.learned}/{layout.ranking(STUDY.selection(task))}"] = None
    return [file for file in files if not DRAFT or Path(file).exists()]


def one_per_job():
    """A file of each job: packing, training, ranking, alignment and evaluation of all runs."""
    files = {str(part.file): None for part in STUDY.parts} | dict.fromkeys(packed_arrays(None))
    for run in RUNS:
        if STUDY.named and STUDY.memory(run[-1]).needs_ranking:
            files[f"{run[-1].path}/{layout.MEMORY}"] = None  # for the next task
        for task in run:
            names = [layout.TRAINED, layout.MODEL]
            if STUDY.memory(task).keeps:
                names.append(layout.ranking(STUDY.selection(task)))
            files |= dict.fromkeys(f"{task.learned}/{name}" for name in names)
            files[f"{task.path}/{layout.METRICS}"] = None
    return list(files)


# For the captions of a study that never opens the test images.
VALIDATION = (
    f"a validation split of {STUDY.config['validation']:.0%} of each class's training images"
)


def about(wildcards):
    """For the captions: what was run."""
    c = STUDY.config
    protocols = [PROTOCOLS[wildcards.protocol]] if wildcards else STUDY.protocols
    parts = [
        f"Study {c['experiment']}: {c['dataset']}, {c['training']['backbone']}",
        *(layout.protocol_name(*protocol) for protocol in protocols),
        f"class orders {', '.join(STUDY.orders)}" if not STUDY.named else "as they came",
        f"seeds {', '.join(map(str, c['seeds']))}",
        *([f"evaluated on {VALIDATION}"] if c["validation"] else []),
        f"{counted(len(STUDY.orders) * len(c['seeds']), 'run')} of each method and protocol",
    ]
    draft = ""
    if MISSING:
        draft = (
            f", of which {len(MISSING)} (over all methods and protocols) {are(MISSING)} not"
            " finished: a draft"
        )
    elif DRAFT:
        draft = ": a draft, although all are finished"
    return "; ".join(parts) + f"{draft}."
