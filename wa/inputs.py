"""The images of a task: which ones it trains on and is tested on, and the images themselves, on the device."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wa.files import UserError, read_arrays, read_json
from wa.herding import exemplars
from wa.scenario import memory_per_class


class Images:
    """Some images of a packed data set, on the device: uint8 in channels-last memory, and their labels as class positions."""

    def __init__(self, folder: Path, split: str, index: np.ndarray, label: np.ndarray, device: torch.device):
        packed = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        self.index = torch.from_numpy(index).to(device)
        self.pixels = torch.from_numpy(packed[index]).to(device)
        self.label = torch.from_numpy(label).to(device)

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor) -> Tensor:
        """uint8 (B, C, H, W), channels last."""
        return self.pixels.index_select(0, rows).permute(0, 3, 1, 2)


class Task:
    """The images that a task trains and is tested on."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.facts = read_json(args.data / "dataset.json")
        self.order = read_json(args.order)
        self.sizes = args.tasks
        if min(self.sizes) < 1 or sum(self.sizes) > len(self.order["order"]):
            raise UserError(f"--tasks {self.sizes}: these are not tasks of {len(self.order['order'])} classes")
        self.n_seen = sum(self.sizes)
        self.n_old = self.n_seen - self.sizes[-1]

        position = np.argsort(self.order["order"])  # class -> position
        label = {s: position[np.load(args.data / f"{s}_labels.npy", allow_pickle=False)] for s in ("train", "test")}
        wanted = (label["train"] >= self.n_old) & (label["train"] < self.n_seen)
        if args.memory == "all":
            wanted = label["train"] < self.n_seen
        elif self.n_old and args.memory != "0":
            if not args.herding:
                raise UserError("--memory needs --herding, the ranking of the images of the earlier tasks")
            herding = read_arrays(args.herding)
            if len(herding["counts"]) != self.n_old:
                raise UserError(f"{args.herding} ranks {len(herding['counts'])} classes, but there are {self.n_old} old ones")
            wanted[exemplars(herding, memory_per_class(int(args.memory), self.n_old))] = True
        train, test = np.flatnonzero(wanted), np.flatnonzero(label["test"] < self.n_seen)
        self.train = Images(args.data, "train", train, label["train"][train], device)
        self.test = Images(args.data, "test", test, label["test"][test], device)
