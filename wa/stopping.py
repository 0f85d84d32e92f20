"""Stop the jobs of Snakemake when Snakemake itself is stopped.

On its own, Snakemake waits for running jobs to end after SIGTERM, and after SIGINT that only it
gets. A training can take hours. It saves its state as it goes, so it may stop at once.
"""

import contextlib
import signal
from types import FrameType

import psutil


def stop_jobs_too() -> None:
    """Have SIGTERM and SIGINT to this process interrupt the processes that it started.

    What the signals do now, they still do afterwards. A signal that is ignored, as SIGINT is in a
    script's background, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if before != signal.SIG_IGN:
            signal.signal(number, handler(before))


def handler(before: object) -> object:
    """A handler of signals that interrupts all children, and then does what `before` does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)
        if callable(before):
            before(number, frame)

    return interrupt
