"""A validation split: a part of each class's training images takes the place of the test images.

Settings that are chosen by test images look better than they are. So a study with `validation: 0.1`
packs 90 % of each class's training images as its training images, and 10 % as its test images. The
test images themselves are not opened. All that follows, the memory too, sees this split only.
"""

import numpy as np

from wa.errors import UserError

SEED = 0  # one split for each data set: the class order and the seed of a run do not count


def held_back(images: int, share: float) -> int:
    """The number of a class's training images that are for validation.

    share: of `images`, above 0 and at most 0.5. Raises UserError if nothing is left to train on.
    """
    if images < 2:
        raise UserError(
            f"{images} training image is too few: validation needs one, and training needs one"
        )
    return max(1, round(share * images))


def for_validation(images: int, share: float) -> np.ndarray:
    """Which of a class's training images are for validation: bool (images,).

    They are drawn at random. The draw depends on `images` and `share` only. Raises UserError as
    held_back does.
    """
    chosen = np.zeros(images, bool)
    drawn = np.random.RandomState(SEED).permutation(images)
    chosen[drawn[: held_back(images, share)]] = True
    return chosen


def split_files(
    files: dict[str, list[str]], share: float
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The files to train on, and those for validation. files: class -> its training files."""
    train, held = {}, {}
    for name, of_class in files.items():
        chosen = for_validation(len(of_class), share)
        train[name] = [file for file, is_held in zip(of_class, chosen, strict=True) if not is_held]
        held[name] = [file for file, is_held in zip(of_class, chosen, strict=True) if is_held]
    return train, held


def split_labels(label: np.ndarray, share: float) -> np.ndarray:
    """Which training images are for validation: bool (n,). label: integers (n,)."""
    chosen = np.zeros(len(label), bool)
    for c in np.unique(label):
        rows = np.flatnonzero(label == c)
        chosen[rows] = for_validation(len(rows), share)
    return chosen
