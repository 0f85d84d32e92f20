"""The program that evaluates a task, on checkpoints with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import program

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.files import read_arrays, read_json, write_arrays
from wa.methods import algorithm
from wa.models.model import CilModel

SIZES, D = [4, 2], 64


@pytest.fixture
def task(tmp_path):
    """A function that evaluates a task of an algorithm, from its model as trained."""

    def evaluate(name: str, model: CilModel, features: np.ndarray, alignment: str = "none") -> Path:
        write_checkpoint(tmp_path / "trained.safetensors", model.tensors(), {"task_sizes": SIZES})
        made_from = {
            "from_trained": read_checkpoint(tmp_path / "trained.safetensors")[1]["content_sha256"]
        }
        label = np.arange(len(features)) % sum(SIZES)
        arrays = {"features": features, "label": label, "index": np.arange(len(label))}
        arrays |= {"test_features": features, "test_label": label}
        write_arrays(tmp_path / "features.npz", made_from, **arrays)
        files = ["--features", tmp_path / "features.npz"]
        files += ["--trained", tmp_path / "trained.safetensors"]
        aligned = ["--output", tmp_path / "model.safetensors"]
        aligned += ["--report", tmp_path / "alignment.json", "--alignment", alignment]
        run("wa.methods.alignment", *files[2:], *aligned)
        fitted, own = [], ["--algorithm", name, "--options"]
        own += algorithm.to_words(algorithm.with_defaults(name, {}))
        if algorithm.facts(name).classifier:
            run("wa.methods.fit", *files, *own, "--output", tmp_path / "fitted.npz")
            fitted = ["--fitted", tmp_path / "fitted.npz"]
        files += ["--model", tmp_path / "model.safetensors"]
        files += ["--alignment", tmp_path / "alignment.json", *fitted]
        files += ["--predictions", tmp_path / "predictions.npz"]
        run("wa.analysis.evaluate", *files, *own, "--metrics", tmp_path / "metrics.json")
        return tmp_path

    return evaluate


def run(name: str, *options: object) -> None:
    done = program(name, *options)
    assert done.returncode == 0, done.stdout


def model_of(name: str) -> CilModel:
    """A model with random rows of very different lengths."""
    kind = algorithm.load(name, "Learner").classifier
    torch.manual_seed(0)
    model = CilModel("resnet8", 1, SIZES, classifier=kind)
    with torch.no_grad():
        for head in model.classifier.heads:
            head.weight.mul_(torch.logspace(-1, 1, len(head.weight))[:, None])
        for scale in ("sigma", "eta"):
            if hasattr(model.classifier, scale):
                getattr(model.classifier, scale).fill_(7.0)
    return model


@pytest.mark.parametrize("alignment", ["none", "weight"])
@pytest.mark.parametrize("name", ["ewc", "lucir", "podnet"])
def test_trained_is_the_classifier_that_was_trained(name, alignment, task):
    """By torch's own class of it, with the scale of its loss."""
    model = model_of(name)
    features = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
    folder = task(name, model, features, alignment)
    with torch.no_grad():
        logits = model.classifier(torch.from_numpy(features))
        logits = logits * getattr(model.classifier, "eta", 1.0)
    found = read_arrays(folder / "predictions.npz")
    np.testing.assert_array_equal(found["trained"], logits.argmax(dim=1))
    best = logits.softmax(dim=1).amax(dim=1)
    np.testing.assert_allclose(found["trained_confidence"], best, rtol=1e-4)
    metrics = read_json(folder / "metrics.json")
    if name in ("lucir", "podnet"):
        assert metrics["trained"]["accuracy"] == metrics["fitted"]["accuracy"]
        if alignment != "none":  # the length of a row says nothing to a cosine
            np.testing.assert_array_equal(found["aligned"], found["trained"])


def test_new_rows_of_zeros_have_no_gamma(task):
    model = model_of("ewc")
    with torch.no_grad():
        model.classifier.heads[1].weight.zero_()
    features = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
    trained = read_json(task("ewc", model, features) / "metrics.json")["trained"]
    assert "gamma" not in trained and trained["row_norm_5"] == 0
