"""The precision of the convolutions.

`auto` is bfloat16 if the hardware computes with it, else float32. A GPU says so itself. A CPU has
it if it lists the instructions avx512_bf16 or amx_bf16. So machines of one kind use one arithmetic.
Emulated bfloat16 is slower than float32, so it is never chosen.
"""

from pathlib import Path

import torch

from wa.errors import UserError

CPUINFO = Path("/proc/cpuinfo")  # of Linux. On other systems a CPU counts as one without bfloat16.
INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


def choose(asked: str, device: torch.device) -> str:
    """float32, tf32 or bfloat16, for a setting that is one of these or auto.

    Raises UserError if the device does not have the precision.
    """
    if asked == "tf32" and device.type != "cuda":
        raise UserError("precision: tf32 is for GPUs only. Use auto, float32 or bfloat16.")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = bool(INSTRUCTIONS & cpu_flags())
    return "bfloat16" if has_bfloat16 else "float32"


def cpu_flags() -> set[str]:
    """The instructions that the CPU has, by Linux's names."""
    if not CPUINFO.exists():
        return set()
    for line in CPUINFO.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()
