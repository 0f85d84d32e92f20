"""progress.json: how far a training is, for `wa status`.

A training writes it to its folder .resume/, and removes it with that folder at the end.
"""

from pathlib import Path
from typing import NamedTuple

from wa.files import is_count, read_json, write_json

NAME = "progress.json"


class Progress(NamedTuple):
    epoch: int  # epochs that are done
    epochs: int  # epochs in all
    share: float  # of the next epoch that is done, from 0 to 1
    images_per_second: float
    seconds_left: float  # of this training, from `time` on
    time: float  # when it was written, in seconds since 1970


def is_amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def is_share(value: object) -> bool:
    return is_amount(value) and value <= 1


RULES = {
    "epoch": (lambda value: value == 0 or is_count(value), "a number of epochs"),
    "epochs": (is_count, "a number of epochs"),
    "share": (is_share, "a share of an epoch"),
    "images_per_second": (is_amount, "a speed"),
    "seconds_left": (is_amount, "seconds"),
    "time": (is_amount, "seconds since 1970"),
}


def seconds_left(row: dict, epochs: int) -> float:
    """The seconds that the remaining epochs take, if each takes as long as the last one.

    row: the last epoch's row of the history.
    """
    return (epochs - row["epoch"]) * row["seconds"]


def write_progress(folder: Path, progress: Progress) -> None:
    """Write the progress, at most once a second."""
    path = folder / NAME
    if path.exists() and progress.time - path.stat().st_mtime < 1:
        return
    write_json(path, progress._asdict())


def read_progress(folder: Path) -> Progress | None:
    """The progress of a training. None before its first step ends.

    folder: the training's folder .resume/.
    Raises UserError if the file is damaged.
    """
    try:
        values = read_json(folder / NAME, RULES)
    except FileNotFoundError:
        return None
    return Progress(**{name: values[name] for name in Progress._fields})
