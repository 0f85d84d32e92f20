"""Print what this machine offers to trainings.

    wa doctor

Run it on the machine that trains, such as a node of a cluster. It exits with status 1 if there is a
GPU that torch cannot use.
"""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from wa.training.gpus import driver, gpus, needs, problem

HELP = """Print what this machine offers to trainings.

It lists the GPUs, NVIDIA's driver, what torch makes of them, the cores, the memory and the disk.
Run it on the machine that trains, such as a node of a cluster. It exits with status 1 if there is a
GPU that torch cannot use.
"""

MEMINFO = Path("/proc/meminfo")
GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def free_memory() -> str:
    """The main memory of this machine."""
    if not MEMINFO.exists():
        return "not known"
    sizes = {}
    for line in MEMINFO.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024
    return f"{sizes['MemAvailable'] / GIB:.1f} of {sizes['MemTotal'] / GIB:.1f} GiB are free"


def free_disk(folder: Path) -> str:
    """The space of the disk that holds a folder."""
    usage = shutil.disk_usage(folder)
    return f"{usage.free / GIB:.0f} of {usage.total / GIB:.0f} GiB are free"


def described(number: int) -> str:
    """A GPU that torch can use, in words. number: which of those that this process may use."""
    import torch

    kind = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    with torch.cuda.device(number):
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return (
        f"{kind.name} (sm_{kind.major}{kind.minor}), {free / GIB:.1f} of {total / GIB:.1f} GiB are"
        f" free, {'with' if bfloat16 else 'without'} bfloat16"
    )


def gpu_lines() -> tuple[list[tuple[str, str]], bool]:
    """What to print about each GPU, and whether torch can use all of them."""
    import torch

    lines, well = [], True
    # CUDA gives a process only the first slice of a GPU (MIG). The other slices are not tried.
    for number in range(torch.cuda.device_count() or 1):
        reason = problem(number)
        text = f"torch cannot use it: {reason}" if reason else described(number)
        lines.append((f"GPU {number}", text))
        well = well and reason is None
    return lines, well


def main(args: argparse.Namespace) -> None:
    """Print one line for each thing. args: no arguments."""
    import torch

    from wa.training.precision import choose

    names = gpus()
    cuda = torch.version.cuda
    lines = [
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("torch", f"{torch.__version__}, built with {needs(cuda) if cuda else 'no CUDA'}"),
        ("cores", f"{len(os.sched_getaffinity(0))} for this process"),
        ("memory", free_memory()),
        ("disk", f"{free_disk(Path.cwd())}, in {Path.cwd()}"),
        ("precision", f"auto is {choose('auto', torch.device('cpu'))} on this CPU"),
        ("driver", driver() or "not found"),
        ("GPUs", ", ".join(names) or "none: trainings use the CPU"),
    ]
    about, well = gpu_lines() if names else ([], True)
    for name, text in [*lines, *about]:
        print(f"{name:10}{text}")
    if not well:
        sys.exit(1)
