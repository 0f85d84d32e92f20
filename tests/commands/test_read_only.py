"""A finished study on a medium that cannot be written can be looked at, used and copied."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, snakemake

RUN = "results/tiny/order-1993/seed-0/base-6/inc-2/wa"


@pytest.fixture
def medium(finished, tmp_path) -> Path:
    """The folder of the finished study, read-only."""
    folder = tmp_path / "medium"
    folder.mkdir()
    bind = ["mount", "-o", "bind,ro", finished, folder]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("a read-only mount needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def wa(folder: Path, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wa", *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_every_command_works_and_writes_elsewhere(medium, tmp_path):
    old, new = f"{RUN}/../../model.safetensors", f"{RUN}/task-2/model.safetensors"
    for command in (
        ("show", RUN),
        ("status", "--config", "study.yaml"),
        ("predict", new, ROOT / "docs/images/seven.png"),
        ("compare", old, new),
        ("export", new, tmp_path / "model.onnx"),
        ("evidence", "--config", "study.yaml", "--output", tmp_path / "copy"),
    ):
        run = wa(medium, *command)
        assert run.returncode == 0, run.stdout + run.stderr
    # tests/commands/test_evidence.py draws the figures from such a copy.
    assert (tmp_path / "copy/results/tiny/metrics.csv").exists()


def test_snakemake_says_that_it_cannot_work_there(medium):
    run = snakemake(medium, "--configfile", "study.yaml")
    assert run.returncode == 1 and "Traceback" not in run.stdout
    assert f"{medium} cannot be written" in run.stdout and "wa evidence" in run.stdout
