"""How fast wa.herding is against continuum: 100 classes of 500 images with 64 features, on one thread.

    PYTHONPATH=. python benchmarks/herding.py          # or after pip install -e .

The work differs, to our disadvantage: wa.herding.rank_classes ranks all 500 images of a class (so that a memory of any
size is a prefix); continuum's herd_closest_to_barycenter chooses --per-class of them, 20 in practice: 2000 exemplars
for 100 classes. With --per-class 500 it is asked for as much as ours, and stops at 1000 iterations a class: it can
choose an image again. Features are made up: float32, not negative as after a ReLU, fixed seed. The rounds of the two
alternate. CPU time says what the work costs; wall time is larger where other programs take the core.
"""

# ruff: noqa: E402 (the number of threads is set before numpy is imported)

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from continuum.rehearsal import herd_closest_to_barycenter

from wa.herding import rank_classes

CLASSES, IMAGES, FEATURES = 100, 500, 64


def measure(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[list[float], list[float]]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--per-class", type=int, default=20, help="images of a class that continuum chooses (default: 20)")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(0.5, 1, (CLASSES * IMAGES, FEATURES)), 0).astype(np.float32)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), IMAGES))
    index = np.arange(len(labels))
    sides = {
        f"continuum, {options.per_class} of {IMAGES}": lambda: herd_closest_to_barycenter(
            index, labels, labels, features, options.per_class
        ),
        f"wa.herding, all {IMAGES}": lambda: rank_classes(features, labels),
    }
    times = measure(sides, options.rounds)

    print(f"{'ms':28}{'min':>10}{'median':>10}{'max':>10}")
    for name, clocks in times.items():
        for clock, ms in zip(("CPU", "wall"), clocks, strict=True):
            print(f"{name + ', ' + clock:28}{min(ms):10.0f}{statistics.median(ms):10.0f}{max(ms):10.0f}")
    theirs, ours = (statistics.median(cpu) for cpu, _ in times.values())
    print(f"speedup: {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
