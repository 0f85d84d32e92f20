"""history.csv: what a training did, epoch by epoch."""

import csv
from pathlib import Path

from wa.errors import UserError
from wa.files import writing

COLUMNS = (
    "epoch",  # from 1
    "lr",  # the learning rate of the epoch
    "loss",  # mean over the epoch's images, as are the next two
    "cross_entropy",
    "distillation",
    "train_accuracy",  # percent of the images as augmented
    "images_per_second",
    "seconds",
    "test_accuracy",  # percent, or None where --test-every does not ask for it
)


def shortened(row: dict) -> dict:
    """A row with six digits of each number."""
    return {k: f"{value:.6g}" if type(value) is float else value for k, value in row.items()}


def write_history(path: Path, rows: list[dict]) -> None:
    """Write one row for each epoch. Raises ValueError if a row has other keys than COLUMNS."""
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(shortened, rows))


def append_history(path: Path, row: dict) -> None:
    """Add the row of an epoch to a history that write_history began. It is on disk at once.

    A kill while it is written can only lose this row. Raises UserError if it cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(shortened(row))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}). Make room or give permission, and run"
            " again"
        ) from None


def count_epochs(path: Path) -> int:
    """The number of epochs of a history.csv."""
    with open(path, encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


def epoch_seconds(path: Path) -> list[float]:
    """The seconds that each epoch of a history.csv took."""
    with open(path, encoding="utf-8", newline="") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]
