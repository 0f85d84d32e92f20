"""The layout of a study: the names of its files and folders, and the table of its runs.

    results/STUDY/order-1993/order.json
    results/STUDY/order-1993/seed-0/base-50/                      task 0, shared by several runs
    results/STUDY/order-1993/seed-0/base-50/inc-10/wa/task-1/     task 1 of a run

A run is a chain of tasks for one class order, seed, protocol and method. Every other module takes
these names from here.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

from wa.data.scenario import task_sizes

RESULTS = "results"  # the folder of all studies, in the folder where Snakemake runs
DATA = "data"  # beside the studies: the packed data sets

# Beside the checkpoint of a task.
TRAINED = "trained.safetensors"  # the model as training left it
MODEL = "model.safetensors"  # the same with the aligned classifier: what the next task starts from
FEATURES = "features.npz"
HISTORY = "history.csv"
ALIGNMENT = "alignment.json"
BENCHMARK = "train.benchmark.tsv"  # its time and memory, as Snakemake measured them
FORGOTTEN = "forgotten.json"  # beside the orders: the classes that `wa forget` removed
METER = "train.meter.json"  # memory of GPUs and energy, where the machine tells them
MEMORY = "memory.npz"  # of a study of tasks by name, in the folder of each task of a run
RESUME = ".resume"  # a training that is not finished
EVENTS = "tensorboard"  # the folder of event files, with `tensorboard: true`
WANDB = "wandb"  # the folder that wandb makes, with `wandb: true`
# In the folder of each task of a run.
FITTED = "fitted.npz"  # of a method whose algorithm fits a classifier to features
PREDICTIONS = "predictions.npz"
METRICS = "metrics.json"
# In the folder of an order, of a packed data set, and of a study.
ORDER = "order.json"
DATASET = "dataset.json"
CONFIG = "config.yaml"
LOCK = ".lock"  # Snakemake has it while it runs the study
TABLE = "metrics.csv"
CLASS_TABLE = "classes.csv"  # the same for each class
COST_TABLE = "cost.csv"

SPLITS = ("train", "test")
ARRAYS = tuple(f"{split}_{what}.npy" for split in SPLITS for what in ("images", "labels"))

# A task's folder below the study's: the shared task 0, or a task of a run.
NAMED = "named"  # the class order and the increment of tasks that are listed by name
INCREMENT = rf"inc-(\d+(-\d+)*|{NAMED})"  # inc-10, or inc-1-2-3 for unequal tasks
TASK = rf"order-[^/]+/seed-\d+/base-\d+(-[^/]+)?(/{INCREMENT}/[^/]+/task-\d+)?"


def ranking(selection: str) -> str:
    """The file with the ranking of all images learned so far, beside a checkpoint."""
    return f"{selection}.npz"


def benchmark(job: str) -> str:
    """The file with the time of a job, as Snakemake measured it.

    job: `align`, `fit`, `evaluate`, or how exemplars are chosen, such as `herding`.
    """
    return f"{job}.benchmark.tsv"


def array_hash(array: str) -> str:
    """The key of dataset.json that holds the SHA-256 of one of ARRAYS."""
    return array.replace(".npy", "_sha256")


def protocol_name(base: int, increment: int | str) -> str:
    """A protocol in words: `base 50, increment 10`, or `base 4, then 1, 2, 3`."""
    if increment == NAMED:
        return "tasks by name"
    if "-" in str(increment):
        return f"base {base}, then {', '.join(increment.split('-'))}"
    return f"base {base}, increment {increment}"


class Run(NamedTuple):
    """A run: its place in the product, and where its tasks lie."""

    order: str
    seed: int
    base: int
    increment: int | str
    method: str
    shared: Path  # the folder of task 0, which other runs share
    sizes: list[int]  # the classes of each task
    own: str | None  # the classifier that the method names as its own

    @property
    def path(self) -> Path:
        """The folder of the run's tasks."""
        return self.shared / f"inc-{self.increment}" / self.method

    def task(self, number: int) -> Path:
        """The folder of a task's predictions and metrics."""
        return self.path / f"task-{number}"

    def learned(self, number: int) -> Path:
        """The folder of a task's checkpoint: that of task 0 is shared."""
        return self.task(number) if number else self.shared

    def files(self, name: str) -> list[Path]:
        """A file of each task's folder, up to the first that does not exist."""
        files = (self.task(t) / name for t in range(len(self.sizes)))
        return list(takewhile(Path.exists, files))

    def learned_files(self, name: str) -> list[Path]:
        """A file beside each task's checkpoint, up to the first that does not exist."""
        files = (self.learned(t) / name for t in range(len(self.sizes)))
        return list(takewhile(Path.exists, files))


