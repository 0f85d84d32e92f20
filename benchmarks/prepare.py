"""How fast wa.data.datasets packs JPEGs on all cores, against a loop with Pillow in one process.

    .venv/bin/python benchmarks/prepare.py --data tiny-imagenet-20.tar

The tar's .JPEG files are written to a temporary folder, again and again until there are --images of
them. With --size S they are first enlarged to a shorter side of S pixels. Both sides start from
files and end with the .npy on disk. With --cache C they keep squares of C pixels. The two take
turns, and the first round warms up. Wall time means something if the cores are idle. Processor time
is that of all processes.
"""

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wa.data.images import cut_square, read_image
from wa.data.packing import pack


def files_of(tar: str, count: int, size: int | None, folder: Path) -> list[str]:
    with tarfile.open(tar) as archive:
        jpegs = [
            archive.extractfile(member).read()
            for member in archive
            if member.name.endswith(".JPEG")
        ]
    if size:
        for i, jpeg in enumerate(jpegs := jpegs[:200]):
            stream = io.BytesIO()
            Image.open(io.BytesIO(jpeg)).convert("RGB").resize((size * 4 // 3, size)).save(
                stream, "JPEG", quality=90
            )
            jpegs[i] = stream.getvalue()
    files = [folder / f"{i:06d}.JPEG" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(jpegs[i % len(jpegs)])
    return [str(file) for file in files]


def loop(files: list[str], output: Path, cache: int | None) -> None:
    pixels = None
    for i, file in enumerate(files):
        picture = Image.open(file).convert("RGB")
        image = np.asarray(cut_square(picture, cache) if cache else picture)
        if pixels is None:
            pixels = np.empty((len(files), *image.shape), np.uint8)
        pixels[i] = image
    np.save(output, pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="TAR", required=True, help="a tar with .JPEG files")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument(
        "--size",
        type=int,
        help="shorter side that the pictures are enlarged to (default: as they are)",
    )
    parser.add_argument(
        "--cache", type=int, help="squares to keep (default: the images as they are)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        files = files_of(options.data, options.images, options.size, Path(folder))
        read = partial(read_image, channels=3, square=options.cache)
        output = Path(folder, "images.npy")
        sides = {
            "a loop with Pillow": lambda: loop(files, output, options.cache),
            f"wa.data.packing, {cores} processes": lambda: pack(
                files, output, read(files[0]).shape, read, "", cores
            ),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        arrays = []
        for round_ in range(options.rounds + 1):
            for name, side in sides.items():
                started, before = time.perf_counter(), sum(os.times()[:4])
                side()
                if round_:
                    times[name].append(
                        (time.perf_counter() - started, sum(os.times()[:4]) - before)
                    )
                else:
                    arrays.append(np.load(output))
        difference = np.abs(arrays[0].astype(np.int16) - arrays[1]).max()
    print(
        f"{len(files)} images, largest difference of a pixel: {difference}\n"
        f"{'s':36}{'min':>10}{'median':>10}{'max':>10}"
    )
    medians = []
    for name, both in times.items():
        for clock, values in zip(("wall", "CPU"), zip(*both, strict=True), strict=True):
            print(
                f"{name + ', ' + clock:36}{min(values):10.2f}{statistics.median(values):10.2f}"
                f"{max(values):10.2f}"
            )
            medians.append(statistics.median(values))
    theirs, cpu, ours, our_cpu = medians
    print(
        f"processor time of the loop over ours: {cpu / our_cpu:.2f},"
        f" so {cores} idle cores gain up to {cores * cpu / our_cpu:.2f}"
    )
    print(f"speedup: {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
