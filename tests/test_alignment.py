"""Weight aligning by its definition."""

import json

import numpy as np
import pytest
from conftest import program

from wa.alignment import align_weight, gamma, row_norms
from wa.checkpoint import read_checkpoint, write_checkpoint


@pytest.fixture
def weight() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(6, 16)), 3 * rng.normal(size=(4, 16))]).astype(np.float32)


def test_mean_norms_are_equal_afterwards(weight):
    norms = row_norms(align_weight(weight, 6))
    assert norms[:6].mean() == pytest.approx(norms[6:].mean(), rel=1e-6)
    assert gamma(weight, 6) < 1


def test_old_rows_are_untouched_and_new_ones_only_scaled(weight):
    aligned = align_weight(weight, 6)
    assert aligned.dtype == weight.dtype
    assert (aligned[:6] == weight[:6]).all()
    np.testing.assert_allclose(aligned[6:], gamma(weight, 6) * weight[6:].astype(float), rtol=1e-6)


def test_aligning_twice_is_aligning_once(weight):
    once = align_weight(weight, 6)
    np.testing.assert_allclose(align_weight(once, 6), once, rtol=1e-6)


def test_rankings_within_old_and_within_new_classes_stay(weight):
    x = np.random.default_rng(1).normal(size=(100, 16))
    bias = np.random.default_rng(2).normal(size=10)
    before, after = x @ weight.T, x @ align_weight(weight, 6).T
    assert (before[:, 6:].argsort(axis=1) == after[:, 6:].argsort(axis=1)).all()  # without biases
    assert ((before + bias)[:, :6].argsort(axis=1) == (after + bias)[:, :6].argsort(axis=1)).all()  # always


def test_program(tmp_path, weight):
    tensors = {"classifier.heads.0.weight": weight[:6], "classifier.heads.1.weight": weight[6:], "x": np.array(7)}
    write_checkpoint(tmp_path / "trained.safetensors", tensors, {"task_sizes": [6, 4], "more": "facts"})
    options = ("--trained", tmp_path / "trained.safetensors", "--output", tmp_path / "model.safetensors")
    run = program("wa.alignment", *options, "--report", tmp_path / "a.json", "--alignment", "weight")
    assert run.returncode == 0, run.stdout
    aligned, facts = read_checkpoint(tmp_path / "model.safetensors")
    assert facts == {"task_sizes": [6, 4], "more": "facts", "alignment": "weight"}
    assert (aligned["classifier.heads.0.weight"] == weight[:6]).all() and aligned["x"].shape == () and aligned["x"] == 7
    np.testing.assert_array_equal(aligned["classifier.heads.1.weight"], align_weight(weight, 6)[6:])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["gamma"] == gamma(weight, 6) and len(report["row_norms"]["aligned"]) == 10
