"""Files: nothing half-written looks whole, and nothing that is read can run code."""

import contextlib
import hashlib
import json
import os
import reprlib
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wa.errors import UserError

LARGEST_TEXT = 2**24  # bytes of JSON or YAML: what is parsed takes up to 25 times as much memory
HEADER = "header"  # the array of an npz file that holds its header, as bytes
KINDS = {"i": "integers", "f": "floating-point numbers", "b": "truth values"}
# key -> (whether a value is allowed, what a value must be, in words)
Rules = dict[str, tuple[Callable[[object], bool], str]]

UMASK = os.umask(0)
os.umask(UMASK)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` when the block ends well.

    By then its content is on disk. Raises UserError if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fchmod(file.fileno(), 0o666 & ~UMASK)  # safetensors gives a file to its owner alone
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}). Make room or give permission,"
            " and run again. An earlier file of this name is unchanged."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def content_sha256(arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 of arrays: of their names, types, shapes and values."""
    together = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        array = np.asarray(array, order="C")
        together.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        together.update(array.data if array.size else b"")
    return together.hexdigest()


def write_arrays(path: str | Path, header: dict | None = None, /, **arrays: np.ndarray) -> None:
    """Write arrays to an npz file, and a header: JSON that says what they were made from.

    The same arrays and header give the same bytes: the dates of the members are fixed.
    """
    if header is not None:
        arrays = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read_arrays_header(path: str | Path) -> dict:
    """The header of an npz file, without its arrays. It is empty if the file has none."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if f"{HEADER}.npy" not in names:
                return {}
            member = file.getinfo(f"{HEADER}.npy")
            if member.file_size > LARGEST_TEXT or member.compress_type:
                raise ValueError("its header is too large")
            header = json.loads(array_from(file.read(member)).tobytes())
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # as in read_arrays
        raise damaged(path, error) from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is no JSON object")
    return header


def damaged(path: str | Path, why: object) -> UserError:
    return UserError(
        f"{path} is damaged, or of another kind ({' '.join(str(why).split())[:200]})."
        " If a run made it, delete it and run again."
    )


def read_text(path: str | Path) -> str:
    if os.path.getsize(path) > LARGEST_TEXT:
        raise UserError(
            f"{path} is larger than {LARGEST_TEXT >> 20} MiB, so it is not the right file"
        )
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, error) from None


def check(values: dict, rules: Rules, path: str | Path) -> None:
    """Raise UserError unless `values` have each key of `rules`, with a value that is allowed.

    values: what was read from the file `path`. A file may come from anywhere, so its values are
    checked before anything is built from them.
    """
    for name, (allowed, what) in rules.items():
        if name not in values or not allowed(values[name]):
            raise UserError(
                f"{path} cannot be used: it says {name} = {reprlib.repr(values.get(name))},"
                f" which must be {what}"
            )


def is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


def read_json(path: str | Path, rules: Rules | None = None) -> dict:
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    if not isinstance(value, dict):
        raise damaged(path, "it is no JSON object")
    check(value, rules or {}, path)
    return value


def read_npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape, whether the order is Fortran's, and the type. The array follows in the stream."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    return read_header[np.lib.format.read_magic(stream)](stream)


def array_from(data: bytes) -> np.ndarray:
    """The array of an npy file, read-only.

    np.load would allocate what the header asks for, before it looks for the data.
    """
    stream = BytesIO(data)
    shape, fortran_order, dtype = read_npy_header(stream)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(
        shape, order="F" if fortran_order else "C"
    )


def read_arrays(path: str | Path, **wanted: str) -> dict[str, np.ndarray]:
    """Read every array of an npz file. Pickles are refused, and zipfile verifies checksums.

        read_arrays(path, features="f:nd", label="i:n")

    wanted: the arrays that must be there and not be empty. The example asks for floating-point
    numbers (n, d) and integers (n,), with the same n. Raises UserError if the file is damaged or
    lacks one of them, FileNotFoundError if it does not exist.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            sizes = [m.compress_size for m in members]
            if sum(sizes) > os.path.getsize(path) or any(
                m.compress_type or m.compress_size != m.file_size for m in members
            ):
                raise ValueError("its arrays are compressed, or larger than the file")
            # A longer comment could hide the next array.
            if any(len(m.comment) + len(m.extra) > 32 for m in members):
                raise ValueError("its directory holds more than arrays")
            arrays = {m.filename.removesuffix(".npy"): array_from(file.read(m)) for m in members}
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds of errors
        raise damaged(path, error) from None
    arrays.pop(HEADER, None)
    lengths: dict[str, int] = {}
    for name, what in wanted.items():
        kind, axes = what.split(":")
        array = arrays.get(name, np.empty(0, object))
        same = [
            lengths.setdefault(axis, n) == n for axis, n in zip(axes, array.shape, strict=False)
        ]
        if array.dtype.kind != kind or array.ndim != len(axes) or not array.size or not all(same):
            raise UserError(
                f"{path} cannot be used: it must hold {name}, {KINDS[kind]} ({', '.join(axes)})"
            )
    return arrays


def map_array(path: str | Path, name: str) -> np.ndarray:
    """An array of an npz file, mapped into memory: only what is looked at is read from disk.

    Raises UserError if the file is damaged, FileNotFoundError if it does not exist.
    """
    try:
        with zipfile.ZipFile(path) as file:
            member = file.getinfo(f"{name}.npy")
            if member.compress_type:
                raise ValueError("its arrays are compressed")
            with file.open(member) as stream:
                shape, fortran_order, dtype = read_npy_header(stream)
                start = stream.tell()
        if dtype.hasobject or fortran_order:
            raise ValueError("its arrays are of another kind")
        with open(path, "rb") as file:  # the array begins after the member's own header
            file.seek(member.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
        offset = member.header_offset + 30 + int(lengths.sum()) + start
        return np.memmap(path, dtype, "r", offset, shape)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # as in read_arrays
        raise damaged(path, error) from None


def sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_note(path: str | Path) -> Path:
    """The hidden file beside `path` that keeps its SHA-256. `sha256sum --check` reads it too."""
    path = Path(path)
    return path.with_name(f".{path.name}.sha256")


def keep_sha256(path: str | Path) -> None:
    """Write the SHA-256 of a file beside it, so that a later edit is noticed."""
    with writing(sha256_note(path)) as temporary:
        temporary.write_text(f"{sha256(path)}  {Path(path).name}\n", encoding="utf-8")


def was_changed(path: str | Path) -> bool:
    """Whether a file is not the one whose SHA-256 was kept. False if none was kept."""
    note = sha256_note(path)
    return note.exists() and sha256(path) not in note.read_text(encoding="utf-8")
