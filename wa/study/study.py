"""A study: a validated config, and the table of its tasks.

A study is the product of class orders, seeds, protocols and methods. Each run is a chain of tasks; task 0 depends on
the order, the seed and the base only, so it is one task, shared. A task's path says all decisions that led to it:

    results/cifar100/order-1993/seed-0/base-50                       task 0
    results/cifar100/order-1993/seed-0/base-50/inc-10/wa/task-1      task 1 of a run

Methods that train task 0 in another way than the study does share a base named after what differs: base-50-der,
base-50-clip.
"""

import json
import re
import reprlib
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

from wa.data.datasets import BUILT_IN, cache_size_of, packed_name, survey
from wa.data.packed import read_dataset
from wa.data.scenario import class_order, task_sizes
from wa.errors import UserError
from wa.study import layout
from wa.study.config import merged, validate
from wa.study.layout import RunTable
from wa.study.published import PUBLISHED
from wa.study.settings import Settings, from_config

LARGEST_PLAN = 10**7  # tasks, each times the length of its run: so large is a plan


@dataclass(frozen=True)
class Task:
    """One task of a run, or the shared task 0 (method None)."""

    path: str
    order: str
    seed: int
    method: str | None
    settings: Settings
    sizes: list[int]  # the classes of each task up to this one
    learned: str  # where the checkpoint lies: path, but for task 0 of a run
    previous: str | None  # where the checkpoint of the task before lies


