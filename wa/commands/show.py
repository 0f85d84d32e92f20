"""Show a run: its accuracies, and the chain of its checkpoints back to the data.

    wa show results/digits/order-1993/seed-0/base-4/inc-2/wa

The header of each checkpoint names the content of what its training read: the model and the ranking
of the task before, and the packed data. `wa show` hashes them again and compares. The file
model.safetensors must be trained.safetensors with another classifier.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wa.analysis.metrics import average_incremental_accuracy, own_classifier, read_metrics
from wa.checkpoint import MEANS, read_checkpoint
from wa.data.exemplars import read_memory
from wa.data.packed import IMAGES, NAME, parts_of
from wa.errors import UserError
from wa.files import (
    Rules,
    check,
    content_sha256,
    read_arrays,
    read_arrays_header,
    read_json,
    sha256,
)
from wa.methods.alignment import REPORT
from wa.study import layout

HELP = """Print a run task by task, and verify its checkpoints.

The table has each classifier's accuracy and gamma. Below it stands the chain of checkpoints back to
the data. Each file is hashed again and compared with what the checkpoints' headers say. The first
12 digits of its SHA-256 are shown. The exit status is 1 if a file differs or is absent. Images of
tasks by name may be deleted. Of a run that is not finished, show prints what exists.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a run, or of a task, or a checkpoint in it")


OWN = {
    "trained": "the linear one as trained",
    "aligned": "the linear one after aligning",
    "nme": "the nearest mean of exemplars",
    "fitted": "which its algorithm fits to features",
}
DIGITS = 12  # of a SHA-256 that are printed

digest = cache(sha256)  # a checkpoint is hashed twice: for itself and as the parent of the next


class Link(NamedTuple):
    """A file of the chain."""

    task: int | None  # None for the data
    role: str
    file: Path
    holds: Callable[[], bool]  # whether it is the file that the header before it names
    may_go: bool = False  # whether it may be deleted


def tasks_of(path: str) -> tuple[Path, list[Path]]:
    """The folder of a run, and the folders of its checkpoints.

    path: the run, one of its tasks, or a file in one. A task means the checkpoints up to that task.
    Raises UserError if there is no trained task at `path`.
    """
    absolute, found = layout.find(path)
    if not absolute.exists():
        raise UserError(f"{path} does not exist")
    folder = absolute.parent if absolute.is_file() else absolute
    if not found and (folder / layout.MODEL).exists():
        return folder, [folder]  # a checkpoint by itself
    if not found or not (found.shared / layout.MODEL).exists():
        raise UserError(
            f"{path} is no run with a trained task. Name a folder .../seed-S/base-B/inc-I/METHOD."
        )
    if found.run is None:
        return found.shared, [found.shared]
    tasks = [found.shared]
    while (following := found.run / f"task-{len(tasks)}").is_dir():
        tasks.append(following)
    return found.run, tasks if found.task is None else tasks[: found.task + 1]


def read_if_there(file: Path, rules: Rules) -> dict:
    return read_json(file, rules) if file.exists() else {}


