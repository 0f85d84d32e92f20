"""Remove the exemplars of classes from the memories of a study of tasks by name."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from wa.data.exemplars import forget, forgotten, read_memory
from wa.data.packed import read_dataset
from wa.errors import UserError
from wa.files import read_arrays_header, write_json
from wa.locks import Locked, lock
from wa.study import layout

HELP = """Remove the exemplars of classes from every memory of a study of tasks by name.

    wa forget results/shop duck

The models stay as they are, and nothing is learned again. Tasks that come later are learned without
these exemplars, and their models and `wa show` say so. forgotten.json in the folder of the study
lists the classes, so that a memory that is made again leaves them out too. It cannot be undone.
While a Snakemake runs the study, the command is refused, and a Snakemake that starts meanwhile is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help="folder of the study, such as results/shop")
    parser.add_argument("classes", nargs="+", metavar="CLASS", help="class to remove")


def still_there(study: Path, classes: list[str]) -> Iterator[str]:
    """A line for each packed array that holds images of the classes."""
    for file in sorted(study.glob(f"{layout.DATA}/task-*/{layout.DATASET}")):
        held = [name for name in read_dataset(file)["classes"] if name in classes]
        arrays = [file.with_name(f"{split}_images.npy") for split in layout.SPLITS]
        for array in arrays:
            if held and array.exists():
                yield f"{array} still holds images of {', '.join(held)}"


def memories(study: Path) -> list[Path]:
    return sorted(study.glob(f"**/{layout.MEMORY}"))


def main(args: argparse.Namespace) -> None:
    """Raises UserError if there is no memory, if one is damaged, or if none knows a class.

    Also if a Snakemake runs the study: its next memory may hold the classes.
    """
    if not args.study.is_dir():
        raise UserError(f"{args.study} does not exist")
    if not memories(args.study):  # before a lock is made in a folder that is no study
        raise UserError(
            f"{args.study} has no {layout.MEMORY}. Only studies of tasks by name have them"
        )
    try:
        held = lock(args.study / layout.LOCK, wait=False)
    except Locked as error:
        raise UserError(f"Snakemake or another wa forget runs this study: {error}") from None
    with held:
        remove(args.study, args.classes)


def remove(study: Path, classes: list[str]) -> None:
    """Remove the classes from each memory, and print what was removed and what is still there."""
    found = memories(study)
    known = {name for file in found for name in read_arrays_header(file).get("classes", [])}
    for name in classes:
        if name not in known:
            raise UserError(f"{name!r} is in no memory of {study}")
    for file in found:
        read_memory(file)  # a damaged one is found before any is changed
    note = study / layout.FORGOTTEN
    write_json(note, {"classes": list(dict.fromkeys([*forgotten(note), *classes]))})
    for file in memories(study):  # again: a job may have outlived its Snakemake
        print(f"{file}: images removed: {forget(file, classes)}")
    for line in still_there(study, classes):
        print(line)