class Study:
    def __init__(self, config: dict, results: str = "results"):
        self.written, self.config = config, validate(config)
        config = self.config
        self.root = f"{results}/{config['experiment']}"
        name = packed_name(config["dataset"], config["cache_size"])
        self.data = f"{results}/{layout.DATA}/{name}"
        self.cache_size = cache_size_of(config["dataset"], config["cache_size"])
        self.orders: dict[str, list[int]] = {str(o): [] for o in config["orders"]}
        if len(self.orders) < len(config["orders"]):
            raise UserError(
                f"config: orders: {reprlib.repr(config['orders'])} names a class order twice"
            )
        if len(set(config["seeds"])) < len(config["seeds"]):
            raise UserError(f"config: seeds: {reprlib.repr(config['seeds'])} names a seed twice")
        if config["dataset"] in BUILT_IN and (config["cache_size"] or config["classes"]):
            raise UserError(
                f"config: dataset {config['dataset']!r}: cache_size and classes are for folders of images of your own"
            )
        packed = Path(self.data, layout.DATASET)
        if packed.exists():
            facts = read_dataset(packed)
            if config["classes"] != (facts["classes"] if facts.get("chosen") else []):
                raise UserError(
                    f"config: classes: {self.data} was packed from another list of classes; name the dataset otherwise, or delete"
                    " that folder if no study needs it"
                )
            counts = facts["train_counts"]
            self.n_classes, self.least = len(counts), min(counts)
        else:
            self.n_classes, self.least = survey(
                config["dataset"], config["path"], config["classes"]
            )
        for name in self.orders:
            self.orders[name] = class_order(name, self.n_classes, config["class_orders"])
        self.protocols = []
        for p in config["protocols"]:
            task_sizes(self.n_classes, p["base"], p["increment"])
            protocol = (p["base"] or p["increment"], p["increment"])
            if protocol in self.protocols:
                raise UserError(
                    f"config: protocols: base {protocol[0]}, increment {protocol[1]} is there twice"
                )
            self.protocols.append(protocol)
        runs = len(self.orders) * len(config["seeds"]) * len(config["methods"])
        if (
            runs * sum(len(task_sizes(self.n_classes, *p)) ** 2 for p in self.protocols)
            > LARGEST_PLAN
        ):
            raise UserError(
                f"config: {runs * len(self.protocols)} runs of up to {self.n_classes} tasks are too many to plan at once; make"
                " several studies of them"
            )
        self.check_methods()
        self.check_training()
        self.bases = {method: self.base_name(method) for method in config["methods"]}
        self.tasks = {task.path: task for run in self.runs() for task in run} | {
            t.path: t for t in self.base_tasks()
        }

    def check_methods(self) -> None:
        """Refuse choices that cannot be, alone or together."""

        def refuse(what: str) -> None:
            raise UserError(f"config: methods.{name}.{what}")

        for name, method in self.config["methods"].items():
            weight = method["distillation"]
            if method["mix"] == "convex" and weight != "dynamic" and weight >= 1:
                refuse(
                    f"mix: convex weights the cross-entropy by 1 - distillation = {1 - weight:g}, so no class would be learned;"
                    " use mix: sum, or a distillation below 1"
                )
            memory, least = (
                method["memory"],
                2 * self.n_classes if method["held_out"] else self.n_classes,
            )
            if isinstance(memory, int) and 0 < memory < least:
                refuse(
                    f"memory: {memory} exemplars are fewer than the {self.n_classes} classes; use at least {least}, or 0 for none"
                    if memory < self.n_classes
                    else f"memory: {memory} exemplars are too few to hold some of each class out; use at least {least}"
                )
            if memory == "1/class" and method["held_out"]:
                refuse("memory: 1/class leaves none to hold out; use at least 2/class")
            if method["classifier"] == "nme" and memory == 0:
                refuse("classifier: nme is the nearest mean of exemplars, so it needs a memory")
            if method["held_out"] and memory == 0:
                refuse("held_out is a fraction of the exemplars, so it needs a memory")
            if method["alignment"] == "bias" and not method["held_out"]:
                refuse(
                    "alignment: bias is fitted on held-out images, so it needs held_out, for instance 0.1"
                )
            if method["alignment"] == "bias" and not self.settings(name).bias:
                refuse("alignment: bias needs a classifier with biases (training.bias: true)")

    def check_training(self) -> None:
        bases, later = {self.settings(None)}, {self.settings(m) for m in self.config["methods"]}
        bases |= {self.settings(m, base=True) for m in self.config["methods"]}
        for file in {each.pretrained for each in bases | later} - {""}:
            if not Path(file).is_file():
                raise UserError(f"config: training.pretrained: {file} is not there")
        cache = cache_size_of(self.config["dataset"], self.config["cache_size"])
        for name in {name for each in bases | later for name in each.augmentation}:
            if (
                cache
                and (crop := re.fullmatch(r"resized-crop-(\d+)", name))
                and int(crop[1]) > cache
            ):
                raise UserError(
                    f"config: training.augmentation: {name} is more than cache_size: {cache} keeps"
                )
        for base, increment in self.protocols:
            for number, size in enumerate(task_sizes(self.n_classes, base, increment)):
                batch = max(each.batch_size for each in (later if number else bases))
                if size * self.least < batch:
                    raise UserError(
                        f"config: training.batch_size: {batch} is more than the {size * self.least} images of task {number}"
                        f" (base {base}, increment {increment}); use a smaller batch"
                    )

    def settings(self, method: str | None, base: bool = False) -> Settings:
        """The settings of a method's tasks, or with `base` of the task 0 that it starts from; method None: the study's task 0."""
        choices = (
            self.config["methods"][method] if method else {"training": self.config["training"]}
        )
        training = dict(choices["training"])
        more = training.pop("base")
        if method and not base:
            if choices["start"] == "previous":
                more = training
            more = more | {f.name: choices[f.name] for f in fields(Settings) if f.name in choices}
        return from_config(training | more)

    def base_name(self, method: str) -> str:
        """Of the base that a method starts from: "" for the study's own, else what differs from it or, where that is less to
        say, from the base of a published recipe. Equal recipes have equal names."""
        wanted, names = asdict(self.settings(method, base=True)), {"": asdict(self.settings(None))}
        for name in PUBLISHED.keys() - {"none"}:
            base = merged([PUBLISHED[name]["training"], self.written.get("training", {})])["base"]
            names[f"-{name}"] = asdict(from_config(base))
        differing = {
            name: [k for k in wanted if wanted[k] != theirs[k]] for name, theirs in names.items()
        }
        name = min(differing, key=lambda name: (len(differing[name]), name))
        words = [name]
        for key in differing[name]:
            if isinstance(wanted[key], bool):
                words += [key if wanted[key] else f"no-{key}"]
            else:
                words += [
                    key,
                    *map(str, wanted[key] if isinstance(wanted[key], tuple) else [wanted[key]]),
                ]
        return "-".join(words).replace("/", "-")

    def base_path(self, order: str, seed: int, base: int, method: str) -> str:
        return f"{self.root}/order-{order}/seed-{seed}/base-{base}{self.bases[method]}"

    def base_tasks(self) -> Iterator[Task]:
        bases = dict.fromkeys(base for base, _ in self.protocols)
        methods = {name: method for method, name in self.bases.items()}  # one of each base
        for order, seed, base, method in product(
            self.orders, self.config["seeds"], bases, methods.values()
        ):
            path = self.base_path(order, seed, base, method)
            yield Task(
                path, order, seed, None, self.settings(method, base=True), [base], path, None
            )

    def runs(self) -> Iterator[list[Task]]:
        """The tasks of each run, from task 0."""
        later = {method: self.settings(method) for method in self.config["methods"]}
        for run in self.run_table().runs():
            chain, previous = [], None
            for number in range(len(run.sizes)):
                path, learned = str(run.task(number)), str(run.learned(number))
                sizes = run.sizes[: number + 1]
                settings = later[run.method]
                chain.append(
                    Task(path, run.order, run.seed, run.method, settings, sizes, learned, previous)
                )
                previous = learned
            yield chain

    def memory(self, task: Task) -> str:
        """The memory that a task trains on: of the method, none for the shared task 0."""
        return str(self.config["methods"][task.method]["memory"]) if task.method else "0"

    def selection(self, task: Task) -> str:
        """How the exemplars of a task's method are chosen."""
        return self.config["methods"][task.method]["selection"]

    def alignment(self, task: Task) -> str:
        """What is done to the classifier after a task: nothing after the shared task 0."""
        return self.config["methods"][task.method]["alignment"] if task.method else "none"

    def packing(self) -> str:
        """The options of wa.data.datasets that differ from the defaults."""
        options = [f"--cache-size={self.cache_size}"] if self.cache_size else []
        if self.config["classes"]:
            options += ["--classes", *self.config["classes"]]
        return shlex.join(options)

    def order_option(self, order: str) -> str:
        """What wa.data.scenario takes as --order: a name that it knows, or the classes themselves."""
        explicit = order in self.config["class_orders"]
        return ",".join(map(str, self.orders[order])) if explicit else order

    def as_written(self) -> str:
        """What the config says of how it trains, in its own words, as JSON."""
        keys = ("orders", "seeds", "recipe", "training", "methods")
        return json.dumps({key: self.written[key] for key in keys if key in self.written})

    def run_table(self, protocol: tuple[int, int] | None = None, within: str = "") -> RunTable:
        """The runs of the study (of one protocol), found in the folder `within`."""
        methods = self.config["methods"]
        return RunTable(
            root=within + self.root,
            experiment=self.config["experiment"],
            orders=list(self.orders),
            seeds=self.config["seeds"],
            protocols=[protocol] if protocol else self.protocols,
            methods=list(methods),
            n_classes=self.n_classes,
            bases={method: name for method, name in self.bases.items() if name},
            classifiers={
                name: m["classifier"] for name, m in methods.items() if m["classifier"] != "linear"
            },
        )