@dataclass(frozen=True)
class RunTable:
    """The runs of a study, as the factors of their product: short enough for a command line."""

    root: str
    experiment: str
    orders: list[str]
    seeds: list[int]
    protocols: list[tuple[int, int | str]]
    methods: list[str]
    n_classes: int
    named: list[list[str]] = field(default_factory=list)  # of tasks by name: the classes of each
    reference: str = ""  # the method that statistics compare the others with; "": the first one
    bases: dict[str, str] = field(default_factory=dict)  # method -> what follows base-B in its name
    classifiers: dict[str, str] = field(default_factory=dict)  # method -> its own classifier
    sweeps: dict[str, list[str]] = field(default_factory=dict)  # method -> what its sweep made

    def runs(self) -> Iterator[Run]:
        for order, seed, (base, increment), method in product(
            self.orders, self.seeds, self.protocols, self.methods
        ):
            name = f"base-{base}{self.bases.get(method, '')}"
            shared = Path(self.root, f"order-{order}", f"seed-{seed}", name)
            sizes = self.sizes((base, increment))
            own = self.classifiers.get(method)
            yield Run(order, seed, base, increment, method, shared, sizes, own)

    def sizes(self, protocol: tuple[int, int | str]) -> list[int]:
        """The number of classes of each task of a protocol."""
        return [len(names) for names in self.named] or task_sizes(self.n_classes, *protocol)

    @property
    def compared_with(self) -> str:
        """The method that statistics compare the others with."""
        return self.reference or self.methods[0]

    def to_json(self) -> str:
        """The table as JSON, without what is empty."""
        given = {key: value for key, value in asdict(self).items() if value not in ({}, [], "")}
        return json.dumps(given)

    @classmethod
    def from_json(cls, text: str) -> "RunTable":
        values = json.loads(text)
        return cls(**values | {"protocols": [tuple(p) for p in values["protocols"]]})


def add_study_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --study, which takes a RunTable."""
    parser.add_argument(
        "--study",
        type=RunTable.from_json,
        required=True,
        help="the runs, as JSON: RunTable.to_json() in wa.study.layout",
    )


class Place(NamedTuple):
    """What a path in the results tree names."""

    run: Path | None  # the folder of the run. None for the shared task 0.
    shared: Path
    task: int | None  # None for a run as a whole


def find(path: str | Path) -> tuple[Path, Place | None]:
    """The absolute path, and what it names. If that is nothing, the path behind its links."""
    absolute = Path(os.path.abspath(path))
    found = place(absolute)
    if found is None:
        absolute = absolute.resolve()
        found = place(absolute)
    return absolute, found


def place(path: Path) -> Place | None:
    """What an absolute path names: a run, the folder of a task, or a file in one of these.

    None for any other path.
    """
    for folder in (path, path.parent):  # a method may be named `task-1` or `base-6`
        number = re.fullmatch(r"task-(\d+)", folder.name)
        if number and is_run(folder.parent):
            return Place(folder.parent, folder.parents[2], int(number[1]))
        if is_run(folder):
            return Place(folder, folder.parents[1], None)
        if is_shared(folder):
            return Place(None, folder, 0)
    return None


def is_shared(folder: Path) -> bool:
    """Whether it is the folder of a task 0: .../order-1993/seed-0/base-50."""
    return bool(
        re.fullmatch(r"base-\d+(-.+)?", folder.name)
        and re.fullmatch(r"seed-\d+", folder.parent.name)
    )


def is_run(folder: Path) -> bool:
    """Whether it is the folder of a run: .../base-50/inc-10/METHOD."""
    return bool(re.fullmatch(INCREMENT, folder.parent.name)) and is_shared(folder.parents[1])


def data_folders(shared: Path, dataset: str, tasks: int | None) -> list[Path]:
    """The folders of the packed data, seen from the folder of a task 0.

    tasks: how many tasks by name have been learned, each packed in a folder of its own. None: it is
    a benchmark, whose data set `dataset` is in RESULTS/data/DATASET.
    """
    if tasks is None:
        return [shared.parents[3] / DATA / dataset]
    return [shared.parents[2] / DATA / f"task-{task}" for task in range(tasks)]
