"""How fast `wa predict` classifies image files, against a plain loop over the same model.

    .venv/bin/python benchmarks/predict.py --data tiny-imagenet-20.tar

The tar's .JPEG files are written to a temporary folder, again and again until there are --images of
them. The plain loop is `model.top(file)` for each file. It runs with one thread and with one for
each core, because more threads slow down a small network where other programs run. The speedup is
that over the faster loop. All take turns, and the first round warms up. The weights are random. The
start of the program and the loading of the model are not timed.
"""

import argparse
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import torch

import wa
from wa.checkpoint import write_checkpoint
from wa.commands.predict import outcomes
from wa.models.model import CilModel


def files_of(tar: str, count: int, folder: Path) -> list[str]:
    with tarfile.open(tar) as archive:
        members = [member for member in archive if member.name.endswith(".JPEG")][:count]
        jpegs = [archive.extractfile(member).read() for member in members]
    files = [folder / f"{i:06d}.JPEG" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(jpegs[i % len(jpegs)])
    return [str(file) for file in files]


def model_of(backbone: str, size: int, classes: int, file: Path):
    """A model with random weights that takes colour images of `size` x `size` pixels."""
    torch.manual_seed(0)
    model = CilModel(backbone, 3, [classes], size=(size, size))
    header = {"backbone": backbone, "in_channels": 3, "bias": True, "task_sizes": [classes]}
    header |= {"classes": [str(c) for c in range(classes)], "image_shape": [size, size, 3]}
    write_checkpoint(file, model.tensors(), header | {"mean": [0.5] * 3, "std": [0.25] * 3})
    return wa.load(file)


def loop(model, files: list[str], threads: int) -> list:
    torch.set_num_threads(threads)
    return [model.top(file) for file in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", metavar="TAR", required=True, help="a tar with .JPEG files")
    add("--images", type=int, default=2000)
    add("--loop", type=int, default=2000, help="images that the plain loops take of them")
    add("--backbone", default="timm/resnet18")
    add("--size", type=int, default=64, help="pixels that the network takes (default: 64)")
    add("--classes", type=int, default=20)
    add("--rounds", type=int, default=3)
    options = parser.parse_args()

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        files = files_of(options.data, options.images, Path(folder))
        model = model_of(
            options.backbone, options.size, options.classes, Path(folder, "model.safetensors")
        )
        sides = {"a plain loop, 1 thread": lambda some: loop(model, some[: options.loop], 1)}
        if cores > 1:
            sides[f"a plain loop, {cores} threads"] = lambda some: loop(
                model, some[: options.loop], cores
            )
        sides[f"wa predict, {cores} cores"] = lambda some: list(outcomes(model, some))
        seconds: dict[str, list[float]] = {name: [] for name in sides}  # per image
        processor: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side(files[:16])
        for _ in range(options.rounds):
            for name, side in sides.items():
                started, before = time.perf_counter(), time.process_time()
                n = len(side(files))
                seconds[name].append((time.perf_counter() - started) / n)
                processor[name].append((time.process_time() - before) / n)
    print(f"{len(files)} images, {options.backbone} at {options.size} pixels, medians")
    for name in sides:
        speed = 1 / statistics.median(seconds[name])
        each = 1000 * statistics.median(processor[name])
        print(f"{name:26} {speed:8.0f} images/s {each:8.2f} ms of processor time per image")
    *loops, ours = (statistics.median(seconds[name]) for name in sides)
    print(f"speedup over the faster loop: {min(loops) / ours:.2f}")


if __name__ == "__main__":
    main()
