"""Write what each run of a study costs to one tidy table.

    python -m wa.analysis.cost --study '{"root": "results/digits", ...}' \
        --data results/data/digits/dataset.json --output results/digits/cost.csv

Each row is one value of one task of one run. The columns are those of metrics.csv, without
`classifier` and `own`. The metrics:

    parameters   of the network after the task
    flops        of a forward pass of one image: a multiplication and an addition are two
    model_mb     the size of model.safetensors, in MB (1e6 bytes)
    memory_mb    the exemplars that are kept after the task, as packed
    epochs       of the training
    seconds      the training, as Snakemake measured it. Of a resumed one, all its epochs.
    host_gib     its peak memory on the host
    gpu_gib      the peak memory of its GPUs, with whatever else ran on them
    kilojoules   the energy of the processors and the GPUs meanwhile, likewise
    herd_seconds, align_seconds, fit_seconds, evaluate_seconds
                 the other jobs of the task, each with the start of its program

What was not measured has no row. Runs that share task 0 have its rows each.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path

from safetensors import safe_open

from wa.analysis.aggregate import RUN_COLUMNS, table
from wa.checkpoint import read_header
from wa.data.memory import Memory
from wa.data.packed import read_dataset
from wa.errors import program
from wa.study.layout import HISTORY, MODEL, TRAINED, Run, add_study_option, benchmark
from wa.training.history import count_epochs
from wa.training.meter import read_benchmark, read_spent

COLUMNS = (*RUN_COLUMNS, "task", "classes", "metric", "value")


@cache
def backbone_cost(
    name: str, channels: int, size: tuple[int, int], grown: str = "", branches: int = 1
) -> tuple[int, int]:
    """The parameters of a backbone, and the FLOPs of a forward pass of one image.

    grown, branches: see wa.models.model.CilModel.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from wa.models.model import CilModel

    model = CilModel(name, channels, [1], size=size)
    for _ in range(branches - 1):
        model.grow(grown)
    net = model.backbone.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, channels, *size))
    parameters = sum(p.numel() for p in net.parameters())
    return parameters, counter.get_total_flops()


def model_cost(file: Path, header: dict) -> dict[str, int]:
    """The parameters and the FLOPs of a network. file: its trained.safetensors."""
    size = tuple(header.get("input_size") or header["image_shape"][:2])
    grown = header.get("grown", ""), header.get("branches", 1)
    parameters, flops = backbone_cost(header["backbone"], header["in_channels"], size, *grown)
    with safe_open(file, framework="numpy") as tensors:
        names = [name for name in tensors.keys() if name.startswith("classifier.")]  # noqa: SIM118
        shapes = [tensors.get_slice(name).get_shape() for name in names]
    parameters += sum(prod(shape) for shape in shapes)
    rows = sum(prod(shape) for shape in shapes if len(shape) == 2)
    return {"parameters": parameters, "flops": flops + 2 * rows}


def exemplar_bytes(memory: Memory, header: dict, images: dict[str, int]) -> int:
    """The bytes of the exemplars of all classes that a checkpoint knows.

    images: class name -> its training images.
    """
    if memory.is_none:
        return 0
    names = header["classes"]
    each = memory.per_class(len(names))
    kept = [images[name] if each is None else min(each, images[name]) for name in names]
    return sum(kept) * prod(header["image_shape"])


def run_rows(run: Run, images: dict[str, int], selection: str | None) -> Iterator[tuple]:
    """The rows of one run: (task, classes, metric, value).

    images: as in exemplar_bytes. selection: how the exemplars of its method are chosen, if it keeps
    any.
    """
    files = run.learned_files(TRAINED)
    headers = [read_header(file) for file in files]
    # Task 0 is shared, so its header does not know the memory of the method.
    memory = Memory.parse(headers[-1]["memory"]) if len(headers) > 1 else Memory()
    for t in range(len(run.sizes)):
        folder = run.learned(t)
        values = measured(folder) | other_jobs(run, t, selection)
        if t < len(headers):
            values |= model_cost(files[t], headers[t])
        if (folder / HISTORY).exists():
            values["epochs"] = count_epochs(folder / HISTORY)
        if t < len(headers) and (folder / MODEL).exists():
            values["model_mb"] = (folder / MODEL).stat().st_size / 1e6
            values["memory_mb"] = exemplar_bytes(memory, headers[t], images) / 1e6
        for metric, value in values.items():
            yield t, sum(run.sizes[: t + 1]), metric, value


@cache
def measured(folder: Path) -> dict[str, float]:
    """What was measured of the training in a folder."""
    spent = read_spent(folder)
    values = {
        "seconds": (spent.seconds, 1),
        "host_gib": (spent.host_mib, 1024),
        "gpu_gib": (spent.gpu_mib, 1024),
        "kilojoules": (spent.joules, 1000),
    }
    return {name: value / unit for name, (value, unit) in values.items() if value is not None}


def other_jobs(run: Run, task: int, selection: str | None) -> dict[str, float]:
    """The seconds of the jobs after the training of a task."""
    beside, own = run.learned(task), run.task(task)
    folders = {"align": beside, "fit": own, "evaluate": own}
    files = {job: folder / benchmark(job) for job, folder in folders.items()}
    if selection:
        files["herd"] = beside / benchmark(selection)
    found = {f"{job}_seconds": read_benchmark(file)[0] for job, file in files.items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what each run of a study costs.")
    add_study_option(parser)
    parser.add_argument("--data", nargs="*", default=[], help="dataset.json of the packed data")
    parser.add_argument(
        "--ranked",
        type=json.loads,
        default={},
        help="JSON: each method that keeps exemplars, and how it chooses them",
    )
    parser.add_argument("--output", required=True, help="the CSV file to write")
    args = parser.parse_args()
    images: dict[str, int] = {}
    for file in args.data:
        dataset = read_dataset(file)
        images |= dict(zip(dataset["classes"], dataset["train_counts"], strict=True))
    with table(args.output, COLUMNS) as costs:
        for run in args.study.runs():
            start = (args.study.experiment, *run[:5])
            selection = args.ranked.get(run.method)
            costs.writerows((*start, *row) for row in run_rows(run, images, selection))


if __name__ == "__main__":
    program(main)
