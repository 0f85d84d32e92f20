"""What a training takes of its machine: time, memory and energy.

    python -m wa.training.meter --training 1234 --gpus 0,1 --output results/.../task-1

Snakemake measures the time and the memory of the host. This program measures the rest, from beside
the training: the memory of its GPUs at the peak, and the energy. wa.training.launch starts it where
the machine can tell one of the two. It ends with the training that started it, and writes
train.meter.json. It touches no result. Energy comes from the counters of the processors (RAPL), and
from the power of the GPUs, which is asked for every few seconds. Both count whatever runs on them.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from wa.errors import program
from wa.files import read_json, write_json
from wa.study import layout
from wa.training.gpus import nvidia_smi
from wa.training.history import epoch_seconds

EVERY = 5.0  # seconds between two looks at the GPUs and counters
SOON = 0.2  # seconds between two looks whether the training still runs


class Spent(NamedTuple):
    """What was measured of a training. None: it was not."""

    seconds: float | None
    host_mib: float | None
    gpu_mib: float | None
    joules: float | None


class Counter(NamedTuple):
    """The energy counter of one processor. It begins anew at `largest`."""

    file: Path
    largest: int  # microjoules

    def read(self) -> int:
        return int(self.file.read_text(encoding="utf-8"))


def counters(root: Path = Path("/")) -> list[Counter]:
    """The energy counters of the processors that this user may read."""
    found = []
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        if folder.name.count(":") > 1:  # a part of a processor
            continue
        try:
            largest = int((folder / "max_energy_range_uj").read_text(encoding="utf-8"))
            counter = Counter(folder / "energy_uj", largest)
            counter.read()
        except (OSError, ValueError):
            continue
        found.append(counter)
    return found


def read_gpus(names: str) -> tuple[float, float] | None:
    """The MiB and the watts that these GPUs use now. None if nvidia-smi does not say it.

    names: as in CUDA_VISIBLE_DEVICES.
    """
    if not names:
        return None
    query = "--query-gpu=memory.used,power.draw"
    said = nvidia_smi(f"--id={names}", query, "--format=csv,noheader,nounits")
    try:
        rows = [tuple(map(float, line.split(","))) for line in (said or "").splitlines()]
        memory, power = zip(*rows, strict=True)
    except ValueError:  # [N/A], or nothing
        return None
    return sum(memory), sum(power)


class Meter:
    """Adds up what counters and GPUs say. `look` is called again and again."""

    def __init__(self, processors: list[Counter], gpus: str):
        self.processors, self.gpus = processors, gpus
        self.before = [counter.read() for counter in processors]
        self.time = time.monotonic()
        self.joules, self.peak = 0.0, None

    def look(self) -> None:
        now = time.monotonic()
        values = [counter.read() for counter in self.processors]
        for counter, before, value in zip(self.processors, self.before, values, strict=True):
            self.joules += (value - before) % (counter.largest + 1) / 1e6
        found = read_gpus(self.gpus)
        if found:
            self.peak = max(found[0], self.peak or 0)
            self.joules += found[1] * (now - self.time)
        self.before, self.time = values, now

    def result(self) -> dict:
        measured = bool(self.processors) or self.peak is not None
        return {"gpu_mib": self.peak, "joules": round(self.joules, 1) if measured else None}


def start(output: Path, gpus: list[str]) -> None:
    """Measure this process in the background, if the machine has something to tell.

    What was measured of an earlier training is removed. The program that runs in this process may
    change (os.exec).
    """
    (output / layout.METER).unlink(missing_ok=True)
    names = ",".join(gpus)
    if not counters() and read_gpus(names) is None:
        return
    command = [sys.executable, "-m", "wa.training.meter", "--training", str(os.getpid())]
    command += ["--gpus", names, "--output", str(output)]
    # The standard input may be the lease of the GPUs, which the meter shall not hold.
    subprocess.Popen(command, stdin=subprocess.DEVNULL)


def read_spent(folder: Path) -> Spent:
    """What was measured of the training whose checkpoint lies in a folder.

    Snakemake measures the last job only. If that job did not train all epochs, because an earlier
    one was killed or had finished, the seconds are those of all epochs. Its memory counts only if
    it trained at least one.
    """
    seconds, host = read_benchmark(folder / layout.BENCHMARK)
    if (folder / layout.HISTORY).exists():
        epochs = epoch_seconds(folder / layout.HISTORY)
        if epochs:  # a method on frozen features may have none
            if seconds is not None and seconds < epochs[-1]:
                host = None
            seconds = max(seconds or 0.0, sum(epochs))
    measured = {}
    if (folder / layout.METER).exists():
        measured = read_json(folder / layout.METER)
    return Spent(seconds, host, measured.get("gpu_mib"), measured.get("joules"))


def read_benchmark(path: Path) -> tuple[float | None, float | None]:
    """The seconds and the peak memory in MiB of a job, as Snakemake measured them.

    None for what it did not measure: a short job has no memory.
    """
    if not path.exists():
        return None, None
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    values = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")]
    return sum(float(row["s"]) for row in rows), max(values, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the process that starts this program.")
    # Not os.getppid() alone: the training may be gone before this program has started.
    parser.add_argument("--training", type=int, required=True, help="the process that starts this")
    parser.add_argument("--gpus", default="", help="as in CUDA_VISIBLE_DEVICES")
    parser.add_argument("--output", type=Path, required=True, help="the folder of the training")
    args = parser.parse_args()
    if os.getppid() != args.training:
        return
    meter, due = Meter(counters(), args.gpus), time.monotonic()
    while os.getppid() == args.training:
        if time.monotonic() >= due:
            meter.look()
            due += EVERY
        time.sleep(SOON)
    meter.look()
    write_json(args.output / layout.METER, meter.result())


if __name__ == "__main__":
    program(main)
