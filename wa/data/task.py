"""Which images a task trains on, and which images it is tested on."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wa.data.batches import Images
from wa.data.exemplars import read_memory, removed
from wa.data.memory import Memory
from wa.data.packed import check_same_data, read_dataset, read_parts, verify
from wa.data.scenario import read_order
from wa.errors import UserError
from wa.files import read_arrays_header
from wa.methods.selection import exemplars, read_ranking
from wa.randomness import HOLD_OUT, key, uniform
from wa.study import layout


def hold_out(
    index: np.ndarray, label: np.ndarray, n_old: int, fraction: float, draw: Tensor
) -> np.ndarray:
    """Which images to keep from a training, so that a bias can be fitted on them: bool (n,).

    They are equally many of each class: a fraction of the exemplars of an old class, but at least
    one (Wu et al., BiC, CVPR 2019). A number that depends on (draw, image) alone chooses them.

    index, label: int64 (n,). draw: a key. Raises UserError if an old class has too few exemplars.
    """
    counts = np.bincount(label)
    old = counts[:n_old][counts[:n_old] > 0]  # `wa forget` may have removed a class
    least = old.min(initial=counts.max())
    if least < 2:
        raise UserError(
            "held_out needs a memory of at least 2 exemplars for each class: one to train on, and"
            " one to hold out"
        )
    per_class = max(1, int(fraction * least))
    chosen = np.zeros(len(index), bool)
    number = uniform(draw, torch.from_numpy(index), 1).flatten().numpy()
    for c in range(len(counts)):
        rows = np.flatnonzero(label == c)
        first = number[rows].argsort(kind="stable")[:per_class]
        chosen[rows[first]] = True
    return chosen


def packed(folder: Path, split: str, what: str) -> np.ndarray:
    """The images of a split, mapped into memory, or its labels."""
    mode = "r" if what == "images" else None
    return np.load(folder / f"{split}_{what}.npy", mmap_mode=mode, allow_pickle=False)


def none(dataset: dict, args: argparse.Namespace) -> None:
    """No image files: the packed images are trained on."""


def originals(dataset: dict, args: argparse.Namespace):
    from wa.data.timm_input import Originals  # imports timm, which is slow

    return Originals(dataset, args.path, args.augmentation)


ORIGINALS = {"packed": none, "timm": originals}  # of each choice of `input`


class Task:
    """The images of a task.

    images: those of the new classes and of the memory.
    train: those of `images` that it trains on. held_out: bool, which of `images` it does not.
    test: the test images of all classes seen so far, as far as they exist.
    names: of all classes, in the order of learning.
    memory: how many exemplars there are of old classes.
    removed: the classes whose exemplars were removed from the memory.
    originals: with `input: timm`, the image files that it trains on. Otherwise None.

    Raises UserError if the data, the order and the memory do not fit together.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.sizes, self.memory, self.device = args.tasks, Memory.parse(args.memory), device
        self.n_seen = sum(self.sizes)
        self.n_old = self.n_seen - self.sizes[-1]
        self.removed = removed(args.exemplars) if args.exemplars else []
        if args.order:
            self.read_benchmark(args)
        else:
            self.read_growing(args)

        self.held_out = np.zeros(len(self.images), bool)
        self.train = self.images
        if args.held_out and self.n_old:
            index, label = self.images.index.cpu().numpy(), self.images.label.cpu().numpy()
            draw = key(args.seed, len(self.sizes), HOLD_OUT)
            self.held_out = hold_out(index, label, self.n_old, args.held_out, draw)
            self.train = self.images.part(~self.held_out)

        self.originals = ORIGINALS[args.input](self.dataset, args)

    # A benchmark: all classes are packed in one folder, and a class order says when each comes.

    def read_benchmark(self, args: argparse.Namespace) -> None:
        folder = args.data[0]
        self.dataset = read_dataset(folder / layout.DATASET)
        order = read_order(args.order, self.dataset["classes"])
        self.names = order["names"]
        verify(folder, self.dataset)
        position = np.argsort(order["order"])  # class -> position
        label = position[packed(folder, "train", "labels")]
        index = np.flatnonzero(self.wanted(args, label))
        self.images = self.images_of([packed(folder, "train", "images")], index, label[index])
        label = position[packed(folder, "test", "labels")]
        index = np.flatnonzero(label < self.n_seen)
        self.test = self.images_of([packed(folder, "test", "images")], index, label[index])

    def images_of(self, arrays: list[np.ndarray], index: np.ndarray, label: np.ndarray) -> Images:
        """Images whose numbers in the data set are their rows in the arrays."""
        return Images(arrays, index, index, label, self.device)

    def wanted(self, args: argparse.Namespace, label: np.ndarray) -> np.ndarray:
        """Which training images are of the new classes or in the memory: bool (n,)."""
        if self.memory.is_all:
            return label < self.n_seen
        wanted = (label >= self.n_old) & (label < self.n_seen)
        if self.n_old and self.memory.keeps:
            herding = self.ranking(args)
            wanted[exemplars(herding, self.memory.per_class(self.n_old))] = True
        return wanted

    def ranking(self, args: argparse.Namespace) -> dict[str, np.ndarray]:
        """The ranking of the images of the old classes, see read_ranking."""
        if not args.ranking:
            raise UserError(
                "--memory needs --ranking, the ranking of the images of the earlier tasks"
            )
        herding = read_ranking(args.ranking)
        header = read_arrays_header(args.ranking)
        check_same_data(args.ranking, header, self.dataset, args.data[0])
        n_ranked = len(herding["counts"])
        if n_ranked != self.n_old:
            raise UserError(
                f"{args.ranking} ranks {n_ranked} classes, but there are {self.n_old} old classes"
            )
        return herding

    # Tasks by name: each task is packed in a folder of its own, in the order in which they came.

    def read_growing(self, args: argparse.Namespace) -> None:
        self.dataset = read_parts([folder / layout.DATASET for folder in args.data])
        parts = self.dataset["parts"]
        self.names = self.dataset["classes"]
        if [len(part["classes"]) for part in parts] != self.sizes:
            raise UserError(
                f"--tasks {self.sizes}: --data names folders with"
                f" {[len(part['classes']) for part in parts]} classes"
            )
        places = list(zip(args.data, parts, strict=True))
        for place in places if self.memory.is_all else places[-1:]:
            verify(*place, ["train"])
        if self.memory.is_all:
            self.images = self.joined(places, "train")
        else:
            self.images = self.with_memory(args)
        for folder, part in places:
            if (folder / "test_images.npy").exists():
                verify(folder, part, ["test"])
        self.test = self.joined(places, "test")

    def joined(self, places: list[tuple[Path, dict]], split: str) -> Images:
        """The images of a split of several parts, as far as they exist.

        places: the folder and the dataset.json of each part.
        """
        arrays, indices, labels, first, classes = [], [], [], 0, 0
        for folder, part in places:
            if (folder / f"{split}_images.npy").exists():
                arrays.append(packed(folder, split, "images"))
                labels.append(packed(folder, split, "labels") + classes)
                indices.append(np.arange(len(arrays[-1])) + first)
            first += sum(part[f"{split}_counts"])
            classes += len(part["classes"])
        if not arrays:
            raise UserError(f"{places[-1][0]} holds no {split}_images.npy")
        index, label = np.concatenate(indices), np.concatenate(labels)
        return Images(arrays, np.arange(len(index)), index, label, self.device)

    def with_memory(self, args: argparse.Namespace) -> Images:
        """The training images of the new classes, after those of the memory."""
        folder, parts = args.data[-1], self.dataset["parts"]
        arrays = [packed(folder, "train", "images")]
        index = np.arange(len(arrays[0])) + sum(sum(part["train_counts"]) for part in parts[:-1])
        label = packed(folder, "train", "labels") + self.n_old
        if self.n_old and self.memory.keeps:
            if not args.exemplars:
                raise UserError("--memory needs --exemplars, the memory.npz of the task before")
            memory, header = read_memory(args.exemplars), read_arrays_header(args.exemplars)
            check_same_data(args.exemplars, header, self.dataset, folder)
            arrays = [memory["images"], *arrays]
            index = np.concatenate([memory["index"], index])
            label = np.concatenate([memory["label"], label])
        return Images(arrays, np.arange(len(index)), index, label, self.device)
