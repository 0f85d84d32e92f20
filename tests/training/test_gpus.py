"""Which GPUs there are, and what is said when torch cannot use them. No GPU is needed."""

import os
from pathlib import Path

import pytest
import torch
from helpers import program, task_options

from wa.errors import UserError
from wa.training import engine, gpus

WHOLE = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-0c9b7cd7-8d0b-3a4c-8e5a-2d1f6b7c8d9e)
"""
SLICED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaa)
  MIG 1g.5gb      Device  1: (UUID: MIG-bbb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0c9b7cd7-8d0b-3a4c-8e5a-2d1f6b7c8d9e)
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Install a program of this name. It prints a text, and ends with a status."""

    def install(text: str, status: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "text").write_text(text)
        file = folder / "nvidia-smi"
        file.write_text(f"#!/bin/sh\ncat {folder}/text\nexit {status}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return install


@pytest.fixture
def root(tmp_path) -> Path:
    """A file system without a driver, on a machine without nvidia-smi."""
    (tmp_path / "root/dev").mkdir(parents=True)
    return tmp_path / "root"


def test_cuda_visible_devices_counts_first(nvidia_smi, root):
    nvidia_smi(WHOLE)
    assert gpus.gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-a,-1,3"}, root) == ["2", "GPU-a"]
    assert gpus.gpus({"CUDA_VISIBLE_DEVICES": ""}, root) == []
    assert gpus.gpus({"CUDA_VISIBLE_DEVICES": "-1"}, root) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [(WHOLE, ["0", "1"]), (SLICED, ["MIG-aaa", "MIG-bbb", "1"]), ("", [])],
)
def test_nvidia_smi_knows_slices_and_wsl2(text, names, nvidia_smi, root):
    """WSL2 has neither the folder in /proc nor the devices in /dev."""
    nvidia_smi(text)
    assert gpus.gpus({}, root) == names


def test_without_nvidia_smi_the_driver_tells(nvidia_smi, root):
    nvidia_smi("NVIDIA-SMI has failed", status=9)
    assert gpus.gpus({}, root) == []
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    (root / "dev/nvidia2").mkdir()  # a folder is no GPU
    assert gpus.gpus({}, root) == ["0", "1", "2"]
    # After the start of a machine, /dev is still empty.
    for name in ("0000:07:00.0", "0000:0b:00.0"):
        (root / "proc/driver/nvidia/gpus" / name).mkdir(parents=True)
    assert gpus.gpus({}, root) == ["0", "1"]


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 2025\nGCC 12.3.0\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n",
    ],
)
def test_the_version_of_the_driver(text, root, nvidia_smi):
    nvidia_smi("", status=9)
    assert gpus.driver(root) is None
    nvidia_smi("560.35.03\n560.35.03\n")
    assert gpus.driver(root) == "560.35.03"
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").write_text(text)
    assert gpus.driver(root) == "570.86.15"


def test_this_torch_has_a_driver_in_the_table():
    assert "or newer" in gpus.needs(torch.version.cuda)


def test_a_leased_gpu_that_torch_cannot_use_is_an_error(digits, tmp_path):
    """Not a training on the CPU, of which two would wait for each other."""
    options = ["--device", "auto", "--", *task_options(digits, tmp_path)]
    run = program("wa.training.launch", *options, CUDA_VISIBLE_DEVICES="0")
    assert run.returncode == 1
    last = run.stdout.splitlines()[-1]
    assert last.startswith("error: torch cannot use the GPU 0: ")
    # torch's reason, the driver, and what is needed.
    assert "NVIDIA driver" in last and "The driver is " in last and "driver 580 or newer" in last
    assert "set device: cpu" in last and "epoch 1" not in run.stdout


def test_a_card_that_is_too_old_is_an_error(monkeypatch):
    """Such a card is there for torch, until the first kernel."""

    def ones(*_: object, device: str) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\n")

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(engine, "gpus", lambda: ["0"])
    with pytest.raises(UserError, match=r"no kernel image is available .* of the kinds sm_75"):
        engine.Processes("auto")


def test_doctor_says_what_is_there(monkeypatch):
    run = program("wa", "doctor", CUDA_VISIBLE_DEVICES="")
    assert run.returncode == 0 and "none: trainings use the CPU" in run.stdout, run.stdout
    for name in ("torch", "cores", "memory", "disk", "precision", "driver"):
        assert f"\n{name} " in run.stdout
    run = program("wa", "doctor", CUDA_VISIBLE_DEVICES="0")
    assert run.returncode == 1 and "GPU 0     torch cannot use it: " in run.stdout
