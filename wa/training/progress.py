"""progress.json: how far a training is, for `wa status`.

A training writes it to its folder .resume/ after an epoch, and removes it with that folder at the
end.
"""

import time
from pathlib import Path
from typing import NamedTuple

from wa.files import is_count, read_json, write_json

NAME = "progress.json"


class Progress(NamedTuple):
    epoch: int  # epochs that are done
    epochs: int  # epochs in all
    images_per_second: float
    seconds_left: float  # of this training, from `time` on
    time: float  # when it was written, in seconds since 1970


def is_amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


RULES = {
    "epoch": (is_count, "a number of epochs"),
    "epochs": (is_count, "a number of epochs"),
    "images_per_second": (is_amount, "a speed"),
    "seconds_left": (is_amount, "seconds"),
    "time": (is_amount, "seconds since 1970"),
}


def seconds_left(row: dict, epochs: int) -> float:
    """The seconds that the remaining epochs take, if each takes as long as the last one.

    row: the last epoch's row of the history.
    """
    return (epochs - row["epoch"]) * row["seconds"]


def write_progress(folder: Path, row: dict, epochs: int) -> None:
    """Write the progress, at most once a second. row: the last epoch's row of the history."""
    path, now = folder / NAME, time.time()
    if path.exists() and now - path.stat().st_mtime < 1:
        return
    left = seconds_left(row, epochs)
    progress = Progress(row["epoch"], epochs, row["images_per_second"], left, now)
    write_json(path, progress._asdict())


def read_progress(folder: Path) -> Progress | None:
    """The progress of a training. None before its first epoch ends.

    folder: the training's folder .resume/.
    Raises UserError if the file is damaged.
    """
    try:
        values = read_json(folder / NAME, RULES)
    except FileNotFoundError:
        return None
    return Progress(**{name: values[name] for name in Progress._fields})
