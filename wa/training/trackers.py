"""Where the numbers of each epoch go, apart from history.csv: TensorBoard, and Weights & Biases.

    tensorboard: true    event files in tensorboard/ beside the checkpoint, for
                         `tensorboard --logdir results/STUDY`
    wandb: true          an offline run in wandb/ beside the checkpoint, for `wandb sync`

Both are written anew when a training goes on. Nothing here changes a result.
"""

import argparse
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from wa.errors import UserError
from wa.study import layout
from wa.study.settings import Settings


class Tracker(Protocol):
    """Something that gets the row of each epoch of a training."""

    def add(self, row: dict) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files of torch's SummaryWriter."""

    def __init__(self, output: Path, args: argparse.Namespace, settings: Settings):
        from torch.utils.tensorboard import SummaryWriter

        folder = emptied(output / layout.EVENTS)
        self.writer = SummaryWriter(str(folder))

    def add(self, row: dict) -> None:
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases that is kept on this machine. Nothing is sent."""

    def __init__(self, output: Path, args: argparse.Namespace, settings: Settings):
        import wandb

        emptied(output / layout.WANDB)
        study, task = names_of(output)
        self.run = wandb.init(
            project=study,
            name=task,
            group=os.path.dirname(task) or None,
            dir=str(output),
            config=asdict(settings)
            | {"seed": args.seed, "memory": str(args.memory), "task_sizes": args.tasks},
            settings=wandb.Settings(
                mode="offline",
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
            ),
        )

    def add(self, row: dict) -> None:
        self.run.log(numbers(row), step=row["epoch"])

    def close(self) -> None:
        self.run.finish()


# The key of the config, which is the name of the package too -> its tracker.
TRACKERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check_installed(wanted: Iterable[str]) -> None:
    """Raise UserError if the package of a tracker is not installed. wanted: some of TRACKERS."""
    for name in wanted:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of this name is no package
            raise UserError(
                f"{name}: true needs the package {name}, which is not installed. Install it with"
                f" `pip install {name}`, or take the key out of the config"
            )


def trackers(args: argparse.Namespace, settings: Settings) -> list[Tracker]:
    """The trackers that the options of a training name. Raises UserError if one is missing."""
    wanted = [name for name in TRACKERS if getattr(args, name)]
    check_installed(wanted)
    return [TRACKERS[name](args.output, args, settings) for name in wanted]


def numbers(row: dict) -> dict[str, float]:
    """What was measured in an epoch."""
    return {name: value for name, value in row.items() if name != "epoch" and value is not None}


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def names_of(output: Path) -> tuple[str, str]:
    """The study and the task of a training, from its folder."""
    path = output.absolute().as_posix()
    found = re.search(rf"([^/]+)/({layout.TASK})$", path)
    return (found[1], found[2]) if found else ("wa", output.name)
