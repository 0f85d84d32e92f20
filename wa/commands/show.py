"""Show a run: its accuracies and gamma task by task, and the chain of its checkpoints back to the data, verified.

    wa show results/digits/order-1993/seed-0/base-4/inc-2/wa

Every checkpoint's header holds the SHA-256 of what its training read: the checkpoint and the herding of the task before, and
the packed data. Those files are hashed again here. That model.safetensors is trained.safetensors with another classifier is
verified by comparing the two.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from wa.analysis.metrics import average_incremental_accuracy, read_metrics
from wa.checkpoint import read_checkpoint
from wa.data.packed import IMAGES, NAME
from wa.errors import UserError
from wa.files import Rules, check, read_json, sha256
from wa.methods.alignment import REPORT

HELP = """Print a run task by task, and verify its checkpoints.

The table has each classifier's accuracy and gamma. Below it stands the chain of checkpoints back to
the data. Each file is hashed again and compared with what the checkpoints' headers say. The exit
status is 1 if a file differs or is absent. For a run that is not finished, show prints what exists.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a run, or of a task, or a checkpoint in it")


digest = cache(sha256)  # a checkpoint is looked at twice: by itself and as the parent of the next


def tasks_of(path: str) -> tuple[Path, list[Path]]:
    """The folder of the run that `path` names, and the folders of its tasks' checkpoints, in order, up to the one named.

    Task 0 is shared by all runs of its base and lies above them: BASE/inc-I/METHOD/task-T.
    """
    folder = Path(os.path.abspath(path))
    if not folder.exists():
        raise UserError(f"{path} does not exist")
    folder = folder.parent if folder.is_file() else folder
    named = re.fullmatch(r"task-(\d+)", folder.name)
    run = folder.parent if named else folder
    if (run / "model.safetensors").exists():
        return run, [run]  # the shared task 0 itself
    tasks = [Path(os.path.normpath(run / "../.."))]
    if not (tasks[0] / "model.safetensors").exists():
        raise UserError(
            f"{path} is no run with a trained task: name a folder .../seed-S/base-B/inc-I/METHOD"
        )
    while (following := run / f"task-{len(tasks)}").is_dir():
        tasks.append(following)
    return run, tasks[: int(named[1]) + 1] if named else tasks


def read_if_there(file: Path, rules: Rules) -> dict:
    return read_json(file, rules) if file.exists() else {}


def table(run: Path, tasks: list[Path], seen: list[int | None]) -> Iterator[str]:
    """The accuracy of every classifier on all classes seen, and gamma, task by task; a dash for what is not there."""
    files = [run / f"task-{t}" / "metrics.json" for t in range(len(tasks))]
    metrics = [read_metrics(file) if file.exists() else {} for file in files]
    gammas = [read_if_there(task / "alignment.json", REPORT).get("gamma") for task in tasks]
    classifiers = list(dict.fromkeys(name for m in reversed(metrics) for name in m))
    row = "{:>7}  {:>7}" + "  {:>8}" * len(classifiers) + "  {:>6}"
    yield row.format("task", "classes", *classifiers, "gamma")

    def text(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for t, (m, gamma) in enumerate(zip(metrics, gammas, strict=True)):
        accuracies = (text(m.get(name, {}).get("accuracy"), 2) for name in classifiers)
        yield row.format(t, text(seen[t], 0), *accuracies, text(gamma, 4))
    if all(metrics):  # at task 0 nothing has been aligned: the classifier as trained counts
        a = [[m.get(name, m["trained"])["accuracy"] for m in metrics] for name in classifiers]
        yield row.format(
            "average",
            "",
            *(text(average_incremental_accuracy(np.array(values)), 2) for values in a),
            "",
        )


def is_as_trained(task: Path) -> bool:
    """Whether model.safetensors differs from trained.safetensors in the classifier only."""
    (model, said), (trained, was_said) = (
        read_checkpoint(task / f"{name}.safetensors") for name in ("model", "trained")
    )
    same = (
        name.startswith("classifier.") or model[name].tobytes() == array.tobytes()
        for name, array in trained.items()
    )
    return (
        model.keys() == trained.keys()
        and all(same)
        and said == was_said | {"alignment": said.get("alignment")}
    )


def data_folder(base: Path, header: dict) -> Path:
    """Where the packed data lie: RESULTS/data/DATASET, seen from RESULTS/STUDY/order-O/seed-S/base-B."""
    return Path(os.path.normpath(base / "../../../../data" / header["dataset"]))


def chain(
    tasks: list[Path], header: list[dict | None]
) -> Iterator[tuple[str, str, Path, Callable[[], bool] | None]]:
    """(task, what, file, whether it is the one that the header above it names) from the last checkpoint back to the data."""

    def read(what: str, file: Path, *said: str) -> tuple:
        return "", what, file, lambda: all(s == digest(file) for s in said)

    for t in reversed([t for t, said in enumerate(header) if said]):
        yield f"task {t}", "model", tasks[t] / "model.safetensors", None
        yield "", "trained", tasks[t] / "trained.safetensors", partial(is_as_trained, tasks[t])
        if t and header[t].get("parent_sha256"):
            yield read("parent", tasks[t - 1] / "model.safetensors", header[t]["parent_sha256"])
        if t and header[t].get("herding_sha256"):
            yield read("memory", tasks[t - 1] / "herding.npz", header[t]["herding_sha256"])
    folder = data_folder(tasks[0], header[0])
    for name in header[0]["data_sha256"]:
        yield read(
            "data",
            folder / f"{name.removesuffix('_sha256')}.npy",
            *(f["data_sha256"].get(name) for f in header if f),
        )


ARRAYS = {
    f"{split}_{array}_sha256" for split in ("train", "test") for array in ("images", "labels")
}
HEADER = NAME | {
    "classes": IMAGES["classes"],
    "data_sha256": (
        lambda v: isinstance(v, dict) and v.keys() <= ARRAYS,
        "the SHA-256 of each array",
    ),
}


def header_of(checkpoint: Path) -> dict | None:
    """What a checkpoint says of itself; None if it is not there (yet)."""
    if not checkpoint.exists():
        return None
    header = read_checkpoint(checkpoint)[1]
    check(header, HEADER, checkpoint)
    return header


def show(path: str) -> None:
    """Print the table and the chain of a run; a UserError at the end says if the chain is broken."""
    run, tasks = tasks_of(path)
    header = [header_of(task / "model.safetensors") for task in tasks]
    seen = [len(f["classes"]) if f else None for f in header]
    of = read_if_there(data_folder(tasks[0], header[0]) / "dataset.json", IMAGES).get("classes")
    learned = f"{header[0]['dataset']}: {max(filter(None, seen))}{f' of {len(of)}' if of else ''} classes learned"
    print(os.path.relpath(run), learned, "", *table(run, tasks, seen), "", sep="\n")
    broken = 0
    for task, what, file, holds in chain(tasks, header):
        status = (
            "absent"
            if not file.exists()
            else ""
            if holds is None
            else "ok"
            if holds()
            else "DIFFERS"
        )
        broken += status not in ("", "ok")
        print(
            f"{task:7}  {what:7}  {status:7}  {digest(file) if file.exists() else '-' * 64}  {os.path.relpath(file)}"
        )
    if broken:
        raise UserError(
            f"{broken} of these files are absent or not those that the checkpoints were made from"
        )


def main(args: argparse.Namespace) -> None:
    show(args.run)
