"""The images of a task: which ones it trains on and is tested on, and the images themselves.

On a CPU the packed array is mapped into memory and batches are gathered from it. On a GPU a task's images lie in its memory,
as bytes; those that would take more than half of what is free there are streamed: while the GPU computes, a thread gathers the
next batches from the mapped file into pinned memory.
"""

import argparse
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wa.files import UserError, damaged, sha256
from wa.herding import exemplars, read_ranking
from wa.randomness import HOLD_OUT, key, uniform
from wa.scenario import memory_per_class, read_dataset, read_order

AHEAD = 3  # batches that are gathered while the GPU computes
HASHED = 2**31  # bytes; of larger arrays only the shape is verified (and all by `wa show`): to hash them costs minutes a task


def verify(folder: Path, facts: dict) -> None:
    """Raise a UserError unless the packed arrays are those that dataset.json describes."""
    for split in ("train", "test"):
        lengths = set()
        for name, dtype, shape in (("images", np.uint8, facts["image_shape"]), ("labels", np.int64, [])):
            file = folder / f"{split}_{name}.npy"
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except (ValueError, OverflowError, TypeError) as error:
                raise damaged(file, error) from None
            lengths.add(len(array) if array.ndim else 0)
            if array.dtype != dtype or list(array.shape[1:]) != shape or len(lengths) > 1 or 0 in lengths:
                raise damaged(file, "it does not hold what dataset.json says")
            if file.stat().st_size < HASHED and sha256(file) != facts.get(f"{split}_{name}_sha256"):
                raise damaged(file, "its SHA-256 is not that in dataset.json")
        if array.min() < 0 or array.max() >= len(facts["classes"]):
            raise damaged(file, "it holds classes that dataset.json lacks")


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes of images may lie in the device's memory: half of what is free, for training needs some, too."""
    return size <= torch.cuda.mem_get_info(device)[0] / 2


class Images:
    """Some images of a packed data set: uint8 in channels-last memory, and on the device their labels as class positions."""

    def __init__(self, folder: Path, split: str, index: np.ndarray, label: np.ndarray, device: torch.device):
        packed = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        self.device = device
        self.index = torch.from_numpy(index).to(device)
        self.label = torch.from_numpy(label).to(device)
        self.mapped = device.type == "cpu" or not fits(packed[:1].nbytes * len(index), device)
        self.streamed = self.mapped and device.type != "cpu"
        with warnings.catch_warnings(action="ignore"):  # torch has no tensors that are read only, and says so
            self.pixels = torch.from_numpy(packed if self.mapped else packed[index]).to("cpu" if self.mapped else device)

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor) -> Tensor:
        """uint8 (B, C, H, W), channels last, of rows on the device; not of streamed images."""
        where = self.index[rows] if self.mapped else rows
        return self.pixels.index_select(0, where).permute(0, 3, 1, 2)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """As `batch`, of each of some batches of rows, which are on the CPU, whether images are streamed or not."""
        yield from self.stream(rows) if self.streamed else (self.batch(some.to(self.device)) for some in rows)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        index = self.index.cpu()

        def gather(rows: Tensor) -> Tensor:
            pinned = torch.empty(len(rows), *self.pixels.shape[1:], dtype=torch.uint8, pin_memory=self.device.type == "cuda")
            return torch.index_select(self.pixels, 0, index[rows], out=pinned)

        waiting: deque = deque()
        with ThreadPoolExecutor(1) as thread:
            for rows in [*batches, *[None] * AHEAD]:
                if rows is not None:
                    waiting.append(thread.submit(gather, rows))
                if waiting and (rows is None or len(waiting) > AHEAD):
                    yield waiting.popleft().result().to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def hold_out(index: np.ndarray, label: np.ndarray, n_old: int, fraction: float, draw: Tensor) -> np.ndarray:
    """Which images to keep from a training, so that a bias can be fitted on them: bool (n,).

    index, label: int64 (n,); draw: a key. A fraction of an old class's exemplars, at least one, and as many of every class,
    old and new (Wu et al., BiC, CVPR 2019), chosen by a number that depends on (draw, image) alone.
    """
    counts = np.bincount(label)
    if counts[:n_old].min() < 2:
        raise UserError("held_out needs a memory of at least 2 exemplars a class: one to train on, one to hold out")
    chosen = np.zeros(len(index), bool)
    number = uniform(draw, torch.from_numpy(index), 1).flatten().numpy()
    for c in range(len(counts)):
        rows = np.flatnonzero(label == c)
        chosen[rows[number[rows].argsort(kind="stable")[: max(1, int(fraction * counts[:n_old].min()))]]] = True
    return chosen


class Task:
    """The images of a task: `images`, those of the new classes and the memory, of which it trains on `train`, and `test`."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.facts = read_dataset(args.data / "dataset.json")
        self.order = read_order(args.order, self.facts["classes"])
        verify(args.data, self.facts)
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
            herding = read_ranking(args.herding)
            if len(herding["counts"]) != self.n_old:
                raise UserError(f"{args.herding} ranks {len(herding['counts'])} classes, but there are {self.n_old} old ones")
            if herding["ranking"].max() >= len(wanted):
                raise UserError(f"{args.herding} ranks images that {args.data} lacks")
            wanted[exemplars(herding, memory_per_class(args.memory, self.n_old))] = True
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
            from wa.originals import Originals

            self.originals = Originals(self.facts, args.path, args.augmentation)
