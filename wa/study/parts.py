"""The packed data of a study: one part for a benchmark, and one for each task by name.

A benchmark is packed once, into results/data/DATASET, and studies share it. A study of tasks by
name packs each task by itself, into results/STUDY/data/task-1. After the task is learned, its
images may be deleted.
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from wa.checkpoint import read_header
from wa.data.datasets import survey
from wa.data.folders import (
    choose,
    class_folders,
    few,
    fingerprints,
    is_folder,
    listing,
    splits,
)
from wa.data.packed import read_dataset
from wa.data.validation import held_back
from wa.errors import UserError
from wa.study import layout
from wa.study.config_file import read_config


class Part(NamedTuple):
    """Some packed data."""

    folder: str
    task: int | None  # None: all tasks of a benchmark
    dataset: str
    path: str  # of the raw data
    classes: tuple[str, ...]  # in this order. Empty: all of the raw data
    cache_size: int | None
    validation: float = 0  # the share of the training images that takes the place of the test ones

    @property
    def file(self) -> Path:
        """Its dataset.json."""
        return Path(self.folder, layout.DATASET)

    @property
    def images(self) -> bool:
        """Whether its training images are there."""
        return Path(self.folder, layout.ARRAYS[0]).exists()

    def options(self) -> str:
        """The options of wa.data.datasets that differ from the defaults."""
        options = [f"--cache-size={self.cache_size}"] if self.cache_size else []
        if self.classes:
            options += [f"--classes={json.dumps(self.classes)}"]
        if self.task:
            options += [f"--like={Path(self.folder).with_name('task-0')}/{layout.DATASET}"]
        if self.validation:
            options += [f"--validation={self.validation}"]
        return shlex.join(options)

    def survey(self) -> list[int]:
        """The number of images of each class to train on. Raises UserError if a class has none."""
        if self.file.exists():
            return read_dataset(self.file)["train_counts"]
        try:
            counts = survey(self.dataset, self.path, list(self.classes))
            return self.without_validation(counts) if self.validation else counts
        except UserError as error:
            if self.task is None:
                raise
            raise UserError(f"config: tasks.{self.task}: {error}") from None

    def names(self) -> list[str] | None:
        """The names of its classes. None if only packing will tell them."""
        if self.file.exists():
            return read_dataset(self.file)["classes"]
        if self.task is not None:
            return list(self.classes)
        if not is_folder(self.path):
            return None
        have = class_folders(splits(self.path)[0])
        return choose(self.dataset, self.path, have, list(self.classes))

    def without_validation(self, counts: list[int]) -> list[int]:
        """The training images of each class that are not for validation. Raises UserError."""
        left = []
        for number, images in enumerate(counts):
            try:
                left.append(images - held_back(images, self.validation))
            except UserError as error:
                raise UserError(
                    f"config: validation: class number {number} of {self.dataset}: {error}."
                    " Add images, or leave the class out"
                ) from None
        return left

    def changes(self) -> str:
        """What the folder of raw images holds, if it is not what was packed: in words, or "".

        The folder may have moved, and it may be gone. Of a task by name, the folders of some
        classes may be gone.
        """
        if not is_folder(self.path):
            return ""
        packed = read_dataset(self.file).get("files", "")
        if packed is None:  # it was no folder of images
            return "other images"
        if not isinstance(packed, dict):  # of an earlier version, so it is packed again anyway
            return ""
        try:
            wanted = self.classes
            if self.task is not None:
                folders = splits(self.path)
                wanted = [name for name in packed if all((f / name).is_dir() for f in folders)]
                if not wanted:
                    return ""
            found = fingerprints(*listing(self.dataset, self.path, list(wanted)), len(packed))
        except UserError:
            return "other images"
        differing = [name for name in found if found[name] != packed.get(name)]
        if self.task is None:
            differing += [name for name in packed if name not in found]
        some = ", ".join(differing[:5]) + ", ..." * (len(differing) > 5)
        return f"other images of {some}" if differing else ""


def difference(task: int, learned: list[str], said: list[str] | None) -> str:
    """How the classes of a task in the config differ from those that it learned, in words."""
    if said is None:
        return f"task {task} was trained on {', '.join(learned)}, but the config lacks this task"
    gone = [name for name in learned if name not in said]
    new = [name for name in said if name not in learned]
    if not gone and not new:
        return f"task {task} was trained on the same classes in the order {', '.join(learned)}"
    parts = [f"the config lacks {', '.join(gone)}"] * bool(gone)
    parts += [f"the config adds {', '.join(new)}"] * bool(new)
    return f"task {task} was trained on other classes: {' and '.join(parts)}"


def check_learned(root: str, tasks: list[list[str]], cache_size: int | None) -> int:
    """The number of tasks that a study of tasks by name has learned.

    Raises UserError if its config says something else about a task that was learned than the
    checkpoint: the list of tasks only grows.
    """
    learned = 0
    files = Path(root, f"order-{layout.NAMED}").glob(f"**/{layout.TRAINED}")
    for file in sorted(files, key=lambda file: (len(file.parts), file)):  # task 0 first
        header = read_header(file)
        start = 0
        for number, size in enumerate(header["task_sizes"]):
            names = header["classes"][start : start + size]
            start += size
            said = tasks[number] if number < len(tasks) else None
            if names != said:
                raise UserError(
                    f"config: tasks.{number}: {difference(number, names, said)} ({file}). The list"
                    " of tasks only grows. Put the line back as it was, or give the study another"
                    " name (`experiment`)"
                )
        if header.get("cache_size") != cache_size:
            raise UserError(
                f"config: cache_size: task 0 was trained on images of cache_size"
                f" {header.get('cache_size')} ({file}), but the config says {cache_size}. It is"
                " task 0's for good. Put it back, or give the study another name (`experiment`)"
            )
        learned = max(learned, len(header["task_sizes"]))
    return learned


def of_other_data(root: str, parts: list[Part]) -> str:
    """What to do if the folder of a study has trainings of another data set, in one line, or "".

    Their class names tell it, so data that were only renamed or packed anew are not other data.
    Before the class names of the config's data set are known, the copy of the config beside the
    trainings tells it.
    """
    known = [part.names() for part in parts]
    names = None if None in known else {name for each in known for name in each}
    dataset = dataset_of_copy(root)
    for file in sorted(Path(root).glob(f"order-*/seed-*/base-*/{layout.TRAINED}")):
        try:
            learned = read_header(file).get("classes", [])
        except (OSError, UserError):
            continue  # it is made anew, or an error of its own
        same_data = dataset in ("", parts[0].dataset)
        if same_data if names is None else names.issuperset(learned):
            continue
        was = "" if same_data else f" of dataset {dataset}"
        now = f" ({few(names)})" if names else ""
        return (
            f"{root} has models{was} (classes {few(learned)}), but the config says dataset"
            f" {parts[0].dataset}{now}. Give this study another name (`experiment`), or delete"
            f" {root}"
        )
    return ""


def dataset_of_copy(root: str) -> str:
    """The dataset in the copy of the config that lies in the folder of a study, or ""."""
    try:
        return str(read_config(Path(root, layout.CONFIG)).get("dataset", ""))
    except (OSError, UserError):
        return ""
