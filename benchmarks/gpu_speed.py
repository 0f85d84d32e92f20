"""How fast a GPU trains, and how many trainings should share it.

    .venv/bin/python benchmarks/gpu_speed.py

First, steps of a training with a teacher: a ResNet-32 at 32 pixels, and a ResNet-18 at 224 pixels
that are cut from 256. Each is timed with crops and flips alone and with RandAugment too, recorded
as a CUDA graph and not. A row has images/s, the milliseconds of a batch of 128, and the memory at
the peak. Augmentation is part of the time.

Then 1, 2, 4 and 8 trainings of the ResNet-32 at once on the GPU, and their images/s together. The
number from which they gain little is the one for `runs_per_gpu`.

On a machine without a GPU it runs on the CPU, which only shows that this program works. --epochs 1
--images 512 makes that short.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from train_step import BATCH, NEW, OLD, load, pack, trainer_of

PLAIN = {32: ["crop-4", "flip"], 256: ["resized-crop-224", "flip"]}
RANDOM = ["rand-m9-mstd0.5-inc1"]
# (backbone, pixels of the packed images, pixels of what the network takes)
NETWORKS = [("resnet32", 32, 32), ("torchvision/resnet18", 256, 224)]
# The images of the six trainings of CIFAR-100 with base 50, increment 10 and 170 epochs.
SIX = 170 * (25_000 + 5 * 7_000)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def made_up(folder: Path, backbone: str, side: int, inside: int, count: int) -> None:
    """Write a packed data set of `count` images, and a teacher's checkpoint, to a new folder."""
    folder.mkdir()
    if side == 32:
        images, labels = load(None, count)
    else:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        labels = np.arange(count) % (OLD + NEW)
    pack(folder, images, labels, backbone, (inside, inside))


def time_steps(folder: Path, settings: list[str], epochs: int) -> str:
    """Train for some epochs after two that do not count. Returns images/s, ms and memory."""
    trainer = trainer_of(folder, *settings)
    for epoch in range(2):
        trainer.epoch(epoch)
    synchronize()
    started = time.perf_counter()
    for epoch in range(2, 2 + epochs):
        trainer.epoch(epoch)
    synchronize()
    rate = epochs * len(trainer.task.train) / (time.perf_counter() - started)
    memory = ""
    if torch.cuda.is_available():
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:6.2f} GiB"
        torch.cuda.reset_peak_memory_stats()
    return f"{rate:9.0f} images/s {BATCH / rate * 1e3:8.2f} ms {memory}"


def train_at_once(folder: Path, settings: list[str], number: int) -> float:
    """Run some trainings side by side. Returns the images/s of all together in their last epochs.

    The lines of their logs have the images/s of each epoch.
    """
    files = [
        "--data",
        folder,
        "--order",
        folder / "order.json",
        "--model",
        folder / "model.safetensors",
    ]
    command = [sys.executable, "-m", "wa.training.train", *files, "--tasks", OLD, NEW]
    command += ["--memory", "all", *settings, "--output"]
    runs = [
        subprocess.Popen(
            [*map(str, command), folder / f"{number}-{i}"], stdout=subprocess.PIPE, text=True
        )
        for i in range(number)
    ]
    last = []
    for run in runs:
        lines = [line for line in run.communicate()[0].splitlines() if line.startswith("epoch")]
        if run.returncode:
            raise SystemExit(f"training {' '.join(map(str, command))} failed")
        rates = [float(line.split(" images/s")[0].split()[-1]) for line in lines]
        last.append(np.median(rates[len(rates) // 2 :]))
    return sum(last)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000, help="of a made-up task")
    parser.add_argument("--epochs", type=int, default=5, help="that are timed")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 2, 4, 8])
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"{device}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for backbone, side, inside in NETWORKS:
            folder = Path(place) / str(side)
            count = options.images if side == 32 else max(BATCH, options.images // 8)
            made_up(folder, backbone, side, inside, count)
            for more, graphs in product(([], RANDOM), ("--cuda-graphs", "--no-cuda-graphs")):
                settings = ["--backbone", backbone, "--distillation", "0.5", graphs]
                settings += ["--epochs", str(2 + options.epochs)]
                settings += ["--augmentation", *PLAIN[side], *more]
                timed = time_steps(folder, settings, options.epochs)
                print(f"{backbone:20} {' '.join(more) or '-':22} {graphs:17} {timed}", flush=True)
        folder = Path(place) / "32"
        settings = ["--backbone", "resnet32", "--distillation", "0.5", "--epochs"]
        settings += [str(4 * options.epochs), "--augmentation", *PLAIN[32], *RANDOM]
        for number in options.at_once:
            rate = train_at_once(folder, settings, number)
            print(
                f"{number} at once: {rate:9.0f} images/s together. The six trainings of CIFAR-100,"
                f" base 50, increment 10: {SIX / rate:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
