"""Alignments against their definitions. BiC's fit finds a bias that was put in."""

import json

import numpy as np
import pytest
import torch
from helpers import program

from wa.checkpoint import read_checkpoint, with_classifier, write_checkpoint
from wa.errors import UserError
from wa.files import write_arrays
from wa.methods.alignment import ALIGNMENTS, Options, fit_bias, gamma, row_norms

NO_BIAS = np.zeros(10, np.float32)


@pytest.fixture
def weight() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(6, 16)), 3 * rng.normal(size=(4, 16))]).astype(
        np.float32
    )


def align(name: str, weight: np.ndarray, **options: object) -> np.ndarray:
    return ALIGNMENTS[name](weight, NO_BIAS[: len(weight)], 6, Options(**options))[0]


def test_mean_norms_are_equal_afterwards(weight):
    norms = row_norms(align("weight", weight))
    assert norms[:6].mean() == pytest.approx(norms[6:].mean(), rel=1e-6)
    assert gamma(weight, 6) < 1


@pytest.mark.parametrize("longer", [3, 0.1])
def test_with_the_authors_norm_and_limit_it_is_their_scaling_of_the_logits(weight, longer):
    """As iLearn.py of bwbwzhao/Weight-Aligning has it, written down again."""
    weight[6:] *= longer
    rows = torch.from_numpy(weight)
    norms = torch.norm(rows, p=1, dim=1)
    alpha = (norms[:6].mean() / norms[6:].mean()).clamp_(max=1.0)
    assert (alpha == 1) == (longer < 1)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    corrected = torch.cat([x @ rows[:6].T, alpha * (x @ rows[6:].T)], dim=1)
    aligned = torch.from_numpy(align("weight", weight, norm=1, limit=1))
    torch.testing.assert_close(x @ aligned.T, corrected, rtol=1e-5, atol=1e-5)


def test_old_rows_are_untouched_and_new_ones_only_scaled(weight):
    aligned = align("weight", weight)
    assert aligned.dtype == weight.dtype
    assert (aligned[:6] == weight[:6]).all()
    np.testing.assert_allclose(aligned[6:], gamma(weight, 6) * weight[6:].astype(float), rtol=1e-6)


@pytest.mark.parametrize("name", ["none", "weight", "weight-clipped", "unit"])
def test_aligning_twice_is_aligning_once(weight, name):
    once = align(name, weight)
    np.testing.assert_allclose(align(name, once), once, rtol=1e-6)


def test_rankings_within_old_and_within_new_classes_stay(weight):
    x = np.random.default_rng(1).normal(size=(100, 16))
    bias = np.random.default_rng(2).normal(size=10)
    before, after = x @ weight.T, x @ align("weight", weight).T
    assert (before[:, 6:].argsort(axis=1) == after[:, 6:].argsort(axis=1)).all()  # without biases
    old_before, old_after = (before + bias)[:, :6], (after + bias)[:, :6]
    assert (old_before.argsort(axis=1) == old_after.argsort(axis=1)).all()  # always


def test_weight_clipped_is_weight_on_the_clipped_classifier(weight):
    aligned = align("weight-clipped", weight)
    assert aligned.min() == 0
    np.testing.assert_array_equal(aligned, align("weight", np.maximum(weight, 0)))
    np.testing.assert_array_equal(
        align("weight-clipped", abs(weight)), align("weight", abs(weight))
    )
    assert (aligned[:6] == np.maximum(weight[:6], 0)).all()
    with pytest.raises(UserError, match="all zero"):
        align("weight-clipped", -abs(weight))


def test_unit_rows(weight):
    weight[2] = 0
    aligned = align("unit", weight)
    np.testing.assert_allclose(row_norms(aligned), [1, 1, 0, *[1] * 7], rtol=1e-6)
    kept = np.arange(10) != 2
    np.testing.assert_allclose(
        np.einsum("cd,cd->c", aligned, weight)[kept], row_norms(weight)[kept], rtol=1e-5
    )


