"""The GPUs of this machine: their names, their driver, and why torch cannot use them.

Nobody has run this on a machine with a GPU yet. The tests play the files and nvidia-smi.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

SLICE = "MIG-"  # how the name of a slice of a GPU begins
# The oldest driver for each version of CUDA: NVIDIA, "CUDA Compatibility", table 1.
OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}


def nvidia_smi(*options: str) -> str | None:
    """What nvidia-smi prints. None if it is not installed, or if it fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        run = subprocess.run([command, *options], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None


def listed(text: str) -> list[str]:
    """The GPUs in the output of `nvidia-smi -L`. A GPU that is cut into slices is its slices.

    `GPU 0: ...` is named 0. `MIG 1g.5gb Device 0: (UUID: MIG-c6d4...)` is named by its UUID,
    because CUDA knows a slice by no other name.
    """
    names = []
    whole = None  # the GPU whose line came last, until a slice of it comes
    for line in text.splitlines():
        gpu = re.match(r"GPU (\d+):", line)
        part = re.search(rf"\(UUID: ({SLICE}[^)]+)\)", line)
        if gpu:
            whole = gpu[1]
            names.append(whole)
        elif part:
            if names[-1:] == [whole]:
                names.pop()
            names.append(part[1])
    return names


def gpus(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> list[str]:
    """The GPUs that a training may use, as CUDA_VISIBLE_DEVICES names them.

    Without that variable it asks nvidia-smi, which knows slices (MIG), containers and WSL2. If that
    is no use, it counts what the driver shows in /proc, or in /dev. It never asks torch.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return list(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA stops there, too
    names = listed(nvidia_smi("-L") or "")
    if names:
        return names
    # /dev may lack the devices until CUDA is first used after the start of the machine.
    shown = list(root.glob("proc/driver/nvidia/gpus/*"))
    devices = [path for path in root.glob("dev/nvidia[0-9]*") if not path.is_dir()]
    return [str(number) for number in range(len(shown or devices))]


def driver(root: Path = Path("/")) -> str | None:
    """The version of NVIDIA's driver, such as 580.65.06. None if there is no driver."""
    file = root / "proc/driver/nvidia/version"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", text)
    if found:
        return found[1]
    asked = nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return asked.split()[0] if asked and asked.split() else None


def needs(cuda: str) -> str:
    """What the wheels of torch for a version of CUDA need, in words. cuda: such as 13.0."""
    oldest = OLDEST_DRIVER.get(cuda.split(".")[0], "of its time")
    return f"CUDA {cuda}, which needs NVIDIA's driver {oldest} or newer"


def problem(number: int = 0) -> str | None:
    """Why torch cannot use a GPU, in one line. None if it can: it has just added two numbers.

    number: which of the GPUs that the process may use.
    """
    import torch

    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA. Install one with CUDA"
    try:
        (torch.ones(1, device=f"cuda:{number}") + 1).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        made_for = " ".join(torch._C._cuda_getArchFlags().split())
        return (
            f"{reason}. The driver is {driver() or 'not found'}. This torch is built with"
            f" {needs(torch.version.cuda)}, and for GPUs of the kinds {made_for}"
        )
    return None
