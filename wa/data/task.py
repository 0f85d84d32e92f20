"""The images of a task: which ones it trains on, and which ones it is tested on."""

import argparse

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

    index, label: int64 (n,); draw: a key. A fraction of an old class's exemplars, at least one, and as many of every class,
    old and new (Wu et al., BiC, CVPR 2019), chosen by a number that depends on (draw, image) alone.
    """
    counts = np.bincount(label)
    if counts[:n_old].min() < 2:
        raise UserError(
            "held_out needs a memory of at least 2 exemplars a class: one to train on, one to hold out"
        )
    chosen = np.zeros(len(index), bool)
    number = uniform(draw, torch.from_numpy(index), 1).flatten().numpy()
    for c in range(len(counts)):
        rows = np.flatnonzero(label == c)
        chosen[
            rows[
                number[rows].argsort(kind="stable")[: max(1, int(fraction * counts[:n_old].min()))]
            ]
        ] = True
    return chosen


class Task:
    """The images of a task: `images`, those of the new classes and the memory, of which it trains on `train`, and `test`."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.dataset = read_dataset(args.data / layout.DATASET)
        self.order = read_order(args.order, self.dataset["classes"])
        verify(args.data, self.dataset)
        self.sizes = args.tasks
        self.n_seen = sum(self.sizes)
        self.n_old = self.n_seen - self.sizes[-1]

        position = np.argsort(self.order["order"])  # class -> position
        label = {
            s: position[np.load(args.data / f"{s}_labels.npy", allow_pickle=False)]
            for s in ("train", "test")
        }
        wanted = (label["train"] >= self.n_old) & (label["train"] < self.n_seen)
        if args.memory.is_all:
            wanted = label["train"] < self.n_seen
        elif self.n_old and args.memory.keeps:
            if not args.ranking:
                raise UserError(
                    "--memory needs --ranking, the ranking of the images of the earlier tasks"
                )
            herding = read_ranking(args.ranking)
            header = read_arrays_header(args.ranking)
            check_same_data(args.ranking, header, self.dataset, args.data)
            if len(herding["counts"]) != self.n_old:
                raise UserError(
                    f"{args.ranking} ranks {len(herding['counts'])} classes, but there are {self.n_old} old ones"
                )
            wanted[exemplars(herding, args.memory.per_class(self.n_old))] = True
        index, test = np.flatnonzero(wanted), np.flatnonzero(label["test"] < self.n_seen)
        self.images = self.train = Images(args.data, "train", index, label["train"][index], device)
        self.held_out = np.zeros(len(index), bool)
        if args.held_out and self.n_old:
            draw = key(args.seed, len(self.sizes), HOLD_OUT)
            self.held_out = hold_out(index, label["train"][index], self.n_old, args.held_out, draw)
            train = index[~self.held_out]
            self.train = Images(args.data, "train", train, label["train"][train], device)
        self.test = Images(args.data, "test", test, label["test"][test], device)
        self.originals = None  # where the images are trained on that `train` names
        if args.input == "timm":
            from wa.data.timm_input import Originals

            self.originals = Originals(self.dataset, args.path, args.augmentation)
