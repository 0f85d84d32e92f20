"""history.csv: what a training did, epoch by epoch."""

import csv
from pathlib import Path

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


def write_history(path: Path, rows: list[dict]) -> None:
    """Write one row for each epoch. Raises ValueError if a row has other keys than COLUMNS."""
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def training_seconds(path: Path) -> float:
    """The seconds that all epochs of a history.csv took together."""
    with open(path, encoding="utf-8", newline="") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))
