"""Which images a task trains on, and which images it is tested on."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wa.data.batches import Images
from wa.data.packed import check_same_data, read_dataset, verify
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
    least = counts[:n_old].min()
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


class Task:
    """The images of a task.

    images: those of the new classes and of the memory.
    train: those of `images` that it trains on. held_out: bool, which of `images` it does not.
    test: the test images of all classes seen so far.
    originals: with `input: timm`, the image files that it trains on. Otherwise None.

    Raises UserError if the data, the order and the ranking do not fit together.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.dataset = read_dataset(args.data / layout.DATASET)
        self.order = read_order(args.order, self.dataset["classes"])
        verify(args.data, self.dataset)
        self.sizes = args.tasks
        self.n_seen = sum(self.sizes)
        self.n_old = self.n_seen - self.sizes[-1]

        label = self.labels(args.data, "train")
        index = np.flatnonzero(self.wanted(args, label))
        self.images = self.train = Images(args.data, "train", index, label[index], device)
        self.held_out = np.zeros(len(index), bool)
        if args.held_out and self.n_old:
            draw = key(args.seed, len(self.sizes), HOLD_OUT)
            self.held_out = hold_out(index, label[index], self.n_old, args.held_out, draw)
            train = index[~self.held_out]
            self.train = Images(args.data, "train", train, label[train], device)

        label = self.labels(args.data, "test")
        test = np.flatnonzero(label < self.n_seen)
        self.test = Images(args.data, "test", test, label[test], device)

        self.originals = None
        if args.input == "timm":
            from wa.data.timm_input import Originals

            self.originals = Originals(self.dataset, args.path, args.augmentation)

    def labels(self, data: Path, split: str) -> np.ndarray:
        """The position in the class order of each image of a split: int64 (n,)."""
        position = np.argsort(self.order["order"])  # class -> position
        return position[np.load(data / f"{split}_labels.npy", allow_pickle=False)]

    def wanted(self, args: argparse.Namespace, label: np.ndarray) -> np.ndarray:
        """Which training images are of the new classes or in the memory: bool (n,)."""
        if args.memory.is_all:
            return label < self.n_seen
        wanted = (label >= self.n_old) & (label < self.n_seen)
        if self.n_old and args.memory.keeps:
            herding = self.ranking(args)
            wanted[exemplars(herding, args.memory.per_class(self.n_old))] = True
        return wanted

    def ranking(self, args: argparse.Namespace) -> dict[str, np.ndarray]:
        """The ranking of the images of the old classes, see read_ranking."""
        if not args.ranking:
            raise UserError(
                "--memory needs --ranking, the ranking of the images of the earlier tasks"
            )
        herding = read_ranking(args.ranking)
        check_same_data(args.ranking, read_arrays_header(args.ranking), self.dataset, args.data)
        n_ranked = len(herding["counts"])
        if n_ranked != self.n_old:
            raise UserError(
                f"{args.ranking} ranks {n_ranked} classes, but there are {self.n_old} old classes"
            )
        return herding
