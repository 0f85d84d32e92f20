"""A study: a validated config, and the table of its tasks.

A study is the product of class orders, seeds, protocols and methods. Each run is a chain of tasks.
Task 0 depends on the order, the seed and the base only, so runs share it. The path of a task says
all decisions that led to it:

    results/cifar100/order-1993/seed-0/base-50                       task 0
    results/cifar100/order-1993/seed-0/base-50/inc-10/wa/task-1      task 1 of a run

A method may train task 0 in another way than the study does. Then the folder of its task 0 is named
after the difference: base-50-der, base-50-clip.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from urllib.parse import quote

import numpy as np

from wa.data.augmentations import check_images
from wa.data.datasets import BUILT_IN, BUILT_IN_SHAPES, cache_size_of, packed_name
from wa.data.folders import is_folder
from wa.data.memory import Memory
from wa.data.packed import read_dataset
from wa.data.scenario import LEAST, class_order, spelled, task_sizes
from wa.errors import UserError
from wa.methods.algorithm import facts, from_words, is_own, of_task_0
from wa.study import layout
from wa.study.choices import ALIGNING, METHOD, RERUNS_NOTHING
from wa.study.config import merged, plain, validate
from wa.study.config_file import dump, with_places
from wa.study.layout import RunTable
from wa.study.parts import Part, check_learned
from wa.study.published import PUBLISHED
from wa.study.settings import METHOD_KEYS, Settings

LARGEST_PLAN = 10**7  # the size of a plan: over all runs, the number of tasks squared
LONGEST_NAME = 200  # characters. A file system allows 255.
# Algorithms that pull the rows of old classes to what they were, or freeze them -> the values of
# `redraw_classifier` that would put random rows there.
KEEPS_ROWS = {
    "ewc": ("start",),
    "lucir": ("start", "after-warmup"),
    "podnet": ("start", "after-warmup"),
}
COSINES = ("lucir", "podnet")  # algorithms whose classifier has rows of length 1, and no biases


def spell(name: str, value: object) -> str:
    """A setting as a part of a folder's name: `clip`, `no-clip`, `lr-0.2`, `milestones-60-100`."""
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    values = value if isinstance(value, tuple) else (value,)
    # The name of a backbone or a file may hold anything. `/` becomes `+`, which is easy to read.
    words = (quote(str(each), safe="/").replace("/", "+") for each in values)
    return "-".join([name, *words])


def check_distillation(settings: Settings) -> None:
    """Raise UserError if a method asks for distillation, and would train without it."""
    name, options = settings.algorithm, facts(settings.algorithm).options
    why = ""
    if facts(name).distils is not None:
        why = f"algorithm {name} has a loss of its own, without this key"
        if options:
            why += f". It has the options {', '.join(options)}"
    elif settings.start == "scratch":
        why = "the teacher is the model of the task before, and start: scratch has none"
    elif not settings.epochs:
        why = "epochs: 0 trains nothing after task 0"
    if why:
        raise UserError(f"distillation: {why}")


def spell_algorithm(settings: Settings) -> str:
    """An algorithm and the options that are not its defaults: `lucir`, `lucir-margin-0.7`."""
    defaults = facts(settings.algorithm).options
    given = from_words(settings.options)
    options = [spell(name, value) for name, value in given.items() if value != defaults[name]]
    return "-".join([quote(Path(settings.algorithm).stem, safe=""), *options])


def task_images(counts: np.ndarray, ends: list[int], memory: Memory, held_out: float) -> list[int]:
    """The number of images that each task of a run trains on.

    counts: int (classes,), the training images of each class, in the order of learning.
    ends: the number of classes after each task. held_out: as in hold_out of wa/data/task.py.
    Raises UserError if a class has too few images to hold some out.
    """
    numbers, old = [], 0
    for task, end in enumerate(ends):
        images = counts[:end].copy()
        if old and not memory.is_all:
            images[:old] = np.minimum(images[:old], memory.per_class(old))
        if held_out and old:
            few = images[:old].min()
            if few < 2:
                raise UserError(
                    f"an old class has {few} exemplars after task {task - 1}, and it needs 2: one"
                    " to train on, and one to hold out"
                )
            each = max(1, int(held_out * few))
            if images[old:].min() <= each:
                raise UserError(
                    f"task {task} holds {each} images of each class out, so nothing is left of a"
                    f" new class that has {images[old:].min()}"
                )
            images -= each
        numbers.append(int(images.sum()))
        old = end
    return numbers


