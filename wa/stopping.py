"""Stop the jobs of Snakemake when Snakemake itself is stopped.

On its own, Snakemake waits for running jobs to end after SIGTERM, and after SIGINT that only it
gets. A training can take hours. It saves its state as it goes, so it may stop at once.

Jobs get SIGINT, because their shells then wait for them. In a script's background (`snakemake &`)
SIGINT is ignored, by all jobs too. There they get SIGTERM, but not their shells: those would end
before them, and Snakemake would clean up behind a job that still writes.
"""

import contextlib
import signal
from types import FrameType

import psutil

SHELLS = {"bash", "dash", "sh", "zsh"}


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
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not ignored:
                    child.send_signal(signal.SIGINT)
                elif child.name() not in SHELLS:
                    child.terminate()
        if callable(before):
            before(number, frame)

    return interrupt
