"""Decode many image files into one uint8 array on disk, in several processes.

A packing that was killed goes on where it was. The array grows in .NAME.part. Its header is written
last, so it never looks whole before it is. Beside it, .NAME.journal has a line for each chunk of
images that is on disk: its number and a digest of the names, sizes and dates of its files. After a
restart, only the other chunks are decoded.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from wa.errors import UserError
from wa.locks import die_with_parent

CHUNK = 2**24  # bytes of pixels
SYNC = 5.0  # seconds between two entries in the journal
REPORT = 60.0  # seconds between two lines in the log
Reader = Callable[[str], np.ndarray]  # a file -> uint8 (H, W, C). UserError if it cannot be read.
Problems = tuple[list[str], list[str]]  # of files that cannot be read, and of images of other sizes


def digest(files: list[str]) -> str:
    """A digest of the names, sizes and dates of files."""
    # A broken link is found when it is read, with all others.
    stats = [(file, os.stat(file, follow_symlinks=os.path.exists(file))) for file in files]
    text = "\n".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def decode(
    part: Path, shape: tuple[int, ...], read: Reader, offset: int, files: list[str]
) -> Problems:
    """Write the images of a chunk to their place in the file `part`.

    Returns a line for each file that cannot be used. If there is one, nothing is written.
    """
    pixels, unreadable, odd = np.empty((len(files), *shape), np.uint8), [], []
    for row, file in zip(pixels, files, strict=True):
        try:
            image = read(file)
        except UserError as error:
            unreadable.append(str(error))
            continue
        if image.shape == shape:
            row[:] = image
        else:
            height, width = image.shape[:2]
            odd.append(f"{file}: {width}x{height} pixels, and not {shape[1]}x{shape[0]}")
    if not unreadable and not odd:
        with open(part, "r+b") as stream:
            stream.seek(offset)
            stream.write(pixels)
    return unreadable, odd


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header that numpy writes before a uint8 array of this shape."""
    stream = BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def read_journal(part: Path, journal: Path, heading: str) -> set[str]:
    """The lines of the chunks that are on disk.

    There are none if the journal has another heading, because it is then of another array.
    """
    if not journal.exists() or not part.exists():
        return set()
    found = journal.read_text(encoding="utf-8").splitlines()
    return set(found[1:]) if found[:1] == [heading] else set()


def begin(output: Path, part: Path, journal: Path, heading: str, size: int) -> None:
    """Make a file of `size` bytes, and its journal. Raises UserError if the disk is too small."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    free = shutil.disk_usage(output.parent).free
    if size > free:
        raise UserError(
            f"{output} needs {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free."
            " Make room, and run again"
        )
    part.touch()
    os.truncate(part, size)
    journal.write_text(heading + "\n", encoding="utf-8")


def record(lines: list[str], data: BinaryIO, log: TextIO) -> None:
    """Put the pixels on disk, then the lines of their chunks into the journal."""
    os.fsync(data.fileno())  # also what other processes wrote to this file
    log.writelines(f"{line}\n" for line in lines)
    log.flush()
    os.fsync(log.fileno())


def collect(results: Iterable[Problems], lines: list[str], data: BinaryIO, log: TextIO) -> Problems:
    """Record each chunk that is decoded without a problem. Returns all problems.

    results, lines: what decode returned for each chunk, and its line for the journal.
    """
    unreadable, odd, ready = [], [], []
    synced = time.monotonic()
    for line, wrong in zip(lines, results, strict=True):
        unreadable += wrong[0]
        odd += wrong[1]
        if not any(wrong):
            ready.append(line)
        if time.monotonic() - synced > SYNC:
            record(ready, data, log)
            ready.clear()
            synced = time.monotonic()
    record(ready, data, log)
    return unreadable, odd


def reporting(results: Iterable[Problems], name: str, total: int, step: int) -> Iterator[Problems]:
    """Pass the results of `total` chunks on, and print the speed once in a while.

    step: the number of images in a chunk.
    """
    started = reported = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - reported > REPORT:
            speed = count * step / (now - started)
            print(f"{name}: {count} of {total} chunks, {speed:.0f} images/s", flush=True)
            reported = now


def pack(
    files: list[str], output: Path, shape: tuple[int, ...], read: Reader, code: str, processes: int
) -> Problems:
    """Decode the files into an array of uint8 (n, *shape) at `output`. It has numpy's format.

    code: what else the pixels depend on. A journal with another code is not used.

    Returns a line for each file that cannot be used. If there is one, `output` is not written.
    After the files are mended, the next call decodes only the chunks that hold them. Raises
    UserError if the disk is too small, or if a process is killed.
    """
    part, journal = (output.with_name(f".{output.name}.{what}") for what in ("part", "journal"))
    header, image = npy_header((len(files), *shape)), int(np.prod(shape))
    step = max(1, CHUNK // image)
    chunks = [files[i : i + step] for i in range(0, len(files), step)]
    lines = [f"{number} {digest(chunk)}" for number, chunk in enumerate(chunks)]
    heading = f"{len(files)} {shape} {step} {code}"
    done = read_journal(part, journal, heading)
    if not done:
        begin(output, part, journal, heading, len(header) + len(files) * image)
    todo = [number for number, line in enumerate(lines) if line not in done]
    if done:
        there = f"{len(chunks) - len(todo)} of {len(chunks)}"
        print(f"{output.name}: going on, {there} chunks are there", flush=True)

    offsets = [len(header) + number * step * image for number in todo]
    work = partial(decode, part, shape, read)
    pool = ProcessPoolExecutor(max(1, min(processes, len(todo))), initializer=die_with_parent)
    try:
        with open(part, "r+b") as data, open(journal, "a", encoding="utf-8") as log:
            results = pool.map(work, offsets, [chunks[number] for number in todo])
            results = reporting(results, output.name, len(todo), step)
            problems = collect(results, [lines[number] for number in todo], data, log)
            if not any(problems):
                data.write(header)
                data.flush()
                os.fsync(data.fileno())
    except BrokenProcessPool:
        raise UserError(
            f"{output}: a process that decoded images was killed. If memory was short, use fewer"
            " cores. Run again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    if not any(problems):
        os.replace(part, output)
        journal.unlink()
    return problems
