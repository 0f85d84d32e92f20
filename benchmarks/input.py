"""How fast our input path is against timm's transforms in DataLoader workers.

    .venv/bin/python benchmarks/input.py --data tiny-imagenet-20.tar

The tar's .JPEG files are enlarged to 375 x 500 pixels, as large as ImageNet's. timm's side decodes
them and applies its create_transform, in as many workers as there are cores. Ours reads the squares
of 256 pixels that wa.data.datasets packed (benchmarks/prepare.py measures packing). It augments its
share of each batch in as many processes of one thread. On a GPU, ours runs there in one process.
Both make the same crops of 224 pixels, flips and --policy, and end with float32. --policy is a
RandAugment of timm, `jitter` for its colour jitter of 0.4, or none. The two take turns. Wall time
means something if the cores are idle. Processor time is that of one process that does all the work.
"""

import argparse
import os

os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # as in wa.training.train; for both sides

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from prepare import files_of
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset

from wa.data.augment import Augment, normalize
from wa.data.batches import Images
from wa.data.images import read_image
from wa.data.packing import pack
from wa.randomness import key

MEAN, STD, SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224


class Files(Dataset):
    def __init__(self, files: list[str], transform):
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[i]).convert("RGB"))


def timm_epoch(files: list[str], policy: str, batch: int, workers: int):
    transform = create_transform(
        SIZE,
        is_training=True,
        interpolation="bilinear",
        auto_augment=policy if policy.startswith("rand") else None,
        color_jitter=0.4 if policy == "jitter" else None,
        mean=MEAN,
        std=STD,
    )
    loader = DataLoader(
        Files(files, transform),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: sum(len(x) for x in loader)


def our_epoch(
    folder: Path,
    count: int,
    policy: str,
    batch: int,
    device: torch.device,
    rank: int = 0,
    processes: int = 1,
):
    own = {"none": [], "jitter": ["jitter-0.4-0.4-0.4"]}.get(policy, [policy])
    packed, every = np.load(folder / "train_images.npy", mmap_mode="r"), np.arange(count)
    images = Images([packed], every, every, np.zeros(count, int), device)
    augment = Augment([f"resized-crop-{SIZE}", "flip", *own])
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)

    def epoch() -> int:
        done = 0
        rows = torch.randperm(count).split(batch)
        rows = [some.tensor_split(processes)[rank] for some in rows]
        for some, pixels in zip(rows, images.batches(rows), strict=True):
            x = augment(pixels, key(0), some).contiguous(memory_format=torch.channels_last)
            done += len(normalize(x, mean, std))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return done

    return epoch


def work(connection, rank: int, processes: int, *args) -> None:
    """A process that does its share of an epoch whenever it is told to."""
    torch.set_num_threads(1)
    epoch = our_epoch(*args, rank, processes)
    with contextlib.suppress(EOFError):  # of the pipe, when the other end is gone
        while connection.recv():
            connection.send(epoch())


def in_processes(processes: int, *args):
    context, pipes = multiprocessing.get_context("spawn"), []
    for rank in range(processes):
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(theirs, rank, processes, *args), daemon=True).start()
        pipes.append(ours)

    def epoch() -> int:
        for pipe in pipes:
            pipe.send(True)
        return sum(pipe.recv() for pipe in pipes)

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="TAR", required=True, help="a tar with .JPEG files")
    parser.add_argument(
        "--policy",
        default="none",
        help="none (default), jitter, or a RandAugment such as rand-m9-mstd0.5-inc1",
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    cores = len(os.sched_getaffinity(0))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        files = files_of(options.data, options.images, 375, Path(folder))
        pack(
            files,
            Path(folder, "train_images.npy"),
            (256, 256, 3),
            partial(read_image, channels=3, square=256),
            "",
            cores,
        )
        ours = (Path(folder), len(files), options.policy, options.batch, device)
        processes = cores if device.type == "cpu" else 1
        sides = {
            f"timm, {cores} workers": timm_epoch(files, options.policy, options.batch, cores),
            f"wa on {device.type}, {processes} processes": in_processes(processes, *ours)
            if processes > 1
            else our_epoch(*ours),
        }
        wall: dict[str, list[float]] = {name: [] for name in sides}
        for round_ in range(options.rounds + 1):
            for name, epoch in sides.items():
                started = time.perf_counter()
                assert epoch() == len(files)
                if round_:  # the first round warms up
                    wall[name].append(time.perf_counter() - started)
        cpu = cpu_of(files, options, device, Path(folder))
    print(f"{'images/s':24}{'min':>10}{'median':>10}{'max':>10}{'CPU ms an image':>20}")
    for (name, seconds), ms in zip(wall.items(), cpu, strict=True):
        speeds = sorted(len(files) / s for s in seconds)
        print(
            f"{name:24}{speeds[0]:10.0f}{statistics.median(speeds):10.0f}{speeds[-1]:10.0f}"
            f"{ms:20.2f}"
        )
    print(f"processor time: {cpu[0] / cpu[1]:.1f} times less")
    theirs, ours = (statistics.median(seconds) for seconds in wall.values())
    print(f"speedup: {theirs / ours:.2f}")


def cpu_of(
    files: list[str], options: argparse.Namespace, device: torch.device, folder: Path
) -> list[float]:
    """Milliseconds of processor time for each image, in this process alone.

    The time of a worker is known only when it ends.
    """
    torch.set_num_threads(1)
    some = files[: 4 * options.batch]
    times = []
    for epoch in (
        timm_epoch(some, options.policy, options.batch, 0),
        our_epoch(folder, len(some), options.policy, options.batch, device),
    ):
        best = float("inf")
        for _ in range(options.rounds):
            started = time.process_time()
            epoch()
            best = min(best, time.process_time() - started)
        times.append(1000 * best / len(some))
    return times


if __name__ == "__main__":
    main()
