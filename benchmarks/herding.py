"""How fast wa.methods.selection is against continuum, on one thread.

    .venv/bin/python benchmarks/herding.py

There are 100 classes of 500 images with 64 features. The features are made up: float32, not
negative as after a ReLU, with a fixed seed. The work differs, to our disadvantage. rank_classes
ranks all 500 images of a class, so that a memory of any size is the start of the ranking.
continuum's herd_closest_to_barycenter chooses --per-class of them: 20 in practice. With --per-class
500 it does as much as ours, but it stops at 1000 iterations for a class, because it can choose an
image again. The two take turns. CPU time says what the work costs. Wall time is larger if other
programs run.

    .venv/bin/python benchmarks/herding.py --imagenet

This runs the program as the workflow does, on all cores, on made-up features of ImageNet-1000:
1,281,167 images of 1000 classes with 512 features, 2.6 GB, in a temporary folder. It prints seconds
and memory.
"""

# ruff: noqa: E402 (the number of threads is set before numpy is imported)

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from continuum.rehearsal import herd_closest_to_barycenter

from wa.methods.selection import rank_classes

CLASSES, IMAGES, FEATURES = 100, 500, 64


def measure(
    sides: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of every round: name -> (CPU, wall)."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sides}
    for round_ in range(rounds + 1):
        for name, side in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            side()
            if round_:  # the first round warms up
                times[name][0].append(1000 * (time.process_time() - cpu))
                times[name][1].append(1000 * (time.perf_counter() - wall))
    return times


def imagenet() -> None:
    fewer = np.linspace(940, 1300, 105).astype(int)
    sizes = np.concatenate([np.full(895, 1300), fewer])
    sizes[-1] += 1_281_167 - sizes.sum()
    labels, rng = np.repeat(np.arange(1000), sizes), np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((len(labels), 512), np.float32) + np.float32(0.5), 0)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            f"{folder}/features.npz", index=np.arange(len(labels)), label=labels, features=features
        )
        del features
        # Of itself: what getrusage says of a child counts the memory of this process, too.
        code = (
            "import wa.methods.selection; wa.methods.selection.main();"
            " print(open('/proc/self/status').read())"
        )
        command = [
            "-c",
            code,
            "--features",
            f"{folder}/features.npz",
            "--output",
            f"{folder}/herding.npz",
        ]
        started = time.perf_counter()
        threads = {
            f"{library}_NUM_THREADS": str(len(os.sched_getaffinity(0)))
            for library in ("OMP", "OPENBLAS", "MKL")
        }
        status = subprocess.check_output(
            [sys.executable, *command], env=os.environ | threads, text=True
        )
        seconds, kilobytes = (
            time.perf_counter() - started,
            int(re.search(r"VmHWM:\s+(\d+)", status)[1]),
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert len(np.load(f"{folder}/herding.npz")["ranking"]) == len(labels)
    print(
        f"{len(labels)} images: CPU {used.ru_utime + used.ru_stime:.0f} s,"
        f" at most {kilobytes / 1e6:.1f} GB of memory"
    )
    print(f"seconds: {seconds:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--per-class",
        type=int,
        default=20,
        help="images of a class that continuum chooses (default: 20)",
    )
    parser.add_argument(
        "--imagenet", action="store_true", help="measure the program on features of ImageNet's size"
    )
    options = parser.parse_args()
    if options.imagenet:
        imagenet()
        return

    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(0.5, 1, (CLASSES * IMAGES, FEATURES)), 0).astype(np.float32)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), IMAGES))
    index = np.arange(len(labels))
    sides = {
        f"continuum, {options.per_class} of {IMAGES}": lambda: herd_closest_to_barycenter(
            index, labels, labels, features, options.per_class
        ),
        f"wa.methods.selection, all {IMAGES}": lambda: rank_classes(features, labels),
    }
    times = measure(sides, options.rounds)

    print(f"{'ms':28}{'min':>10}{'median':>10}{'max':>10}")
    for name, clocks in times.items():
        for clock, ms in zip(("CPU", "wall"), clocks, strict=True):
            print(
                f"{name + ', ' + clock:28}{min(ms):10.0f}{statistics.median(ms):10.0f}"
                f"{max(ms):10.0f}"
            )
    theirs, ours = (statistics.median(cpu) for cpu, _ in times.values())
    print(f"speedup: {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
