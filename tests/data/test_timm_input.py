"""`input: timm`: the original files through timm's own transforms, in workers."""

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
    """The folder of the photographs, and the folder of the packed squares."""
    folder = tmp_path_factory.mktemp("pets")
    raw, packed = folder / "raw", folder / "packed"
    photographs(raw, [(60, 48), (40, 64), (200, 190)], ("cat", "cow", "dog"))
    packing = ["--dataset", "pets", "--path", raw, "--output", packed, "--cache-size", 40]
    ordering = ["--order", "natural", "--dataset", packed / "dataset.json"]
    ordering += ["--output", packed / "order.json"]
    for options in (("wa.data.datasets", *packing), ("wa.data.scenario", *ordering)):
        assert program(*options).returncode == 0
    return raw, packed


@pytest.mark.parametrize("threads", [1, 2])
def test_images_are_timms_and_depend_on_nothing_but_key_and_image(pets, threads):
    raw, packed = pets
    dataset = read_json(packed / "dataset.json")
    originals = Originals(dataset, raw, AUGMENTATION)
    files = [file for of_class in listing("pets", raw)[0].values() for file in of_class]
    labels = np.load(packed / "train_labels.npy")
    assert [dataset["classes"][c] for c in labels] == [file.split("/")[-2] for file in files]

    theirs = create_transform(
        32,
        is_training=True,
        interpolation="bilinear",
        auto_augment=AUGMENTATION[2],
        re_prob=0.5,
        re_mode="pixel",
        mean=tuple(dataset["mean"]),
        std=tuple(dataset["std"]),
    )
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


def steps_of(*names: str) -> list:
    """What timm's transform does after the crop, without what it always does."""
    crop, *steps = transform(["resized-crop-32", *names], [0.5] * 3, [0.2] * 3).transforms
    assert type(crop).__name__ == "RandomResizedCropAndInterpolation"
    return [s for s in steps if type(s).__name__ not in ("MaybeToTensor", "Normalize")]


def test_the_names_mean_what_they_mean_for_the_packed_images():
    assert steps_of() == []
    (flip,) = steps_of("flip")
    assert type(flip).__name__ == "RandomHorizontalFlip"
    (jitter,) = steps_of("jitter-0.4-0.3-0.2")
    assert type(jitter).__name__ == "ColorJitter" and jitter.hue is None
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation)
    assert strengths == ((0.6, 1.4), (0.7, 1.3), (0.8, 1.2))
    (erase,) = steps_of("erase-0.25-const")
    assert type(erase).__name__ == "RandomErasing" and erase.probability == 0.25
    assert not erase.rand_color and not erase.per_pixel


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
    message = r"^\S.*: `input: timm` takes resized-crop-S and then, in this order, flip"
    with pytest.raises(UserError, match=message):
        transform(names, [0.5] * 3, [0.2] * 3)


def test_other_files_than_were_packed_are_refused(pets, tmp_path):
    dataset = read_json(pets[1] / "dataset.json")
    raw = photographs(tmp_path / "raw", [(60, 48), (40, 64)], ("cat", "cow", "dog"))
    with pytest.raises(UserError, match="holds other numbers of images than were packed"):
        Originals(dataset, raw, AUGMENTATION)
    message = "`input: timm` reads the original files, but path .* is not a folder of images"
    for path in (tmp_path, None):
        with pytest.raises(UserError, match=message):
            Originals(dataset, path, AUGMENTATION)


@pytest.mark.slow
def test_a_training_gives_the_same_bits_each_time(pets, tmp_path):
    raw, packed = pets
    recipe = ["--backbone", "resnet8", "--batch-size", 4, "--lr", 0.01]
    recipe += [
        "--epochs",
        2,
        "--tasks",
        3,
        "--path",
        raw,
        "--data",
        packed,
        "--order",
        packed / "order.json",
    ]
    recipe += ["--augmentation", *AUGMENTATION]

    def weights(name: str, kind: str) -> dict[str, np.ndarray]:
        run = program("wa.training.train", *recipe, "--input", kind, "--output", tmp_path / name)
        assert run.returncode == 0, run.stdout
        return read_checkpoint(tmp_path / name / "trained.safetensors")[0]

    first, again, other = weights("one", "timm"), weights("two", "timm"), weights("three", "packed")
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)