def drawn(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A label for each row of logits, drawn from its softmax (Gumbel's trick)."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("alpha, beta", [(0.7, -1.3), (1.0, 0.0), (0.3, 2.0), (1.6, -0.4)])
def test_bic_recovers_a_bias_that_was_put_in(alpha, beta):
    rng = np.random.default_rng(3)
    right = 2 * rng.normal(size=(20000, 10))
    label = drawn(right, rng)
    biased = right.copy()
    biased[:, 6:] = (right[:, 6:] - beta) / alpha  # so that alpha biased + beta is right
    np.testing.assert_allclose(fit_bias(biased, label, 6), [alpha, beta], atol=0.07)


def test_bics_fit_is_the_minimum():
    """No point of a grid around the fit is better."""
    rng = np.random.default_rng(4)
    logits, label = rng.normal(size=(200, 5)), rng.integers(0, 5, 200)

    def loss(alpha, beta):
        z = np.concatenate([logits[:, :3], alpha * logits[:, 3:] + beta], axis=1)
        nll = np.mean([np.log(np.exp(row).sum()) - row[c] for row, c in zip(z, label, strict=True)])
        return nll + 1e-4 / 2 * ((alpha - 1) ** 2 + beta**2)

    alpha, beta = fit_bias(logits, label, 3)
    around = [
        loss(alpha + a, beta + b)
        for a in np.linspace(-1, 1, 21)
        for b in np.linspace(-1, 1, 21)
        if (a, b) != (0, 0)
    ]
    assert loss(alpha, beta) <= min(around)


def test_bics_fit_stays_finite_when_images_can_be_told_apart():
    logits = np.array([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]])
    assert np.isfinite(fit_bias(logits, np.arange(3), 2)).all()


def test_bics_correction_folds_into_the_classifier(weight):
    rng = np.random.default_rng(5)
    x, bias = rng.normal(size=(300, 16)), rng.normal(size=10).astype(np.float32)
    label = rng.integers(0, 10, 300)
    aligned, biases = ALIGNMENTS["bias"](weight, bias, 6, Options((x, label)))
    logits = x @ weight.T.astype(float) + bias
    alpha, beta = fit_bias(logits, label, 6)
    logits[:, 6:] = alpha * logits[:, 6:] + beta
    np.testing.assert_allclose(x @ aligned.T + biases, logits, atol=1e-4)
    assert (
        aligned.dtype == biases.dtype == np.float32
        and (aligned[:6] == weight[:6]).all()
        and (biases[:6] == bias[:6]).all()
    )
    with pytest.raises(UserError, match="held_out"):
        ALIGNMENTS["bias"](weight, bias, 6)


def test_biases_need_a_place(weight):
    tensors = {"classifier.heads.0.weight": weight[:6], "classifier.heads.1.weight": weight[6:]}
    with pytest.raises(UserError, match="without biases"):
        with_classifier(tensors, weight, NO_BIAS + 1, [6, 4])


def test_program(tmp_path, weight):
    tensors = {
        "classifier.heads.0.weight": weight[:6],
        "classifier.heads.1.weight": weight[6:],
        "x": np.array(7),
    }
    header = {"task_sizes": [6, 4], "more": "facts", "data_sha256": "of the images"}
    write_checkpoint(tmp_path / "trained.safetensors", tensors, header)
    options = (
        "--trained",
        tmp_path / "trained.safetensors",
        "--output",
        tmp_path / "model.safetensors",
    )
    run = program(
        "wa.methods.alignment",
        *options,
        "--report",
        tmp_path / "a.json",
        "--alignment",
        "weight",
        "--gamma-norm",
        1,
        "--gamma-limit",
        0.5,
    )
    assert run.returncode == 0, run.stdout
    aligned, facts = read_checkpoint(tmp_path / "model.safetensors")
    made_from = read_checkpoint(tmp_path / "trained.safetensors")[1]["content_sha256"]
    assert facts.pop("from_trained") == made_from != facts.pop("content_sha256")
    assert len(facts.pop("alignment_code")) == 16
    choices = {"alignment": "weight", "gamma_norm": 1, "gamma_limit": 0.5}
    choices["classifier"] = "linear"
    assert facts == header | choices
    assert (
        (aligned["classifier.heads.0.weight"] == weight[:6]).all()
        and aligned["x"].shape == ()
        and aligned["x"] == 7
    )
    expected = align("weight", weight, norm=1, limit=0.5)
    np.testing.assert_array_equal(aligned["classifier.heads.1.weight"], expected[6:])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["gamma"] == gamma(weight, 6, 1, 0.5) and len(report["row_norms"]["aligned"]) == 10


def report_of(tmp_path, weight: np.ndarray, alignment: str) -> tuple[dict, dict]:
    """What the program reports of a classifier of 6 old and 4 new classes, and its tensors."""
    tensors = {f"classifier.heads.{t}.weight": w for t, w in enumerate((weight[:6], weight[6:]))}
    write_checkpoint(tmp_path / "trained.safetensors", tensors, {"task_sizes": [6, 4]})
    options = ["--trained", tmp_path / "trained.safetensors", "--alignment", alignment]
    options += ["--output", tmp_path / "model.safetensors", "--report", tmp_path / "a.json"]
    run = program("wa.methods.alignment", *options)
    assert run.returncode == 0, run.stdout
    aligned, _ = read_checkpoint(tmp_path / "model.safetensors")
    return json.loads((tmp_path / "a.json").read_text()), aligned


@pytest.mark.parametrize("name", ["weight", "weight-clipped"])
def test_the_gamma_of_the_report_is_the_factor_that_was_applied(tmp_path, weight, name):
    weight[6:] += 1  # clipping takes more of the old rows than of the new ones
    report, aligned = report_of(tmp_path, weight, name)
    kept = weight[6:] > 0
    factor = aligned["classifier.heads.1.weight"][kept] / weight[6:][kept]
    np.testing.assert_allclose(factor, report["gamma"], rtol=1e-5)


@pytest.mark.parametrize("name", ["none", "unit"])
def test_without_new_rows_there_is_no_gamma_and_no_error(tmp_path, weight, name):
    """Training with `clip` can leave all of them at zero."""
    weight[6:] = 0
    report, _ = report_of(tmp_path, weight, name)
    assert report["gamma"] is None and report["row_norms"]["aligned"][6:] == [0] * 4


def test_the_nearest_mean_is_asked_for_with_all_that_it_needs(tmp_path):
    options = ["--trained", tmp_path / "trained.safetensors", "--report", tmp_path / "a.json"]
    options += ["--output", tmp_path / "model.safetensors", "--classifier", "nme"]
    run = program("wa.methods.alignment", *options, "--memory", 20)
    assert run.returncode == 1
    assert run.stdout == "error: --classifier nme needs --features, --ranking and a --memory\n"


def test_program_with_held_out_images(tmp_path, weight):
    rng = np.random.default_rng(6)
    x, label, held_out = (
        rng.normal(size=(50, 16)).astype(np.float32),
        rng.integers(0, 10, 50),
        np.arange(50) < 30,
    )
    tensors = {f"classifier.heads.{t}.weight": w for t, w in enumerate((weight[:6], weight[6:]))}
    tensors |= {f"classifier.heads.{t}.bias": NO_BIAS[:n] for t, n in enumerate((6, 4))}
    write_checkpoint(tmp_path / "trained.safetensors", tensors, {"task_sizes": [6, 4]})
    write_arrays(tmp_path / "features.npz", features=x, label=label, held_out=held_out)
    options = (
        "--trained",
        tmp_path / "trained.safetensors",
        "--output",
        tmp_path / "model.safetensors",
    )
    options += (
        "--report",
        tmp_path / "a.json",
        "--alignment",
        "bias",
        "--features",
        tmp_path / "features.npz",
    )
    run = program("wa.methods.alignment", *options)
    assert run.returncode == 0, run.stdout
    expected = ALIGNMENTS["bias"](weight, NO_BIAS, 6, Options((x[:30].astype(float), label[:30])))
    aligned, _ = read_checkpoint(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(aligned["classifier.heads.1.weight"], expected[0][6:])
    np.testing.assert_array_equal(aligned["classifier.heads.1.bias"], expected[1][6:])
    assert (aligned["classifier.heads.0.bias"] == 0).all() and (expected[1][6:] != 0).all()
