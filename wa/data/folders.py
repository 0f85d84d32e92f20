"""Folders of images: which classes and which files they hold. No image is opened here.

A folder of images is `train/CLASS/*` and `test/CLASS/*` (or `val/CLASS/*`). Classes and images are
in the order of their names. A `val` without a folder for each class needs an annotation file, which
says the class of each image.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wa.errors import UserError, nearest
from wa.files import read_text

# Data sets of ImageNet: the number of classes.
IMAGENET = {"imagenet100": 100, "imagenet100-1993": 100, "imagenet1000": 1000}
DRAWN = "imagenet100-1993"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".tif", ".tiff", ".gif"}
DEVKIT = "ILSVRC2012_devkit_t12"
Files = dict[str, list[str]]  # class -> its images
SIZED = 20_000  # files whose size is in the fingerprints. All of ImageNet's are slow.


def is_folder(path: str | Path) -> bool:
    """Whether a path is meant to be a folder of images."""
    return (Path(path) / "train").is_dir()


def splits(path: str | Path) -> tuple[Path, Path]:
    """The folders of the training and the test images. Raises UserError if one does not exist."""
    train, test = Path(path, "train"), Path(path, "test")
    if not test.is_dir():
        test = Path(path, "val")
    absent = "train/" * (not train.is_dir()), "test/ (or val/)" * (not test.is_dir())
    if any(absent):
        raise UserError(
            f"{path} has no {' and no '.join(filter(None, absent))}. It needs both, each with a"
            " folder of images for each class"
        )
    return train, test


def class_folders(split: Path) -> list[str]:
    """The names of the classes. Raises UserError if there are none."""
    folders = sorted(e.name for e in os.scandir(split) if e.is_dir() and not e.name.startswith("."))
    for name in folders:
        try:
            os.fsencode(name).decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(
                f"{split / name}: the name of this class is not UTF-8. Rename the folder, in"
                " train/ and test/ (or val/)"
            ) from None
    if not folders:
        raise UserError(f"{split} is empty: it must hold a folder of images for each class")
    return folders


def images_in(folder: Path) -> list[str]:
    """The paths of the images that lie in a folder itself. Links are followed later."""
    files = [entry for entry in os.scandir(folder) if entry.is_file() or entry.is_symlink()]
    paths = [entry.path for entry in files if not entry.name.startswith(".")]
    return sorted(path for path in paths if os.path.splitext(path)[1].lower() in SUFFIXES)


def loose_images(folder: Path) -> list[str]:
    """The images in a folder, or in its folder `images`, where Tiny-ImageNet has them."""
    inner = folder / "images"
    return images_in(folder) or (images_in(inner) if inner.is_dir() else [])


def few(names: Iterable[str]) -> str:
    """The first three of the names."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + ", ..." * (len(ordered) > 3)


def left_out(path: str | Path) -> list[str]:
    """What is not read: a line for each folder, at most 20.

    That is images beside the folders of the classes, and what lies in these folders and is no
    image. Hidden files, such as those of macOS, and Thumbs.db are not named.
    """
    lines = []
    for split in splits(path):
        folders = [Path(split, e.name) for e in os.scandir(split) if e.is_dir()]
        loose = images_in(split)
        if loose and folders and folders != [split / "images"]:
            lines.append(
                f"{split}: images in no class's folder are ignored ({len(loose)}):"
                f" {few(map(os.path.basename, loose))}"
            )
        for folder in sorted(folder for folder in folders if not folder.name.startswith(".")):
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
            read = set(loose_images(folder))
            inner = any(os.path.dirname(file) != str(folder) for file in read)
            names = [
                entry.name + "/" * entry.is_dir()
                for entry in entries
                if entry.path not in read
                and entry.name != "Thumbs.db"
                and not (inner and entry.name == "images")
            ]
            if names:
                lines.append(f"{folder}: {len(names)} files or folders are ignored: {few(names)}")
    more = len(lines) - 19
    return lines if more < 2 else [*lines[:19], f"... and {more} more folders"]


def image_files(folder: Path) -> list[str]:
    """The images of a class. Raises UserError if there are none."""
    files = loose_images(folder)
    if not files:
        raise UserError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}). Add some, or remove the"
            " class"
        )
    return files


def choose(dataset: str, path: str | Path, have: list[str], wanted: list[str] | None) -> list[str]:
    """The classes to read. have: those in the folder. wanted: those that the config lists, if any.

    ImageNet-100 is usually the first 100 classes of ImageNet in alphabetical order, n01440764 to
    n01855672 (Rebuffi et al., iCaRL, CVPR 2017). PODNet, DER and others use them, see
    imagenet_split/ of arthurdouillard/incremental_learning.pytorch. LUCIR drew another hundred, as
    PyCIL and FOSTER do: `imagenet100-1993`. Only 9 classes are in both. They are read in
    alphabetical order too, as PyCIL's ImageFolder reads them.

    Raises UserError if classes are missing.
    """
    if wanted:
        missing = sorted(set(wanted) - set(have))
        if missing:
            guesses = {c: nearest(c, have) for c in missing[:5]}
            named = ", ".join(
                f"{c!r}" + (f" (did you mean {near!r}?)" if near else "")
                for c, near in guesses.items()
            )
            raise UserError(
                f"{path}/train has no folder for {len(missing)} of the classes that the config"
                f" lists: {named}" + ", ..." * (len(missing) > 5)
            )
        return wanted
    if dataset in IMAGENET and len(have) not in (IMAGENET[dataset], 1000):
        possible = "1000" if dataset == "imagenet1000" else "100 or 1000"
        raise UserError(
            f"{path}/train holds {len(have)} classes, but {dataset} needs {possible}. List the"
            " `classes` in the config to use others"
        )
    if dataset == DRAWN and len(have) == 1000:
        drawn = np.random.RandomState(1993).permutation(1000)[:100]
        return [have[c] for c in sorted(drawn)]
    return have[: IMAGENET.get(dataset)]


