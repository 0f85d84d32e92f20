"""`input: timm`: original files through timm's own transforms in workers."""

import random

import numpy as np
import pytest
import torch
from helpers import program
from PIL import Image
from test_datasets import photographs
from timm.data import create_transform

from wa.checkpoint import read_checkpoint
from wa.data.folders import listing
from wa.data.timm_input import Originals, transform
from wa.errors import UserError
from wa.files import read_json
from wa.randomness import key, uniform

AUGMENTATION = ["resized-crop-32", "flip", "rand-m9-mstd0.5-inc1", "erase-0.5"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """The folder of photographs, the folder of its packed squares."""
    folder = tmp_path_factory.mktemp("pets")
    photographs(folder / "raw", [(60, 48), (40, 64), (200, 190)], ("cat", "cow", "dog"))
    packed = folder / "packed"
    for options in (
        (
            "wa.data.datasets",
            "--dataset",
            "pets",
            "--path",
            folder / "raw",
            "--output",
            packed,
            "--cache-size",
            40,
        ),
        (
            "wa.data.scenario",
            "--order",
            "natural",
            "--dataset",
            packed / "dataset.json",
            "--output",
            packed / "order.json",
        ),
    ):
        assert program(*options).returncode == 0
    return folder / "raw", packed


@pytest.mark.parametrize("threads", [1, 2])
def test_images_are_timms_and_depend_on_nothing_but_key_and_image(pets, threads):
    raw, packed = pets
    dataset = read_json(packed / "dataset.json")
    originals = Originals(dataset, raw, AUGMENTATION)
    files = [file for of_class in listing("pets", raw)[0].values() for file in of_class]
    labels = np.load(packed / "train_labels.npy")
    assert [dataset["classes"][c] for c in labels] == [file.split("/")[-2] for file in files]

    theirs = create_transform(
        32, is_training=True, interpolation="bilinear", auto_augment=AUGMENTATION[2], re_prob=0.5, re_mode="pixel",
        mean=tuple(dataset["mean"]), std=tuple(dataset["std"]),
    )  # fmt: skip
    index = torch.tensor([4, 0, 7, 2, 2])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = list(originals.batches(key(5), index.split(2), torch.device("cpu")))
        other = torch.cat(list(originals.batches(key(6), index.split(5), torch.device("cpu"))))
    finally:
        torch.set_num_threads(before)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    ours = torch.cat(batches)
    for image, i in zip(ours, index.tolist(), strict=True):
        seed = round(uniform(key(5), torch.tensor([i]), 1).item() * 2**24)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        assert torch.equal(image, theirs(Image.open(files[i]).convert("RGB")))
    assert torch.equal(ours[3], ours[4]) and not torch.equal(ours[3], ours[0])
    assert not torch.equal(ours[0], other[0])


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["resized-crop-32"], ["RandomResizedCropAndInterpolation"]),
        (
            ["resized-crop-32", "flip"],
            ["RandomResizedCropAndInterpolation", "RandomHorizontalFlip"],
        ),
        (
            ["resized-crop-32", "jitter-0.4-0.3-0.2"],
            ["RandomResizedCropAndInterpolation", "ColorJitter"],
        ),
        (
            ["resized-crop-32", "erase-0.25-const"],
            ["RandomResizedCropAndInterpolation", "RandomErasing"],
        ),
    ],
)
def test_the_names_mean_what_they_mean_for_the_packed_images(names, kinds):
    steps = transform(names, [0.5] * 3, [0.2] * 3).transforms
    assert [
        type(s).__name__ for s in steps if type(s).__name__ not in ("MaybeToTensor", "Normalize")
    ] == kinds
    if kinds[-1] == "ColorJitter":
        assert (steps[1].brightness, steps[1].contrast, steps[1].saturation) == (
            (0.6, 1.4),
            (0.7, 1.3),
            (0.8, 1.2),
        )
        assert steps[1].hue is None
    if kinds[-1] == "RandomErasing":
        assert (steps[-1].probability, steps[-1].rand_color, steps[-1].per_pixel) == (
            0.25,
            False,
            False,
        )


@pytest.mark.parametrize(
    "names",
    [
        ["flip"],
        ["crop-4", "flip"],
        ["resized-crop-32", "brightness-0.2"],
        ["resized-crop-32", "jitter-1-1-1", "rand-m9"],
    ],
)
def test_what_timm_does_not_do_is_refused(names):
    with pytest.raises(
        UserError,
        match=r"^\S.*: `input: timm` takes resized-crop-S and then, in this order, flip",
    ):
        transform(names, [0.5] * 3, [0.2] * 3)


def test_other_files_than_were_packed_are_refused(pets, tmp_path):
    dataset = read_json(pets[1] / "dataset.json")
    raw = photographs(tmp_path / "raw", [(60, 48), (40, 64)], ("cat", "cow", "dog"))
    with pytest.raises(UserError, match="holds other numbers of images than were packed"):
        Originals(dataset, raw, AUGMENTATION)
    for path in (tmp_path, None):
        with pytest.raises(
            UserError,
            match=r"`input: timm` reads the original files, but path .* is not a folder of images",
        ):
            Originals(dataset, path, AUGMENTATION)


@pytest.mark.slow
def test_a_training_gives_the_same_bits_each_time(pets, tmp_path):
    raw, packed = pets
    recipe = [
        "--input",
        "timm",
        "--path",
        raw,
        "--backbone",
        "resnet8",
        "--batch-size",
        4,
        "--lr",
        0.01,
    ]
    recipe += [
        "--augmentation",
        *AUGMENTATION,
        "--data",
        packed,
        "--order",
        packed / "order.json",
        "--tasks",
        3,
    ]
    weights = []
    for name, options in {"one": [], "two": [], "packed": ["--input", "packed"]}.items():
        run = program(
            "wa.training.train", *recipe, "--epochs", 2, "--output", tmp_path / name, *options
        )
        assert run.returncode == 0, run.stdout
        weights.append(read_checkpoint(tmp_path / name / "trained.safetensors")[0])
    same, differing = (
        [np.array_equal(weights[0][k], other[k]) for k in other] for other in weights[1:]
    )
    assert all(same) and not all(differing)
