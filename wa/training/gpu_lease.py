"""Who trains on which GPU of this machine. Snakemake counts GPUs and assigns none, so each training leases its own.

A GPU has `runs_per_gpu` slots; a slot is a byte of one file that all trainings of a user on this machine share, and a
lease is a lock on some bytes. The lock belongs to the open file, which fork and exec hand on: the kernel frees it when
the last process of the training is gone, whatever happened to the others.
"""

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from wa.errors import UserError

GATE = 0  # this byte's owner is the only one that takes slots; the others queue for it


def gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that a training may use, as CUDA_VISIBLE_DEVICES names them. Asks no driver: that would cost seconds."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(i) for i, _ in enumerate(devices.glob("nvidia[0-9]*"))]
    names = [name.strip() for name in visible.split(",")]
    return names[
        : next((i for i, name in enumerate(names) if name in ("", "-1")), None)
    ]  # CUDA stops there, too


def slots_file(folder: Path) -> int:
    """Open the file of slots, in a folder that nobody else can have made or filled; returns its descriptor."""
    folder.mkdir(mode=0o700, exist_ok=True)
    directory = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(directory)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise UserError(
                f"{folder} is not yours alone: remove it, or make it yours with mode 700"
            )
        file = os.open("gpus", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        os.utime(file)  # /tmp is swept of what is old
        return file
    finally:
        os.close(directory)


def lock(file: int, kind: int, byte: int, wait: bool = False) -> bool:
    """Lock a byte (F_WRLCK) or free it (F_UNLCK) for the open file, not for the process as fcntl.lockf would."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(file, command, struct.pack("hhqqi", kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def lease(
    devices: list[str], count: int, runs_per_gpu: int, folder: Path | None = None
) -> tuple[int, list[str]]:
    """Wait for a slot on each of `count` of the devices; returns the file that holds them while it is open, and their names.

    Whoever is at the gate keeps what it has and waits for the rest. It is alone there and waits for nothing else, so several
    devices are taken without deadlock, and in turn. In a Slurm job only the job's own trainings are asked for.
    """
    if count > len(devices):
        raise UserError(
            f"a training of {count} processes needs {count} GPUs, but {len(devices)} can be seen here ({', '.join(devices)}):"
            " lower processes, or use device: cpu"
        )
    job = [os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURMD_NODENAME")]
    file = slots_file(folder or Path(f"/tmp/wa-{os.getuid()}"))
    started, taken = time.monotonic(), []
    lock(file, fcntl.F_WRLCK, GATE, wait=True)
    while len(taken) < count:
        for number, name in product(
            range(runs_per_gpu), devices
        ):  # runs spread over the GPUs before they share one
            byte = 1 + int.from_bytes(
                hashlib.sha256(repr((job, number, name)).encode()).digest()[:7]
            )
            if name not in taken and len(taken) < count and lock(file, fcntl.F_WRLCK, byte):
                taken.append(name)
        if len(taken) < count:
            time.sleep(0.2)
    lock(file, fcntl.F_UNLCK, GATE)
    if (waited := time.monotonic() - started) > 1:
        print(f"waited {waited:.0f} s for {count} of the GPUs {', '.join(devices)}", flush=True)
    return file, sorted(taken, key=devices.index)