@dataclass(frozen=True)
class Task:
    """One task of a run, or the shared task 0 (method None)."""

    path: str
    order: str
    seed: int
    method: str | None
    settings: Settings
    sizes: list[int]  # the classes of each task up to this one
    learned: str  # where the checkpoint lies: `path`, or the shared task 0
    previous: str | None  # where the checkpoint of the task before lies

    @property
    def memory_before(self) -> Path:
        """The memory of images of the task before, in a study of tasks by name."""
        return Path(self.path).with_name(f"task-{len(self.sizes) - 2}") / layout.MEMORY


class Study:
    """A study, planned from its config.

    config: as written. results: the folder of all studies. Raises UserError, which names the key,
    if the config is not possible.
    """

    @with_places
    def __init__(self, config: dict, results: str = "results"):
        self.written, self.config = plain(config), validate(config)
        config = self.config
        self.root = f"{results}/{config['experiment']}"
        self.cache_size = cache_size_of(config["dataset"], config["cache_size"])
        self.named = config["tasks"]
        self.check_product()
        self.parts = self.data_parts(results)
        self.learned = check_learned(self.root, self.named, self.cache_size) if self.named else 0
        self.notes = self.check_folders()
        # The training images of each class.
        self.counts = np.array([count for part in self.parts for count in part.survey()])
        self.n_classes = len(self.counts)
        self.orders = self.class_orders()
        self.protocols = self.sized_protocols()
        self.check_size()
        self.check_methods()
        self.show = self.shown()
        self.check_training()
        self.check_tasks()
        self.notes += self.own_code()
        self.bases = self.base_names()
        self.tasks = {task.path: task for run in self.runs() for task in run}
        self.tasks |= {task.path: task for task in self.base_tasks()}

    def check_product(self) -> None:
        """Refuse a class order or a seed that occurs twice, and keys that do not fit the data."""
        config = self.config
        if len({str(order) for order in config["orders"]}) < len(config["orders"]):
            raise UserError(
                f"config: orders: {reprlib.repr(config['orders'])} names a class order twice"
            )
        if len(set(config["seeds"])) < len(config["seeds"]):
            raise UserError(f"config: seeds: {reprlib.repr(config['seeds'])} names a seed twice")
        if self.named:
            self.check_named()
        elif not config["protocols"]:
            raise UserError(
                "config: a study needs `protocols`, for instance protocols: [{base: 50, increment:"
                " 10}], or `tasks`, a list of classes for each task"
            )
        if config["dataset"] in BUILT_IN and (config["cache_size"] or config["classes"]):
            raise UserError(
                f"config: dataset {config['dataset']!r}: cache_size and classes are for"
                " folders of images only"
            )

    def shown(self) -> list[str]:
        """The methods that figures and tables show, in their order. Raises UserError."""
        config = self.config
        unknown = [name for name in config["show"] if name not in config["methods"]]
        if unknown:
            raise UserError(
                f"config: show: {unknown[0]!r} is not a method of this config. Its methods are"
                f" {', '.join(config['methods'])}."
            )
        for key in ("labels", "colors"):
            unknown = [name for name in config["figures"][key] if name not in config["methods"]]
            if unknown:
                raise UserError(
                    f"config: figures.{key}: {unknown[0]!r} is not a method of this config. Its"
                    f" methods are {', '.join(config['methods'])}."
                )
        return config["show"] or list(config["methods"])

    def check_named(self) -> None:
        """Refuse keys that do not go with tasks by name, and a class that is in two tasks."""
        config = self.config
        for key in ("protocols", "orders", "class_orders", "classes"):
            if key in self.written:
                raise UserError(
                    f"config: {key}: `tasks` lists the classes in their order, so it takes the"
                    f" place of `{key}`. Remove one of the two"
                )
        if config["validation"]:
            raise UserError(
                "config: validation: it is for `protocols`. To choose settings for `tasks`, cut the"
                " same images by protocols: [{sizes: [3, 2]}], in a study of its own"
            )
        if config["dataset"] in BUILT_IN:
            raise UserError(
                f"config: dataset: `tasks` lists classes of a folder of images, and"
                f" {config['dataset']} is none. Use `protocols`, for instance protocols: [{{sizes:"
                " [4, 1, 5]}]"
            )
        where: dict[str, int] = {}
        for number, names in enumerate(self.named):
            for name in names:
                if name in where:
                    raise UserError(
                        f"config: tasks.{number}: class {name!r} is in task {where[name]} already."
                        " A class is learned once"
                    )
                where[name] = number

    def data_parts(self, results: str) -> list[Part]:
        """What is packed by itself: the whole data set, or each task by name."""
        config = self.config
        raw = config["dataset"], config["path"]
        if self.named:
            return [
                Part(
                    f"{self.root}/{layout.DATA}/task-{task}",
                    task,
                    *raw,
                    tuple(names),
                    self.cache_size,
                )
                for task, names in enumerate(self.named)
            ]
        share = config["validation"]
        name = packed_name(config["dataset"], config["cache_size"], share)
        folder = f"{results}/{layout.DATA}/{name}"
        return [Part(folder, None, *raw, tuple(config["classes"]), self.cache_size, share)]

    def check_folders(self) -> list[str]:
        """Refuse raw data that are not those that were packed.

        A task by name that was learned stays as it is. Changes of its images are only noted.
        Returns the notes.
        """
        notes = []
        for part in self.parts:
            if not part.file.exists():
                continue
            facts = read_dataset(part.file)
            chosen = tuple(facts["classes"] if facts.get("chosen") else ())
            if part.task is None and part.classes != chosen:
                raise UserError(
                    f"config: classes: {part.folder} was packed from another list of classes. Give"
                    " the dataset another name, or delete that folder if no study needs it."
                )
            changes = part.changes()
            if changes and part.task is None:
                raise UserError(
                    f"config: path: {part.path} holds {changes} than {part.folder} was packed"
                    " from. Give the dataset another name, set `path` to the folder that"
                    f" was packed, or delete {part.folder} to pack anew."
                )
            if changes and self.is_learned(part):
                notes.append(
                    f"{part.path} holds {changes} than task {part.task} was learned from. They are"
                    " not used."
                )
        return notes

    def own_code(self) -> list[str]:
        """What a user must know of the Python files that the config names, one line for each."""
        chosen = {name: method["algorithm"] for name, method in self.config["methods"].items()}
        return [
            f"methods.{name}.algorithm: the jobs of this method run the Python code of {file}"
            for name, file in chosen.items()
            if is_own(file)
        ]

    def is_learned(self, part: Part) -> bool:
        """Whether a model has been trained on a task by name."""
        return part.task is not None and part.task < self.learned

    def is_gone(self, task: Task) -> bool:
        """Whether the training images of a task by name were deleted after it was learned."""
        part = self.parts[len(task.sizes) - 1] if self.named else self.parts[0]
        return self.is_learned(part) and not part.images

    def read_by(self, task: Task) -> list[Part]:
        """The packed data that a task reads."""
        return self.parts[: len(task.sizes)] if self.named else self.parts

    def class_orders(self) -> dict[str, list[int]]:
        """The class orders by name. Tasks by name have one: as the config lists the classes."""
        if self.named:
            return {layout.NAMED: list(range(self.n_classes))}
        own = self.config["class_orders"]
        names = map(str, self.config["orders"])
        return {name: class_order(name, self.n_classes, own) for name in names}

    def sized_protocols(self) -> list[tuple[int, int | str]]:
        """(base, increment) of each protocol, as RunTable has it.

        Base 0 becomes a base of the increment's size.
        """
        if self.named:
            return [(len(self.named[0]), layout.NAMED)]
        protocols = []
        for number, p in enumerate(self.config["protocols"]):
            if set(p) not in ({"sizes"}, {"base", "increment"}):
                raise UserError(
                    f"config: protocols.{number}: a protocol is {{base: 50, increment: 10}} or"
                    " {sizes: [50, 20, 30]}"
                )
            try:
                protocol = self.sized(p)
            except UserError as error:
                raise UserError(f"config: {error}") from None
            if protocol in protocols:
                raise UserError(
                    f"config: protocols: base {protocol[0]}, increment {protocol[1]} is there twice"
                )
            protocols.append(protocol)
        return protocols

    def sized(self, protocol: dict) -> tuple[int, int | str]:
        """(base, increment) of a protocol of the config. Raises UserError if it does not fit."""
        if "sizes" in protocol:
            return spelled(protocol["sizes"], self.n_classes)
        task_sizes(self.n_classes, protocol["base"], protocol["increment"])
        return protocol["base"] or protocol["increment"], protocol["increment"]

    def sizes(self, protocol: tuple[int, int | str]) -> list[int]:
        """The number of classes of each task of a protocol."""
        return [len(names) for names in self.named] or task_sizes(self.n_classes, *protocol)

    def check_size(self) -> None:
        """Refuse a study that is too large for one plan."""
        config = self.config
        runs = len(self.orders) * len(config["seeds"]) * len(config["methods"])
        lengths = [len(self.sizes(p)) for p in self.protocols]
        if runs * sum(length**2 for length in lengths) > LARGEST_PLAN:
            raise UserError(
                f"config: {runs * len(self.protocols)} runs of up to {max(lengths)} tasks are too"
                " many to plan at once. Make several studies of them."
            )

    def memory_of(self, method: str | None) -> Memory:
        """The memory of a method. Task 0 belongs to no method and has none."""
        return Memory.parse(self.config["methods"][method]["memory"] if method else None)

    def check_methods(self) -> None:
        """Refuse choices that cannot be, alone or together."""
        reference = self.config["reference"]
        if reference is not None and reference not in self.config["methods"]:
            raise UserError(
                f"config: reference: {reference!r} is not one of the methods:"
                f" {', '.join(self.config['methods'])}"
            )
        for name, method in self.config["methods"].items():
            try:
                self.check_method(self.memory_of(name), self.settings(name), method)
            except UserError as error:
                raise UserError(f"config: methods.{name}.{error}") from None

    def check_method(self, memory: Memory, settings: Settings, method: dict) -> None:
        """Raise a UserError that begins with the key."""
        weight = settings.distillation
        if settings.mix == "convex" and weight != "dynamic" and weight >= 1:
            raise UserError(
                f"mix: convex weights the cross-entropy by 1 - distillation = {1 - weight:g}, so no"
                " class would be learned. Use mix: sum, or a distillation below 1."
            )
        if weight:
            check_distillation(settings)
        redraw = settings.redraw_classifier
        if redraw in KEEPS_ROWS.get(settings.algorithm, ()) and settings.start != "scratch":
            raise UserError(
                f"training.redraw_classifier: {redraw} draws the rows of old classes anew, but"
                f" algorithm {settings.algorithm} keeps them. Use never"
            )
        if method["alignment"] != "none" and settings.algorithm in COSINES:
            raise UserError(
                f"alignment: {method['alignment']} changes the lengths of rows or the biases, which"
                f" the classifier of algorithm {settings.algorithm} does not have. Use none"
            )
        if memory.is_none and facts(settings.algorithm).needs_memory:
            raise UserError(
                f"memory: algorithm {settings.algorithm} needs one, for instance memory: 2000"
            )
        if 0 < memory.total < self.n_classes:
            least = 2 * self.n_classes if settings.held_out else self.n_classes
            raise UserError(
                f"memory: {memory} exemplars are fewer than the {self.n_classes} classes. Use at"
                f" least {least}, or 0 for none."
            )
        if settings.held_out:
            if memory.is_none:
                raise UserError("held_out is a fraction of the exemplars, so it needs a memory")
            if 0 < memory.total < 2 * self.n_classes:
                raise UserError(
                    f"memory: {memory} exemplars are too few to hold some of each class out. Use at"
                    f" least {2 * self.n_classes}."
                )
            if memory.each == 1:
                raise UserError("memory: 1/class leaves none to hold out. Use at least 2/class.")
        if method["classifier"] == "nme" and memory.is_none:
            raise UserError(
                "classifier: nme is the nearest mean of exemplars, so it needs a memory"
            )
        if method["alignment"] == "bias" and not settings.held_out:
            raise UserError(
                "alignment: bias is fitted on held-out images, so it needs held_out, for instance"
                " 0.1"
            )
        if method["alignment"] == "bias" and not settings.bias:
            raise UserError("alignment: bias needs a classifier with biases (training.bias: true)")

    def all_settings(self) -> dict[str, Settings]:
        """All settings of the study, by their place in the config. The study's own come first."""
        later = {k: v for k, v in self.config["training"].items() if k != "base"}
        found = {"training": Settings(**later), "training.base": self.settings(None)}
        for name in self.config["methods"]:
            found[f"methods.{name}.training"] = self.settings(name)
            found[f"methods.{name}.training.base"] = self.settings(name, base=True)
        return found

    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels of the packed images. None if they are not known yet."""
        packed = self.parts[0].file
        if packed.exists():
            return tuple(read_dataset(packed)["image_shape"])
        side = cache_size_of(self.config["dataset"], self.config["cache_size"])
        if side:
            return side, side, 3
        if is_folder(self.config["path"]):
            return None
        return BUILT_IN_SHAPES.get(self.config["dataset"])

    def check_training(self) -> None:
        """Refuse settings of trainings that cannot be, before anything runs."""
        shape = self.image_shape()
        for where, settings in self.all_settings().items():
            try:
                settings.check()
                if shape:
                    check_images(settings.augmentation, *shape)
            except UserError as error:
                raise UserError(f"config: {where}.{error}") from None
            if settings.pretrained and not Path(settings.pretrained).is_file():
                raise UserError(f"config: {where}.pretrained: {settings.pretrained} does not exist")
            if self.named and settings.input == "timm":
                raise UserError(
                    f"config: {where}.input: timm reads the original files, and those of `tasks`"
                    " may be deleted. Use packed"
                )
            if self.config["validation"] and settings.input == "timm":
                raise UserError(
                    f"config: {where}.input: timm reads all original training files, those for"
                    " validation too. Use packed"
                )

    def check_tasks(self) -> None:
        """Refuse a task with too few images to train on, before anything runs."""
        processes = self.config["processes"] * self.config["nodes"]
        least = LEAST * processes
        for where, settings in self.all_settings().items():
            if settings.batch_size < least:
                raise UserError(
                    f"config: {where}.batch_size: {settings.batch_size} is too few for {processes}"
                    f" processes: each needs {LEAST} images. Use at least {least}."
                )
        kinds = {}  # what the numbers of images depend on -> one such method
        for name in self.config["methods"]:
            key = self.memory_of(name), self.settings(name).held_out
            kinds.setdefault(key, name)
        for order, protocol in product(self.orders, self.protocols):
            counts = self.counts[self.orders[order]]
            ends = np.cumsum(self.sizes(protocol)).tolist()
            for (memory, held_out), name in kinds.items():
                try:
                    numbers = task_images(counts, ends, memory, held_out)
                except UserError as error:
                    raise UserError(
                        f"config: methods.{name}.held_out: {error} (order {order}, base"
                        f" {protocol[0]}, increment {protocol[1]})"
                    ) from None
                for task, number in enumerate(numbers):
                    if number < least:
                        raise UserError(
                            f"config: methods.{name}: task {task} (order {order}, base"
                            f" {protocol[0]}, increment {protocol[1]}) has {number} images to train"
                            f" on, and {processes} processes need {least}. Use a larger increment,"
                            " a memory, or more images."
                        )

    def settings(self, method: str | None, base: bool = False) -> Settings:
        """The settings of a method's tasks, or with `base` of the task 0 that it starts from.

        Method None: the study's own task 0.
        """
        choices = (
            self.config["methods"][method] if method else {"training": self.config["training"]}
        )
        training = dict(choices["training"])
        more = training.pop("base")
        if method and not base:
            if choices["start"] != "scratch":
                more = training
            more = more | {name: choices[name] for name in METHOD_KEYS}
        elif method and facts(choices["algorithm"]).task_0 is not None:
            name = choices["algorithm"]
            more = more | {"algorithm": name, "options": of_task_0(name, choices["options"])}
        settings = Settings(**(training | more))
        return settings.of_task_0() if base or not method else settings

    def base_names(self) -> dict[str, str]:
        """For each method, the suffix of the folder of its task 0.

        "" if the method shares the study's task 0. Otherwise the settings that differ, in words.
        Equal settings have one name, whatever words each method has for them: the shortest, and of
        equally short ones the first in the alphabet. It depends on nothing but the study.
        """
        study = self.settings(None)
        wanted = {name: self.settings(name, base=True) for name in self.config["methods"]}
        names = {study: ""}
        for settings in dict.fromkeys(wanted.values()):
            words = [self.base_name(m) for m, theirs in wanted.items() if theirs == settings]
            names.setdefault(settings, min(words, key=lambda word: (len(word), word)))
        for name, text in sorted((names[wanted[m]], m) for m in wanted):
            if len(name) > LONGEST_NAME:
                raise UserError(
                    f"config: methods.{text}.training: its task 0 differs from the study's in too"
                    " many settings for the name of a folder. Make it a study of its own."
                )
        if len(set(names.values())) < len(names):
            raise UserError(
                "config: methods: two methods with different settings of task 0 would share the"
                f" folder of one. Its name is one of {sorted(names.values())}."
            )
        return {method: names[settings] for method, settings in wanted.items()}

    def base_name(self, method: str) -> str:
        """What a method's task 0 differs in from the study's, or from that of its own recipe."""
        start, suffix = self.settings(None), ""
        own = self.config["methods"][method]["recipe"]
        if own not in ("study", self.config["recipe"]):
            written = self.written.get("training", {})
            start = Settings(**merged([PUBLISHED[own]["training"], written])["base"]).of_task_0()
            suffix = f"-{own}"
        theirs = self.settings(method, base=True)
        names = [f.name for f in fields(Settings)]
        differing = [name for name in names if getattr(theirs, name) != getattr(start, name)]
        # A file's name may look like another setting, so it comes last.
        differing.sort(key=lambda name: name == "pretrained")
        own = set(differing) & {"algorithm", "options"}
        words = [spell(name, getattr(theirs, name)) for name in differing if name not in own]
        if own:
            words.insert(0, spell_algorithm(theirs))
        return suffix + "".join(f"-{word}" for word in words)

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

    def memory(self, task: Task) -> Memory:
        """The memory that a task trains on. The shared task 0 has none."""
        return self.memory_of(task.method)

    def algorithm(self, task: Task) -> tuple[str, tuple[str, ...]]:
        """The algorithm of a task's method, and its options as the settings hold them."""
        settings = self.settings(task.method)
        return settings.algorithm, settings.options

    def fits(self, task: Task) -> bool:
        """Whether the algorithm of a task's method fits a classifier to features."""
        return bool(facts(self.algorithm(task)[0]).classifier)

    def previous_in_run(self, task: Task) -> str | None:
        """The folder of the task before, in the folder of the run."""
        number = len(task.sizes) - 2
        return str(Path(task.path).with_name(f"task-{number}")) if number >= 0 else None

    def selection(self, task: Task) -> str:
        """How the exemplars of a task's method are chosen."""
        return self.config["methods"][task.method]["selection"]

    def alignment(self, task: Task) -> dict:
        """What is done to the classifier after a task: nothing after the shared task 0.

        The choices `alignment`, `gamma_norm`, `gamma_limit` and `classifier`.
        """
        keys = ALIGNING | {"classifier": METHOD["classifier"]}
        if not task.method:
            return {name: key.default for name, key in keys.items()}
        return {name: self.config["methods"][task.method][name] for name in keys}

    def own_classifier(self, method: str) -> str:
        """The classifier that figures and tables show for a method: `linear`, `nme`, `fitted`."""
        chosen = self.config["methods"][method]
        fits = facts(chosen["algorithm"]).classifier
        return "fitted" if fits and chosen["classifier"] == "linear" else chosen["classifier"]

    def order_option(self, order: str) -> str:
        """The --order of wa.data.scenario: a name that it knows, or the classes themselves."""
        explicit = order in self.config["class_orders"]
        return ",".join(map(str, self.orders[order])) if explicit else order

    def as_file(self) -> str:
        """The text of the config's copy beside the results: the keys that can change a result."""
        return dump({k: v for k, v in sorted(self.written.items()) if k not in RERUNS_NOTHING})

    def as_written(self) -> str:
        """What the config says of how it trains, in its own words, as JSON."""
        keys = ("orders", "seeds", "validation", "recipe", "training", "methods", "sweep")
        return json.dumps({key: self.written[key] for key in keys if key in self.written})

    def run_table(
        self,
        protocol: tuple[int, int | str] | None = None,
        within: str = "",
        names: list[str] | None = None,
    ) -> RunTable:
        """The runs of the study (of one protocol, of some methods), in the folder `within`.

        Only that of some methods, which figures and tables show, has the reference. Others do not
        compare methods, and a change of the reference shall not run them again.
        """
        every = self.config["methods"]
        methods = {name: every[name] for name in names or every}
        return RunTable(
            root=within + self.root,
            experiment=self.config["experiment"],
            orders=list(self.orders),
            seeds=self.config["seeds"],
            protocols=[protocol] if protocol else self.protocols,
            methods=list(methods),
            n_classes=self.n_classes,
            named=self.named,
            reference=(self.config["reference"] or "") if names else "",
            bases={name: self.bases[name] for name in methods if self.bases[name]},
            classifiers={
                name: own for name in methods if (own := self.own_classifier(name)) != "linear"
            },
            sweeps=self.config["sweep"],
        )
