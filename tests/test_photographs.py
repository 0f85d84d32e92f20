"""Photographs of all sizes through packing, two tasks of training and prediction."""

import numpy as np
import pytest
import torch
from conftest import program
from test_datasets import photographs

import wa
from wa.checkpoint import read_checkpoint
from wa.datasets import listing
from wa.files import read_arrays

RECIPE = ["--epochs", 2, "--batch-size", 4, "--lr", 0.01, "--augmentation", "resized-crop-32", "flip", "jitter-0.4-0.4-0.4"]


@pytest.mark.parametrize("backbone", ["resnet8", "timm/test_vit"])
def test_two_tasks_and_prediction(tmp_path, backbone):
    """What a checkpoint predicts for a file is what evaluation saw: square, centre, normalisation."""
    raw, data, base, task = (tmp_path / name for name in ("raw", "data", "base", "task"))
    photographs(raw, [(60, 48), (40, 64), (200, 190)], ("cat", "cow", "dog"))

    def run(module: str, *options: object) -> str:
        done = program(module, *options)
        assert done.returncode == 0, done.stdout
        return done.stdout

    run("wa.datasets", "--dataset", "pets", "--path", raw, "--output", data, "--cache-size", 40)
    run("wa.scenario", "--order", "natural", "--dataset", data / "dataset.json", "--output", data / "order.json")
    recipe = [*RECIPE, "--backbone", backbone, "--data", data, "--order", data / "order.json"]
    run("wa.train", *recipe, "--tasks", 2, "--output", base)
    run("wa.herding", "--features", base / "features.npz", "--output", base / "herding.npz")
    previous = ["--model", base / "trained.safetensors", "--herding", base / "herding.npz", "--memory", 4]
    said = run("wa.train", *recipe, "--tasks", 2, 1, "--output", task, *previous, "--distillation", 0.5)
    assert "kd 0.0000" not in said
    _, facts = read_checkpoint(task / "trained.safetensors")
    assert (facts["input_size"], facts["cache_size"], facts["image_shape"]) == ([32, 32], 40, [40, 40, 3])

    model, features = wa.load(task / "trained.safetensors"), read_arrays(task / "features.npz")["test_features"]
    files = [file for of_class in listing("pets", raw)[1].values() for file in of_class]
    with torch.no_grad():
        ours = torch.cat([model.model.backbone(model.preprocess(file)[None]) for file in files])
    np.testing.assert_allclose(ours, features, atol=1e-4, rtol=1e-4)
