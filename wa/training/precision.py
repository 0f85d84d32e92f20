"""Arithmetic: which precision the convolutions use.

`auto` is bfloat16 where it is faster, else float32. A GPU says by itself whether it has bfloat16; on a CPU a probe of a few
seconds compares the two, once a machine: it is remembered in $XDG_CACHE_HOME/wa (~/.cache/wa), because a study in which noise
makes some trainings float32 and others bfloat16 could not be reproduced. Delete the file to probe anew.
"""

import os
import time
from pathlib import Path

import torch
from torch import nn

from wa.errors import UserError
from wa.files import read_json, write_json
from wa.locks import lock

GAIN = 1.25  # bfloat16 costs accuracy of the arithmetic: it must be clearly faster


def choose(asked: str, device: torch.device) -> str:
    """float32, tf32 or bfloat16, for what the settings asks: one of these, or auto."""
    if asked == "tf32" and device.type != "cuda":
        raise UserError("precision tf32 is of GPUs only: use auto, float32 or bfloat16")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return remembered_probe()


def remembered_probe() -> str:
    file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "wa", "precision.json")
    name = f"{processor()}, torch {torch.__version__}"
    try:
        with lock(file.with_suffix(".lock"), wait=True):
            known = read_json(file) if file.exists() else {}
            if name not in known:
                known[name] = probe()
                write_json(file, known)
            return known[name]
    except (
        OSError,
        UserError,
    ) as error:  # no home to write to, or a damaged file: nothing to stop a training for
        choice = probe()
        print(f"precision {choice}; the probe's result cannot be kept ({error})", flush=True)
        return choice


def processor() -> str:
    """The name and the flags that matter, of a CPU: two machines with one name may differ in what they let a guest use."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(
        map(str.strip, line.split(":", 1))
        for line in info.split("\n\n")[0].splitlines()
        if ":" in line
    )
    flags = [f for f in fields.get("flags", "").split() if f.startswith(("amx", "avx512_bf16"))]
    return " ".join([fields.get("model name", "unknown CPU"), *flags])


def probe(rounds: int = 4) -> str:
    """Time forward and backward passes of a few convolutions in both; returns bfloat16 or float32."""
    net = nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
            for _ in range(4)
        )
    )
    net = net.to(memory_format=torch.channels_last)
    x = torch.zeros(64, 32, 16, 16).contiguous(memory_format=torch.channels_last)
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    for _ in range(
        rounds
    ):  # by turns, and the best of each: other programs only ever make a round slower
        for precision in best:
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = net(x).float().sum()
            loss.backward()
            best[precision] = min(best[precision], time.perf_counter() - started)
    return "bfloat16" if best["float32"] > GAIN * best["bfloat16"] else "float32"
