"""A packed data set: what dataset.json says of it, and whether its arrays are the ones described there.

Needs numpy only, so programs that do not train can use it.
"""

import math
import re
from pathlib import Path

import numpy as np

from wa.errors import UserError
from wa.files import check, damaged, is_count, read_json, sha256


def are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def are_numbers(values: object, least: float) -> bool:
    return isinstance(values, list) and all(
        type(v) in (int, float) and math.isfinite(v) and v > least for v in values
    )


# What a program must know of images, from dataset.json or from the header of a checkpoint.
IMAGES = {
    "classes": (are_names, "a list of names"),
    "image_shape": (
        lambda v: isinstance(v, list) and len(v) == 3 and all(is_count(n) and n <= 4096 for n in v),
        "height, width and channels",
    ),
    "mean": (lambda v: are_numbers(v, -math.inf), "a number a channel"),
    "std": (lambda v: are_numbers(v, 0), "a number above 0 a channel"),
}
# It becomes a folder's name.
NAME = {
    "dataset": (
        lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", v, re.A),
        "a name",
    )
}


def hashes(dataset: dict) -> dict[str, str]:
    """The SHA-256 of each packed array: what makes two packed data sets the same data."""
    return {key: value for key, value in dataset.items() if key.endswith("_sha256")}


def check_same_data(path: str | Path, header: dict, dataset: dict, folder: str | Path) -> None:
    """Raise a UserError unless a result was made from the data that are packed in `folder`."""
    if header.get("data_sha256") != hashes(dataset):
        raise UserError(
            f"{path} was made from other data than {folder} holds now. Run the study again: it makes anew"
            " what depends on the data"
        )


def read_dataset(path: str | Path) -> dict:
    """dataset.json of a packed data set."""
    dataset = read_json(path, IMAGES | NAME)
    channels = dataset["image_shape"][2]
    check(
        dataset,
        {
            "train_counts": (
                lambda v: are_numbers(v, -1) and len(v) == len(dataset["classes"]) > 0,
                "a number of images a class",
            ),
            "mean": (lambda v: len(v) == channels, "a number a channel"),
            "std": (lambda v: len(v) == channels, "a number a channel"),
        },
        path,
    )
    return dataset


HASHED = (
    2**31
)  # bytes; of larger arrays only the shape is verified (and all by `wa show`): to hash them costs minutes a task


def verify(folder: Path, dataset: dict) -> None:
    """Raise a UserError unless the packed arrays are those that dataset.json describes."""
    for split in ("train", "test"):
        lengths = set()
        for name, dtype, shape in (
            ("images", np.uint8, dataset["image_shape"]),
            ("labels", np.int64, []),
        ):
            file = folder / f"{split}_{name}.npy"
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except (ValueError, OverflowError, TypeError) as error:
                raise damaged(file, error) from None
            lengths.add(len(array) if array.ndim else 0)
            if (
                array.dtype != dtype
                or list(array.shape[1:]) != shape
                or len(lengths) > 1
                or 0 in lengths
            ):
                raise damaged(file, "it does not hold what dataset.json says")
            if file.stat().st_size < HASHED and sha256(file) != dataset.get(
                f"{split}_{name}_sha256"
            ):
                raise damaged(file, "its SHA-256 is not that in dataset.json")
        if array.min() < 0 or array.max() >= len(dataset["classes"]):
            raise damaged(file, "it holds classes that dataset.json lacks")
