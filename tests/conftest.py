"""What several tests start from: the digits, packed, and a trained task 0."""

from pathlib import Path

import pytest
from helpers import program, small_study, task_options


@pytest.fixture
def config() -> dict:
    return small_study()


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The digits, packed, and a class order: a folder with dataset.json and order.json."""
    folder = tmp_path_factory.mktemp("digits")
    for module, *options in (
        ("wa.data.datasets", "--dataset", "digits", "--path", folder, "--output", folder),
        (
            "wa.data.scenario",
            "--order",
            "1993",
            "--dataset",
            folder / "dataset.json",
            "--output",
            folder / "order.json",
        ),
    ):
        run = program(module, *options)
        assert run.returncode == 0, run.stdout
    return folder


@pytest.fixture(scope="session")
def base(digits, tmp_path_factory):
    """Task 0, trained, herded and aligned."""
    output = tmp_path_factory.mktemp("base")
    for module, *more in (
        ("wa.training.train", *task_options(digits, output)),
        (
            "wa.methods.selection",
            "--features",
            output / "features.npz",
            "--output",
            output / "herding.npz",
        ),
        (
            "wa.methods.alignment",
            "--trained",
            output / "trained.safetensors",
            "--output",
            output / "model.safetensors",
            "--report",
            output / "a.json",
        ),
    ):
        run = program(module, *more)
        assert run.returncode == 0, run.stdout
    return output