def devkit(folder: Path) -> dict[str, str]:
    """The class of each validation image of ImageNet, by the name of its file without suffix.

    folder: `data` of ImageNet's devkit. It numbers the classes.
    """
    from scipy.io import loadmat

    synsets = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
    wnid = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    numbers = (
        (folder / "ILSVRC2012_validation_ground_truth.txt").read_text(encoding="utf-8").split()
    )
    return {f"ILSVRC2012_val_{i:08d}": wnid[int(number)] for i, number in enumerate(numbers, 1)}


def read_annotations(file: Path) -> dict[str, str]:
    """The class of each image, by the name of its file without suffix.

    Each line begins with the image and its class, divided by a comma or white space.
    """
    classes = {}
    for line in read_text(file).splitlines():
        if line:
            image, label = re.split(r"[\s,]+", line)[:2]
            classes[os.path.splitext(image)[0]] = label
    return classes


def annotations(path: Path, val: Path) -> tuple[Path, dict[str, str]]:
    """The annotation file of a flat folder, and what it says, as read_annotations returns it.

    Known are ImageNet's devkit, Kaggle's LOC_val_solution.csv, and Tiny-ImageNet's
    val_annotations.txt. Raises UserError if none of them is there.
    """
    if (path / DEVKIT / "data/meta.mat").exists():
        return path / DEVKIT, devkit(path / DEVKIT / "data")
    for folder in (val, path):
        for name in ("val_annotations.txt", "LOC_val_solution.csv"):
            if (folder / name).exists():
                return folder / name, read_annotations(folder / name)
    raise UserError(
        f"{val} has no folder for each class. Put {DEVKIT}/, LOC_val_solution.csv or"
        f" val_annotations.txt (in each line: IMAGE CLASS) into {path}, or sort its images:"
        f" cd {val} && wget -qO- https://raw.githubusercontent.com/soumith/"
        "imagenetloader.torch/master/valprep.sh | bash"
    )


def annotated(path: Path, val: Path, names: list[str]) -> Files:
    """The images of a flat folder by class.

    Raises UserError if an image has no class, or if a class has no images.
    """
    file, label = annotations(path, val)
    found: Files = {name: [] for name in names}
    unknown = []
    for image in loose_images(val):
        name = label.get(os.path.splitext(os.path.basename(image))[0])
        if name is None:
            unknown.append(image)
        elif name in found:
            found[name].append(image)
    if unknown:
        raise UserError(
            f"{file} does not say the class of {len(unknown)} images, for instance {unknown[0]}"
        )
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise UserError(
            f"{val} holds no images of {len(empty)} classes, as {file} says: {empty[:5]}"
        )
    return found


def listing(dataset: str, path: str | Path, wanted: list[str] | None = None) -> tuple[Files, Files]:
    """The training and the test images of a folder of images, by class. No image is opened.

    wanted: the classes to read, in this order. None: all.
    Raises UserError if the folder is not laid out as this module says.
    """
    train, test = splits(path)
    have = class_folders(train)
    names = choose(dataset, path, have, wanted)
    trained = {name: image_files(train / name) for name in names}
    if not any((test / name).is_dir() for name in names) and loose_images(test):
        return trained, annotated(Path(path), test, names)
    tested = set(class_folders(test))
    differing = set(names) - tested
    if not differing and not wanted and names == have:  # others may lie beside chosen classes
        differing = tested - set(have)
    if differing:
        raise UserError(
            f"{train} and {test} hold different classes: only one of them has"
            f" {sorted(differing)[:5]}"
        )
    return trained, {name: image_files(test / name) for name in names}


def size(file: str) -> int:
    """The size of a file in bytes, or -1 if it is a link to nothing."""
    return os.path.getsize(file) if os.path.exists(file) else -1


def fingerprints(train: Files, test: Files, n_classes: int | None = None) -> dict[str, str]:
    """What tells the images of one class from others: the names and the sizes of the files.

    n_classes: the number of classes of the data set, if these are only some of them. The more
    classes, the fewer files of each count with their size. The place of the folder and the dates of
    its files do not count. No image is opened.
    """
    sized = max(20, SIZED // (n_classes or len(train)))
    found = {}
    for name in train:
        digest = hashlib.sha256()
        for files in (train[name], test[name]):
            step = len(files) // sized + 1
            words = [name, *map(os.path.basename, files), *map(str, map(size, files[::step]))]
            digest.update("/".join([*words, ""]).encode(errors="surrogateescape"))
        found[name] = digest.hexdigest()[:16]
    return found
