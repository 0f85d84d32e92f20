"""What others see of a training while it runs. Nothing here changes a result.

In the training's folder .resume/, which goes when the training ends:

    history.csv      the rows of the epochs so far, one more after each epoch
    progress.json    how far it is, at most once a second, for `wa status`

The same numbers go to trackers such as TensorBoard (wa/training/trackers.py).
"""

import shutil
import time
from pathlib import Path

from wa.study import layout
from wa.training.history import append_history, write_history
from wa.training.progress import Progress, seconds_left, write_progress
from wa.training.trackers import Tracker


class Live:
    """The files of a training that has begun, or goes on after some epochs.

    folder: .resume/. history: the rows of the epochs that are done. Rows of epochs that were lost
    by a kill are trained, and written, again. epochs, images: how many there are in all. trackers:
    what gets each row too. Raises UserError if a file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        history: list[dict],
        epochs: int,
        images: int,
        trackers: list[Tracker],
    ):
        self.folder, self.epochs, self.images = folder, epochs, images
        self.done, self.trackers = len(history), trackers
        self.started, self.due = time.monotonic(), 0.0
        write_history(folder / layout.HISTORY, history)
        for row in history:
            self.track(row)

    def within_epoch(self, share: float) -> None:
        """Note the share of the epoch that is done, at most once a second."""
        now = time.monotonic()
        if now < self.due or share >= 1:
            return
        self.due = now + 1
        seconds = max(now - self.started, 1e-3) / share  # of a whole epoch
        left = (self.epochs - self.done - share) * seconds
        speed = self.images / seconds
        write_progress(
            self.folder, Progress(self.done, self.epochs, share, speed, left, time.time())
        )

    def after_epoch(self, row: dict) -> None:
        """Add the row of an epoch."""
        self.done = row["epoch"]
        append_history(self.folder / layout.HISTORY, row)
        self.track(row)
        left = seconds_left(row, self.epochs)
        speed = row["images_per_second"]
        write_progress(self.folder, Progress(self.done, self.epochs, 0, speed, left, time.time()))
        self.started = time.monotonic()
        self.due = self.started + 1

    def track(self, row: dict) -> None:
        for tracker in self.trackers:
            tracker.add(row)

    def close(self) -> None:
        """Remove what is only for a training that runs."""
        for tracker in self.trackers:
            tracker.close()
        shutil.rmtree(self.folder, ignore_errors=True)
