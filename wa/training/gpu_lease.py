"""Leases of GPUs: which training runs on which GPU of this machine.

Snakemake counts GPUs but assigns none, so each training leases its own. A GPU has `runs_per_gpu`
slots. Each slot is one byte of a file that all trainings of a user on this machine share. A lease
is a lock on some of these bytes. The lock belongs to the open file, and fork and exec pass the open
file on. So the kernel frees the lock when the last process of the training ends, even if some
were killed.
"""

import errno
import fcntl
import hashlib
import os
import struct
import time
from itertools import product
from pathlib import Path

from wa.errors import UserError
from wa.locks import WITHOUT_LOCKS
from wa.training.gpus import SLICE

SLOTS = "gpus"  # the name of the file
GATE = 0  # only the owner of this byte takes slots, and the others queue for it


def slots_file(folder: Path) -> int:
    """Open the file of slots, and return its descriptor.

    Raises UserError if the folder is not the user's alone.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    directory = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(directory)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise UserError(
                f"{folder} is not yours alone. Remove it, or make it yours with mode 700."
            )
        file = os.open(SLOTS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        os.utime(file)  # systems delete old files in /tmp
        return file
    finally:
        os.close(directory)


def lock(file: int, kind: int, byte: int, wait: bool = False) -> bool:
    """Lock a byte (F_WRLCK) or free it (F_UNLCK). Returns False if another open file has it.

    The lock belongs to the open file. With fcntl.lockf it would belong to the process.
    """
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(file, command, struct.pack("hhqqi", kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def lease(
    devices: list[str], count: int, runs_per_gpu: int, folder: Path | None = None
) -> tuple[int, list[str]]:
    """Wait for a slot on each of `count` devices.

    Returns the descriptor of the file that holds the slots while it is open, and the devices'
    names. Raises UserError if there are fewer than `count` devices. Several are always whole GPUs,
    because CUDA gives a process only one slice (MIG), and NCCL joins no slices. On a file system
    without locks it says so, and takes the first devices.

    The training at the gate keeps the slots that it has and waits for the others. Only one training
    is at the gate, so there is no deadlock, and trainings get their devices in turn. The trainings
    of a Slurm job have slots of their own.
    """
    if count > 1:
        devices = [name for name in devices if not name.startswith(SLICE)]
    if count > len(devices):
        raise UserError(
            f"a training of {count} processes needs {count} whole GPUs, but only {len(devices)} can"
            f" be seen here ({', '.join(devices)}). Use fewer processes, or device: cpu."
        )
    job = [os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURMD_NODENAME")]
    folder = folder or Path(f"/tmp/wa-{os.getuid()}")
    file = slots_file(folder)
    started = time.monotonic()
    taken = []
    try:
        lock(file, fcntl.F_WRLCK, GATE, wait=True)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS | {errno.EINVAL}:  # EINVAL: none of open files
            raise
        names = devices[:count]
        print(
            f"{folder / SLOTS}: its file system has no locks ({error.strerror}). This training"
            f" takes the GPUs {', '.join(names)}, and so does every other on this machine. To use"
            " others, start Snakemake with CUDA_VISIBLE_DEVICES.",
            flush=True,
        )
        return file, names
    while len(taken) < count:
        # Trainings spread over the GPUs before they share one.
        for number, name in product(range(runs_per_gpu), devices):
            slot = hashlib.sha256(repr((job, number, name)).encode()).digest()
            byte = 1 + int.from_bytes(slot[:7])
            if name not in taken and len(taken) < count and lock(file, fcntl.F_WRLCK, byte):
                taken.append(name)
        if len(taken) < count:
            time.sleep(0.2)
    lock(file, fcntl.F_UNLCK, GATE)
    waited = time.monotonic() - started
    if waited > 1:
        print(f"waited {waited:.0f} s for {count} of the GPUs {', '.join(devices)}", flush=True)
    return file, sorted(taken, key=devices.index)
