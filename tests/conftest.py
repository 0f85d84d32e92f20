"""What several tests start from: the packed digits, a trained task 0, and a finished study."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import program, small_study, snakemake, task_options


def pytest_configure(config: pytest.Config) -> None:
    """Hide all GPUs, from the programs that tests start too, except for `pytest -m gpu`.

    This is before any test imports torch. Later it would have no effect.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable) -> Path:
    """The folder `name`, shared by all pytest-xdist workers. The first one calls make(folder).

    The others wait for it. If make fails, the next worker begins anew. Do not change what is in it.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent / "shared"  # as deep as the folders of the workers
    shared.mkdir(exist_ok=True)
    folder, done = shared / name, shared / f"{name}.done"
    with open(shared / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def run_programs(*programs: tuple) -> None:
    for module, *options in programs:
        run = program(module, *options)
        assert run.returncode == 0, run.stdout


@pytest.fixture
def config() -> dict:
    return small_study()


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A folder with the packed digits (dataset.json) and a class order (order.json)."""
    return made_once(tmp_path_factory, "digits", pack_digits)


def pack_digits(folder: Path) -> None:
    source = ["--dataset", "digits", "--path", folder]
    order = ["--order", "1993", "--dataset", folder / "dataset.json"]
    run_programs(
        ("wa.data.datasets", *source, "--output", folder),
        ("wa.data.scenario", *order, "--output", folder / "order.json"),
    )


@pytest.fixture(scope="session")
def base(digits, tmp_path_factory) -> Path:
    """The folder of a task 0, trained, herded and aligned."""
    return made_once(tmp_path_factory, "base", lambda folder: learn_task_0(digits, folder))


def learn_task_0(digits: Path, folder: Path) -> None:
    ranking = ["--features", folder / "features.npz", "--output", folder / "herding.npz"]
    aligning = ["--trained", folder / "trained.safetensors", "--report", folder / "a.json"]
    run_programs(
        ("wa.training.train", *task_options(digits, folder)),
        ("wa.methods.selection", *ranking),
        ("wa.methods.alignment", *aligning, "--output", folder / "model.safetensors"),
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder in which Snakemake has run small_study() to its end. Tests only read it."""
    return made_once(tmp_path_factory, "finished", run_small_study)


def run_small_study(folder: Path) -> None:
    run = snakemake(folder, config=small_study())
    assert run.returncode == 0, run.stdout


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory) -> tuple[Path, dict]:
    """A finished study that a module may change: a copy of it, and its config."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(finished, folder, symlinks=True, dirs_exist_ok=True)
    return folder, small_study()
