"""Locks that end with their process, and processes that end with their parent."""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import time
from pathlib import Path
from typing import IO

from wa.errors import UserError

LOOKS = 1.0  # seconds: `is_locked` and `is_free` hold a lock for the moment of a look
# What flock says on a file system without locks. 524 is ENOTSUPP of Linux, which Python lacks.
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524}


class Locked(UserError):
    """Another process has the lock."""


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even if the parent is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <linux/prctl.h>


def lock(path: str | Path, wait: bool) -> IO:
    """Take a lock, and return the open file that holds it. Keep the file while you need the lock.

    The kernel frees the lock when the process ends, even if it is killed. If another process has
    the lock, wait for it or, without `wait`, raise Locked. On a file system without locks, say so
    and go on. Raises UserError if the file cannot be written.
    """
    path, until = Path(path), time.monotonic() + LOOKS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # its last owner may have removed it
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (it stays open)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}). Make the folder writable. If another"
                " user made the file and nothing of theirs runs, have them remove it."
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait and time.monotonic() < until:
                file.close()
                time.sleep(0.05)
                continue
            file.seek(0)
            holder = f"{path} is locked by process {file.read().strip() or '?'}"
            if not wait:
                raise Locked(f"{holder}. Wait until it ends, or stop it.") from None
            print(f"{holder}: waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            print(
                f"{path}: its file system has no locks ({error.strerror}). Going on without. Do"
                " not start the same work twice at a time: nothing would notice.",
                flush=True,
            )
            return file
        # If the last owner removed the file, this lock is worth nothing: try again.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file


def is_locked(path: str | Path) -> bool:
    """Whether a process has the lock."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    return False


def is_free(path: str | Path) -> bool:
    """Whether it is known that no process has the lock, on this machine or on another.

    It is not known if the file does not exist, or on a file system without locks. Linux hands flock
    on to the server of NFS, so processes on other machines count, unless it is mounted with
    `local_lock`. See local_lock in nfs(5).
    """
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
