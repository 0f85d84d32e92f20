"""Many image files -> one uint8 array on disk: decoded by several processes, and going on after a kill.

The array grows in .NAME.part, whose header is written last, so that it never looks whole. .NAME.journal beside it has a line
for each chunk of images that is on disk: its number and a digest of its files' names, sizes and dates. Started again, only the
chunks that it lacks are decoded.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from itertools import repeat
from pathlib import Path

import numpy as np

from wa.errors import UserError
from wa.locks import die_with_parent

CHUNK = 2**24  # bytes of pixels
SYNC = 5.0  # seconds between two entries in the journal
REPORT = 60.0  # seconds between two lines in the log
Reader = Callable[[str], np.ndarray]  # a file -> uint8 (H, W, C); UserError if it cannot be read


def digest(files: list[str]) -> str:
    stats = ((file, os.stat(file)) for file in files)
    return hashlib.sha256(
        "\n".join(f"{f} {s.st_size} {s.st_mtime_ns}" for f, s in stats).encode()
    ).hexdigest()[:16]


def decode(
    part: Path, offset: int, shape: tuple[int, ...], read: Reader, files: list[str]
) -> tuple[list[str], list[str]]:
    """Write the images of a chunk to their place; returns what is wrong: with unreadable files, with images of another size."""
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
            odd.append(
                f"{file}: {image.shape[1]}x{image.shape[0]} pixels, but the first has {shape[1]}x{shape[0]}"
            )
    if not unreadable and not odd:
        with open(part, "r+b") as stream:
            stream.seek(offset)
            stream.write(pixels)
    return unreadable, odd


def pack(
    files: list[str], output: Path, shape: tuple[int, ...], read: Reader, code: str, processes: int
) -> tuple[list[str], list[str]]:
    """Decode the files into the array (n, *shape) at `output`, which then maps into memory as one that numpy saved.

    code: what else the pixels depend on; a journal that says otherwise is of no use. Returns what is wrong, as `decode`; if
    there is anything, `output` is not written, and a call with mended files decodes only the chunks that hold them.
    """
    part, journal = (output.with_name(f".{output.name}.{what}") for what in ("part", "journal"))
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (len(files), *shape)}
    )
    header, image = stream.getvalue(), int(np.prod(shape))
    step = max(1, CHUNK // image)
    chunks = [files[i : i + step] for i in range(0, len(files), step)]
    heading = f"{len(files)} {shape} {step} {code}"
    lines = [f"{number} {digest(chunk)}" for number, chunk in enumerate(chunks)]

    found = journal.read_text().splitlines() if journal.exists() and part.exists() else []
    done = set(found[1:]) if found[:1] == [heading] else set()
    if not done:
        output.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        need, free = len(header) + len(files) * image, shutil.disk_usage(output.parent).free
        if need > free:
            raise UserError(
                f"{output} needs {need / 1e9:.1f} GB, but there are {free / 1e9:.1f} GB free: make room, and run again"
            )
        part.touch()
        os.truncate(part, need)
        journal.write_text(heading + "\n")
    todo = [number for number, line in enumerate(lines) if line not in done]
    if done:
        print(
            f"{output.name}: going on, {len(chunks) - len(todo)} of {len(chunks)} chunks are there",
            flush=True,
        )

    problems: tuple[list[str], list[str]] = ([], [])
    started = synced = reported = time.monotonic()
    ready: list[str] = []
    pool = ProcessPoolExecutor(max(1, min(processes, len(todo))), initializer=die_with_parent)
    try:
        with open(part, "r+b") as data, open(journal, "a") as log:

            def sync() -> None:
                os.fsync(
                    data.fileno()
                )  # of the file, whoever wrote to it: what the journal names is on disk
                log.writelines(f"{line}\n" for line in ready)
                log.flush()
                os.fsync(log.fileno())
                ready.clear()

            offsets = [len(header) + number * step * image for number in todo]
            work = partial(decode, part)
            results = pool.map(
                work, offsets, repeat(shape), repeat(read), (chunks[number] for number in todo)
            )
            for count, (number, wrong) in enumerate(zip(todo, results, strict=True), 1):
                for all_of_them, some in zip(problems, wrong, strict=True):
                    all_of_them += some
                if not any(wrong):
                    ready.append(lines[number])
                now = time.monotonic()
                if now - synced > SYNC:
                    sync()
                    synced = time.monotonic()
                if now - reported > REPORT:
                    speed = count * step / (now - started)
                    print(
                        f"{output.name}: {count} of {len(todo)} chunks, {speed:.0f} images/s",
                        flush=True,
                    )
                    reported = now
            if not any(problems):
                data.write(header)
                data.flush()
            sync()
    except BrokenProcessPool:
        raise UserError(
            f"{output}: a process that decoded images was killed; if memory was short, use fewer cores"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    if not any(problems):
        os.replace(part, output)
        journal.unlink()
    return problems
