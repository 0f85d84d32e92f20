"""A packed data set: what dataset.json says, and whether the arrays are the ones it describes.

It needs numpy only, so programs that do not train can use it.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wa.errors import UserError
from wa.files import check, damaged, is_count, read_json, sha256

# Arrays of fewer bytes are verified by their SHA-256 in each task. Of larger ones, only the shape
# is verified, because hashing them takes minutes. `wa show` verifies all of them.
HASHED = 2**31


def are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def are_numbers(values: object, least: float) -> bool:
    """Whether it is a list of finite numbers above `least`."""
    return isinstance(values, list) and all(
        type(v) in (int, float) and math.isfinite(v) and v > least for v in values
    )


def is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(is_count(side) and side <= 4096 for side in value)
    )


def is_folder_name(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*", value, re.A))


# What a program must know of images. dataset.json and the header of a checkpoint say it.
IMAGES = {
    "classes": (are_names, "a list of names"),
    "image_shape": (is_shape, "height, width and channels"),
    "mean": (lambda v: are_numbers(v, -math.inf), "one number for each channel"),
    "std": (lambda v: are_numbers(v, 0), "one number above 0 for each channel"),
}
# It becomes the name of a folder.
NAME = {"dataset": (is_folder_name, "a name")}


Hashes = dict[str, str] | list[dict[str, str]]


def hashes(dataset: dict) -> Hashes:
    """The SHA-256 of each packed array. Two packed data sets with the same hashes are the same.

    dataset: as from read_dataset, or from read_parts, which gives the hashes of each part.
    """
    if "parts" in dataset:
        return [hashes(part) for part in dataset["parts"]]
    return {key: value for key, value in dataset.items() if key.endswith("_sha256")}


def parts_of(header: dict) -> int | None:
    """The number of tasks by name whose data a model was trained on. None: it was a benchmark."""
    said = header["data_sha256"]
    return len(said) if isinstance(said, list) else None


def goes_on(before: Hashes, now: Hashes) -> bool:
    """Whether data are the same as before, or the same with parts that came later."""
    if isinstance(before, list) and isinstance(now, list):
        return before == now[: len(before)]
    return before == now


def check_same_data(path: str | Path, header: dict, dataset: dict, folder: str | Path) -> None:
    """Raise UserError unless a result was made from the data that are packed in `folder`.

    header: of the result in the file `path`. dataset: what was read from the folder.
    """
    if not goes_on(header.get("data_sha256"), hashes(dataset)):
        raise UserError(
            f"{path} was made from other data than {folder} holds now. Run the study again: it"
            " computes again what depends on the data"
        )


def read_dataset(path: str | Path) -> dict:
    """dataset.json of a packed data set. Raises UserError if it is damaged."""
    dataset = read_json(path, IMAGES | NAME)
    n_classes, channels = len(dataset["classes"]), dataset["image_shape"][2]

    def are_counts(value: object) -> bool:
        return are_numbers(value, -1) and len(value) == n_classes > 0

    rules = {
        "train_counts": (are_counts, "the number of images of each class"),
        "mean": (lambda v: len(v) == channels, "one number for each channel"),
        "std": (lambda v: len(v) == channels, "one number for each channel"),
    }
    check(dataset, rules, path)
    return dataset


def read_parts(paths: Sequence[str | Path]) -> dict:
    """Data that grew, packed task by task, as one data set. paths: dataset.json of each task.

    The classes and the numbers of images are those of all parts, in their order. All else is that
    of the first part: pixels are normalised as they were for task 0. `parts` has the content of
    each file. Raises UserError if one is damaged, or if they do not fit together.
    """
    parts = [read_dataset(path) for path in paths]
    counts = {"test_counts": (lambda v: are_numbers(v, -1), "the number of images of each class")}
    for path, part in zip(paths, parts, strict=True):
        check(part, counts, path)
        if part["image_shape"] != parts[0]["image_shape"]:
            raise UserError(
                f"{path} is of images of {part['image_shape']} (height, width, channels), but"
                f" those of task 0 have {parts[0]['image_shape']}"
            )
    together = {
        key: [each for part in parts for each in part[key]]
        for key in ("classes", "train_counts", "test_counts")
    }
    return parts[0] | together | {"parts": parts}


def verify_array(file: Path, dtype: type, shape: list[int], sha: str | None) -> np.ndarray:
    """A packed array, mapped into memory. Raises UserError unless it is as described.

    shape: of one entry. sha: the SHA-256 of the file.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OverflowError, TypeError) as error:
        raise damaged(file, error) from None
    if array.dtype != dtype or not array.ndim or list(array.shape[1:]) != shape or not len(array):
        raise damaged(file, "it does not hold what dataset.json says")
    if file.stat().st_size < HASHED and sha256(file) != sha:
        raise damaged(file, "its SHA-256 is not that in dataset.json")
    return array


def verify(folder: Path, dataset: dict, splits: Sequence[str] = ("train", "test")) -> None:
    """Raise UserError unless the packed arrays are those that dataset.json describes."""
    for split in splits:
        file = {what: folder / f"{split}_{what}.npy" for what in ("images", "labels")}
        sha = {what: dataset.get(f"{split}_{what}_sha256") for what in file}
        images = verify_array(file["images"], np.uint8, dataset["image_shape"], sha["images"])
        labels = verify_array(file["labels"], np.int64, [], sha["labels"])
        if len(images) != len(labels):
            raise damaged(file["labels"], "it does not hold one label for each image")
        if labels.min() < 0 or labels.max() >= len(dataset["classes"]):
            raise damaged(file["labels"], "it holds classes that dataset.json lacks")
