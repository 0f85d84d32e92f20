"""Photographs of all sizes through packing, two tasks of training and prediction."""

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

RECIPE = [
    "--epochs",
    2,
    "--batch-size",
    4,
    "--lr",
    0.01,
    "--augmentation",
    "resized-crop-32",
    "flip",
    "jitter-0.4-0.4-0.4",
]


@pytest.mark.parametrize(
    "backbone", ["resnet8", pytest.param("timm/test_vit", marks=pytest.mark.slow)]
)
def test_two_tasks_and_prediction(tmp_path, backbone):
    """What a checkpoint predicts for a file is what evaluation saw: square, centre, normalisation."""
    raw, data, base, task = (tmp_path / name for name in ("raw", "data", "base", "task"))
    photographs(raw, [(60, 48), (40, 64), (200, 190)], ("cat", "cow", "dog"))

    def run(module: str, *options: object) -> str:
        done = program(module, *options)
        assert done.returncode == 0, done.stdout
        return done.stdout

    run(
        "wa.data.datasets", "--dataset", "pets", "--path", raw, "--output", data, "--cache-size", 40
    )
    run(
        "wa.data.scenario",
        "--order",
        "natural",
        "--dataset",
        data / "dataset.json",
        "--output",
        data / "order.json",
    )
    recipe = [*RECIPE, "--backbone", backbone, "--data", data, "--order", data / "order.json"]
    run("wa.training.train", *recipe, "--tasks", 2, "--output", base)
    run(
        "wa.methods.selection",
        "--features",
        base / "features.npz",
        "--output",
        base / "herding.npz",
    )
    assert len(read_arrays(base / "herding.npz")["ranking"]) == 6
    previous = [
        "--model",
        base / "trained.safetensors",
        "--ranking",
        base / "herding.npz",
        "--memory",
        4,
    ]
    said = run(
        "wa.training.train",
        *recipe,
        "--tasks",
        2,
        1,
        "--output",
        task,
        *previous,
        "--distillation",
        0.5,
    )
    assert "kd 0.0000" not in said
    options = [
        "--trained",
        task / "trained.safetensors",
        "--output",
        task / "model.safetensors",
        "--report",
        task / "r.json",
    ]
    run("wa.methods.alignment", *options, "--alignment", "weight")
    assert 0 < read_json(task / "r.json")["gamma"] < 10
    _, dataset = read_checkpoint(task / "trained.safetensors")
    assert (dataset["input_size"], dataset["cache_size"], dataset["image_shape"]) == (
        [32, 32],
        40,
        [40, 40, 3],
    )

    model, features = (
        wa.load(task / "trained.safetensors"),
        read_arrays(task / "features.npz")["test_features"],
    )
    files = [file for of_class in listing("pets", raw)[1].values() for file in of_class]
    with torch.no_grad():
        ours = torch.cat([model.model.backbone(model.preprocess(file)[None]) for file in files])
    np.testing.assert_allclose(ours, features, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_studies_share_what_was_packed(tmp_path):
    """Never packed twice, and never another study's: the folder's name and what is in it say the size and the classes."""
    photographs(tmp_path / "raw", [(60, 48), (40, 64)], ("cat", "cow", "dog"))
    first = small_study() | {
        "dataset": "pets",
        "path": "raw",
        "cache_size": 24,
        "protocols": [{"base": 1, "increment": 1}],
    }
    first["training"] |= {"batch_size": 2, "augmentation": ["resized-crop-16"]}
    run = snakemake(tmp_path, "results/data/pets-24/dataset.json", config=first)
    assert run.returncode == 0, run.stdout
    assert "prepare" not in scheduled(tmp_path, first)
    assert "prepare" not in scheduled(
        tmp_path, first | {"experiment": "second", "path": "elsewhere"}
    )
    assert scheduled(tmp_path, first | {"experiment": "third", "cache_size": 16})["prepare"] == 1
    assert (
        "training.augmentation: resized-crop-16 is larger than the images, 8 x 8 pixels"
        in snakemake(tmp_path, "-n", config=first | {"cache_size": 8}).stdout
    )
    packed = tmp_path / "results/data/pets-24/train_images.npy"
    before = packed.stat().st_mtime_ns
    chosen = first | {"experiment": "fourth", "classes": ["dog", "cat"]}
    said = snakemake(tmp_path, "-n", config=chosen).stdout
    assert (
        "results/data/pets-24 was packed from another list of classes. Give the dataset another name"
        in said
    )

    chosen = chosen | {"dataset": "two-pets"}
    run = snakemake(tmp_path, "results/data/two-pets-24/dataset.json", config=chosen)
    assert run.returncode == 0, run.stdout
    assert "prepare" not in scheduled(tmp_path, chosen) and packed.stat().st_mtime_ns == before
    said = snakemake(tmp_path, "-n", config=first | {"dataset": "two-pets"}).stdout
    assert "two-pets-24 was packed from another list of classes" in said


def test_the_default_size_and_its_number_are_one_cache(tmp_path):
    path = str(imagenet(tmp_path / "imagenet", 100))
    config = small_study() | {"dataset": "imagenet100", "path": path}
    config["methods"]["wa"]["memory"], config["training"]["batch_size"] = 200, 2
    implied, said = (Study(config | size, str(tmp_path)) for size in ({}, {"cache_size": 256}))
    assert (
        implied.data == said.data == f"{tmp_path}/data/imagenet100-256"
        and implied.packing() == said.packing()
    )
    with pytest.raises(
        UserError,
        match="config: dataset 'digits': cache_size and classes are for folders of images",
    ):
        Study(small_study() | {"cache_size": 16}, str(tmp_path))
