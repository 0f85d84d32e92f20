"""Notice that a training waits for processor cores.

Trainings that share cores hinder each other: threads of one wait at each step for threads of
another. Two with two threads each on two cores made 63 images/s where one alone made 577.
"""

import time
from pathlib import Path

WAITS = Path("/proc/self/schedstat")  # Linux: nanoseconds on a core, and waiting for one
MUCH = 0.2  # of an epoch: beyond this it is said


def waited() -> float:
    """Seconds that the first thread of this process has waited for a core. 0 if none can tell."""
    try:
        return int(WAITS.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Cores:
    """Says once, after an epoch, that the training waits for cores."""

    def __init__(self) -> None:
        self.started, self.waited, self.said = time.perf_counter(), waited(), False

    def warning(self) -> str:
        """What to say after an epoch, or "". Each call begins a new epoch."""
        now, waits = time.perf_counter(), waited()
        share = (waits - self.waited) / (now - self.started)
        self.started, self.waited = now, waits
        if self.said or share < MUCH:
            return ""
        self.said = True
        return (
            f"this epoch waited {100 * share:.0f} % of its time for a processor core: more runs"
            " here than there are cores. If these are other trainings, run less at once (a smaller"
            " --cores), or give each fewer threads (`--set-threads train=1`)"
        )
