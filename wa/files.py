"""Reading and writing files so that nothing half-written looks whole, and nothing that is read can run code."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np


class UserError(Exception):
    """Something that only the user can mend. Its text is one line: what is wrong, where, what to do."""


def program(main: Callable[[], None]) -> None:
    """Run a program's main function; a UserError, or an error of the file system, becomes one line and exit status 1."""
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, its content is on disk and takes the name `path`."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): make room or give permission, and run again; what was"
            " there is as it was"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def lock(path: str | Path, wait: bool) -> IO:
    """Take a lock that the kernel frees however the process ends; keep what is returned as long as it is needed.

    If another process has it: wait, or raise a UserError.
    """
    path = Path(path)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # who had it may have removed the folder
        file = open(path, "a+")  # noqa: SIM115 (it stays open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"{path} is locked by process {file.read().strip() or '?'}"
            if not wait:
                raise UserError(f"{holder}: wait until it ends, or stop it") from None
            print(f"{holder}: waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):  # not removed by who had it
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file


def write_json(path: str | Path, value: object) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Write arrays to an npz file. The same arrays give the same bytes: the members' dates are fixed."""
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read_json(path: str | Path) -> dict:
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from None


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read every array of an npz file; pickles are refused, and the members' checksums are verified by zipfile."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from None


def sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
