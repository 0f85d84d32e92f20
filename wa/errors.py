"""The error for what only the user can mend, and the way every program ends."""

import difflib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import NoReturn


class UserError(Exception):
    """Something that only the user can mend.

    Its text is one line: what is wrong, where, and what to do next.
    """


def printable_bytes(text: str) -> str:
    """A text in which bytes of a file's name that are not UTF-8 are escaped, as in caf\\xe9.png."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plain(error: Exception) -> str:
    """An error in words, without the number that an OSError begins with."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def counted(number: int, what: str) -> str:
    """1 training, 2 trainings."""
    return f"{number} {what}{'s' * (number != 1)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a name, in letters of any case. None: none is like it."""
    by_letters = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), by_letters, 1)
    return by_letters[close[0]] if close else None


def command(name: str) -> str:
    """How to call a program that is installed beside this Python, for instance in a message.

    That is its name if the shell finds it, and otherwise its path, such as .venv/bin/snakemake.
    """
    beside, found = Path(sys.executable).parent / name, shutil.which(name)
    if not beside.exists() or (found and os.path.samefile(found, beside)):
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, unless file names are UTF-8 already.

    A locale such as C or ISO-8859-1 would change names of files, classes and what is printed.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """A handler of SIGINT and SIGTERM: interrupt the program, and ignore later ones.

    After Ctrl-C two come: one from the terminal, and one from Snakemake (wa/stopping.py).
    """
    for later in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(later) is stop:
            signal.signal(later, signal.SIG_IGN)
    raise KeyboardInterrupt


def program(main: Callable[[], None]) -> None:
    """Run a program's main function.

    A UserError, an OSError, a MemoryError, a package that is not installed, SIGINT and SIGTERM
    become one line and exit status 1.
    """
    use_utf8()
    # Slurm sends SIGTERM before it kills. A worker of torchrun ends at once, as before: it may hang
    # in a collective, where Python sees no signal, and torchrun would wait for it.
    if "RANK" not in os.environ:
        signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup may ignore it
        signal.signal(signal.SIGINT, stop)
    try:
        main()
    except BrokenPipeError:  # the reader left, as in `wa show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("stopped. The same command goes on.")
    except (UserError, OSError) as error:
        sys.exit(f"error: {printable_bytes(plain(error))}")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "wa"):
            raise
        sys.exit(
            f"error: {package} is not installed. Install what studies need, in the folder of this"
            " program: pip install '.[train]'"
        )
    except MemoryError as error:
        sys.exit(
            f"error: too little memory ({error}). Use a machine with more,"
            " or check that the inputs are the right files."
        )
