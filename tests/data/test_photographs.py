"""Photographs of all sizes: packing, two tasks of training, and prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import program, scheduled, small_study, snakemake
from test_datasets import imagenet, photographs

import wa
from wa.checkpoint import read_checkpoint
from wa.data.folders import listing
from wa.errors import UserError
from wa.files import read_arrays, read_json
from wa.study.study import Study

RECIPE = ["--epochs", 2, "--batch-size", 4, "--lr", 0.01]
RECIPE += ["--augmentation", "resized-crop-32", "flip", "jitter-0.4-0.4-0.4"]


def run(module: str, *options: object) -> str:
    """What a program prints. It must end well."""
    done = program(module, *options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def pack_pets(raw: Path, data: Path) -> None:
    photographs(raw, [(60, 48), (40, 64), (200, 190)], ("cat", "cow", "dog"))
    options = ["--dataset", "pets", "--path", raw, "--output", data, "--cache-size", 40]
    run("wa.data.datasets", *options)
    options = ["--order", "natural", "--dataset", data / "dataset.json"]
    run("wa.data.scenario", *options, "--output", data / "order.json")


def learn_two_tasks(recipe: list, base: Path, task: Path) -> str:
    """Train task 0 and task 1, and align. Returns what the second training prints."""
    run("wa.training.train", *recipe, "--tasks", 2, "--output", base)
    options = ["--features", base / "features.npz", "--output", base / "herding.npz"]
    run("wa.methods.selection", *options)
    assert len(read_arrays(base / "herding.npz")["ranking"]) == 6
    previous = ["--model", base / "trained.safetensors", "--ranking", base / "herding.npz"]
    previous += ["--memory", 4, "--distillation", 0.5]
    said = run("wa.training.train", *recipe, "--tasks", 2, 1, "--output", task, *previous)
    options = ["--trained", task / "trained.safetensors", "--report", task / "r.json"]
    options += ["--output", task / "model.safetensors", "--alignment", "weight"]
    run("wa.methods.alignment", *options)
    return said


@pytest.mark.parametrize(
    "backbone", ["resnet8", pytest.param("timm/test_vit", marks=pytest.mark.slow)]
)
def test_two_tasks_and_prediction(tmp_path, backbone):
    """Prediction sees a file as evaluation saw it: the square, the centre, the normalisation."""
    raw, data, base, task = (tmp_path / name for name in ("raw", "data", "base", "task"))
    pack_pets(raw, data)
    recipe = [*RECIPE, "--backbone", backbone, "--data", data, "--order", data / "order.json"]
    said = learn_two_tasks(recipe, base, task)
    assert "kd 0.0000" not in said
    assert 0 < read_json(task / "r.json")["gamma"] < 10
    _, header = read_checkpoint(task / "trained.safetensors")
    assert header["input_size"] == [32, 32] and header["cache_size"] == 40
    assert header["image_shape"] == [40, 40, 3]

    model = wa.load(task / "trained.safetensors")
    features = read_arrays(task / "features.npz")["test_features"]
    files = [file for of_class in listing("pets", raw)[1].values() for file in of_class]
    with torch.no_grad():
        ours = torch.cat([model.model.backbone(model.preprocess(file)[None]) for file in files])
    np.testing.assert_allclose(ours, features, atol=1e-4, rtol=1e-4)


PETS = {
    "dataset": "pets",
    "path": "raw",
    "cache_size": 24,
    "protocols": [{"base": 1, "increment": 1}],
}


@pytest.mark.slow
def test_studies_share_what_was_packed(tmp_path):
    """Nothing is packed twice, and no study uses what was packed from other classes or in a size.

    The folder's name says the size. dataset.json says the classes.
    """
    photographs(tmp_path / "raw", [(60, 48), (40, 64)], ("cat", "cow", "dog"))
    first = small_study() | PETS
    first["training"] |= {"batch_size": 2, "augmentation": ["resized-crop-16"]}
    done = snakemake(tmp_path, "results/data/pets-24/dataset.json", config=first)
    assert done.returncode == 0, done.stdout
    assert "prepare" not in scheduled(tmp_path, first)
    elsewhere = first | {"experiment": "second", "path": "elsewhere"}
    assert "prepare" not in scheduled(tmp_path, elsewhere)
    assert scheduled(tmp_path, first | {"experiment": "third", "cache_size": 16})["prepare"] == 1
    said = snakemake(tmp_path, "-n", config=first | {"cache_size": 8}).stdout
    message = "training.augmentation: resized-crop-16 is larger than the images, 8 x 8 pixels"
    assert message in said


@pytest.mark.slow
def test_another_list_of_classes_needs_another_name(tmp_path):
    photographs(tmp_path / "raw", [(60, 48), (40, 64)], ("cat", "cow", "dog"))
    first = small_study() | PETS
    first["training"] |= {"batch_size": 2, "augmentation": ["resized-crop-16"]}
    done = snakemake(tmp_path, "results/data/pets-24/dataset.json", config=first)
    assert done.returncode == 0, done.stdout
    packed = tmp_path / "results/data/pets-24/train_images.npy"
    before = packed.stat().st_mtime_ns
    chosen = first | {"experiment": "second", "classes": ["dog", "cat"]}
    said = snakemake(tmp_path, "-n", config=chosen).stdout
    assert "results/data/pets-24 was packed from another list of classes. Give the dataset" in said

    chosen = chosen | {"dataset": "two-pets"}
    done = snakemake(tmp_path, "results/data/two-pets-24/dataset.json", config=chosen)
    assert done.returncode == 0, done.stdout
    assert "prepare" not in scheduled(tmp_path, chosen)
    assert packed.stat().st_mtime_ns == before
    said = snakemake(tmp_path, "-n", config=first | {"dataset": "two-pets"}).stdout
    assert "two-pets-24 was packed from another list of classes" in said


def test_the_default_size_and_its_number_are_one_cache(tmp_path):
    path = str(imagenet(tmp_path / "imagenet", 100))
    config = small_study() | {"dataset": "imagenet100", "path": path}
    config["methods"]["wa"]["memory"], config["training"]["batch_size"] = 200, 2
    implied, said = (Study(config | size, str(tmp_path)) for size in ({}, {"cache_size": 256}))
    assert implied.parts == said.parts
    assert implied.parts[0].folder == f"{tmp_path}/data/imagenet100-256"
    assert implied.parts[0].options() == said.parts[0].options()


def test_only_folders_of_images_have_a_cache_size(tmp_path):
    message = "config: dataset 'digits': cache_size and classes are for folders of images"
    with pytest.raises(UserError, match=message):
        Study(small_study() | {"cache_size": 16}, str(tmp_path))