def table(run: Path, tasks: list[Path], headers: list[dict | None]) -> Iterator[str]:
    """The lines of the table: each classifier's accuracy on all classes seen, and gamma.

    run: its folder. tasks: the folders of its checkpoints. headers: of these. A dash stands for a
    value that does not exist.
    """
    seen = [len(header["classes"]) if header else None for header in headers]
    named = (headers[-1] or {}).get("classifier", "linear")
    files = [run / f"task-{t}" / layout.METRICS for t in range(len(tasks))]
    metrics = [read_metrics(file) if file.exists() else {} for file in files]
    if run == tasks[0]:  # a shared task 0: methods evaluate it, each with its own memory
        files = sorted(run.glob(f"inc-*/*/task-0/{layout.METRICS}"))
        metrics = [{"trained": read_metrics(files[0])["trained"]}] if files else [{}]
    gammas = [read_if_there(task / layout.ALIGNMENT, REPORT).get("gamma") for task in tasks]
    classifiers = list(dict.fromkeys(name for m in reversed(metrics) for name in m))
    row = "{:>7}  {:>7}" + "  {:>8}" * len(classifiers) + "  {:>6}"
    yield row.format("task", "classes", *classifiers, "gamma")

    def text(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for t, (m, gamma) in enumerate(zip(metrics, gammas, strict=True)):
        accuracies = (text(m.get(name, {}).get("accuracy"), 2) for name in classifiers)
        yield row.format(t, text(seen[t], 0), *accuracies, text(gamma, 4))
    if all(metrics):  # task 0 has no aligned classifier, so the trained one counts there
        a = [[m.get(name, m["trained"])["accuracy"] for m in metrics] for name in classifiers]
        yield row.format(
            "average",
            "",
            *(text(average_incremental_accuracy(np.array(values)), 2) for values in a),
            "",
        )
    if metrics[-1]:
        if named == "linear":
            named = "fitted" if "fitted" in metrics[-1] else None
        own = own_classifier(metrics[-1], named)
        users = "Tables and wa predict" if own == "fitted" else "Tables, wa predict and wa export"
        yield f"The method's own classifier is `{own}`, {OWN[own]}. {users} use it."
    yield from harm(metrics)
    if removed := (headers[-1] or {}).get("removed"):
        yield f"Exemplars were removed from the memory: {', '.join(removed)}."
    untested = metrics[-1].get("trained", {}).get("untested_classes")
    if untested:
        some = "1 class has" if untested == 1 else f"{untested:g} classes have"
        yield f"{some} no test images left, so no accuracy counts them."


def harm(metrics: list[dict]) -> Iterator[str]:
    """A line that names the tasks after which aligning lowered the accuracy, if there are any."""
    worse = []
    for t, of_task in enumerate(metrics):
        values = [of_task.get(name, {}).get("accuracy") for name in ("trained", "aligned")]
        if None not in values and values[1] < values[0]:
            worse.append(str(t))
    if worse:
        yield f"Aligning lowered the accuracy after task {', '.join(worse)}."


def is_as_trained(task: Path) -> bool:
    """Whether model.safetensors differs from trained.safetensors in the classifiers only."""
    model, header = read_checkpoint(task / layout.MODEL)
    model.pop(MEANS, None)
    trained, trained_header = read_checkpoint(task / layout.TRAINED)
    if model.keys() != trained.keys():
        return False
    backbone = [name for name in trained if not name.startswith("classifier.")]
    same = all(model[name].tobytes() == trained[name].tobytes() for name in backbone)
    return same and header.get("from_trained") == trained_header.get("content_sha256")


def has_content(file: Path, content: str) -> bool:
    """Whether the content of a checkpoint or a ranking has the SHA-256 `content`."""
    try:
        if file.suffix == ".npz":
            return content_sha256(read_arrays(file)) == content
        return read_checkpoint(file)[1].get("content_sha256") == content
    except UserError:
        return False


def ranking_in(folder: Path, content: str) -> Path:
    """The ranking with this content. If there is none, any ranking."""
    others = (layout.FEATURES, layout.PREDICTIONS)
    rankings = sorted(file for file in folder.glob("*.npz") if file.name not in others)
    matching = [file for file in rankings if has_content(file, content)]
    return [*matching, *rankings, folder / layout.ranking("herding")][0]


def is_memory(file: Path, content: str) -> bool:
    """Whether it is the memory with this content, or what `wa forget` left of it."""
    read_memory(file)
    return read_arrays_header(file).get("content_sha256") == content


def hashes_of(header: dict) -> list[dict]:
    """The hashes of the packed arrays: for each task by name, or for a whole benchmark."""
    said = header["data_sha256"]
    return said if isinstance(said, list) else [said]


def has_digest(file: Path, said: set) -> bool:
    return said == {digest(file)}


def chain(run: Path, tasks: list[Path], headers: list[dict | None]) -> Iterator[Link]:
    """The files of a run, from the last checkpoint back to the data."""
    for t in reversed(range(len(tasks))):
        header = headers[t]
        if not header:
            continue
        # It was verified when its header was read.
        yield Link(t, "model", tasks[t] / layout.MODEL, lambda: True)
        yield Link(t, "trained", tasks[t] / layout.TRAINED, partial(is_as_trained, tasks[t]))
        if content := header.get("from_model"):
            file = tasks[t - 1] / layout.MODEL
            yield Link(t, "parent", file, partial(has_content, file, content))
        if content := header.get("from_ranking"):
            file = ranking_in(tasks[t - 1], content)
            yield Link(t, "memory", file, partial(has_content, file, content))
        if content := header.get("from_memory"):
            file = run / f"task-{t - 1}" / layout.MEMORY
            yield Link(t, "memory", file, partial(is_memory, file, content), may_go=True)
    every = [header for header in headers if header]
    folders = layout.data_folders(tasks[0], every[0]["dataset"], parts_of(every[-1]))
    for number, folder in enumerate(folders):
        hashes = [part[number] for part in map(hashes_of, every) if number < len(part)]
        for array in layout.ARRAYS:
            said = {of_task.get(layout.array_hash(array)) for of_task in hashes}
            same = partial(has_digest, folder / array, said)
            yield Link(None, "data", folder / array, same, may_go=parts_of(every[-1]) is not None)


def are_hashes(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, dict) and are_hashes(v) for v in value)
    return isinstance(value, dict) and value.keys() == {*map(layout.array_hash, layout.ARRAYS)}


HEADER = NAME | {
    "classes": IMAGES["classes"],
    "data_sha256": (are_hashes, "the SHA-256 of each array"),
}


def header_of(checkpoint: Path) -> dict | None:
    """The header of a checkpoint. None if the file does not exist (yet)."""
    if not checkpoint.exists():
        return None
    header = read_checkpoint(checkpoint)[1]
    check(header, HEADER, checkpoint)
    return header


def status(link: Link) -> str:
    if not link.file.exists():
        return "deleted" if link.may_go else "absent"
    return "ok" if link.holds() else "DIFFERS"


def show(path: str) -> None:
    """Print the table and the chain of a run.

    Raises UserError at the end if the chain is broken.
    """
    run, tasks = tasks_of(path)
    headers = [header_of(task / layout.MODEL) for task in tasks]
    share = ""
    if parts_of(headers[0]) is None:
        folder = layout.data_folders(tasks[0], headers[0]["dataset"], None)[0]
        of = read_if_there(folder / layout.DATASET, IMAGES).get("classes")
        share = f" of {len(of)}" if of else ""
    seen = max(len(header["classes"]) for header in headers if header)
    learned = f"{headers[0]['dataset']}: {seen}{share} classes learned"
    print(os.path.relpath(run), learned, "", *table(run, tasks, headers), "", sep="\n")
    broken, last = 0, None
    for link in chain(run, tasks, headers):
        task = f"task {link.task}" if link.task is not None and link.task != last else ""
        last = link.task
        said = status(link)
        broken += said in ("absent", "DIFFERS")
        shown = digest(link.file) if link.file.exists() else "-" * DIGITS
        print(f"{task:7}  {link.role:7}  {said:7}  {shown[:DIGITS]}  {os.path.relpath(link.file)}")
    if broken:
        raise UserError(
            f"{broken} of these files are absent or not those that the checkpoints were made from"
        )


def main(args: argparse.Namespace) -> None:
    show(args.run)
