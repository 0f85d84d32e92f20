"""Print how far a study is.

    wa status --config config/config.yaml        in the folder that holds results/
    wa status --watch                            again every 5 seconds, until the study is done

It only reads files, so it disturbs no training, on this machine or on a cluster.
"""

import argparse
import contextlib
import csv
import math
import os
import re
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from wa.code import Code
from wa.errors import UserError, counted
from wa.identity import CHECKOUT
from wa.locks import is_free, is_locked
from wa.study import layout
from wa.study.config_file import read_config
from wa.study.parts import of_other_data
from wa.study.results import Results
from wa.study.study import Study
from wa.training.meter import read_spent
from wa.training.progress import read_progress

HELP = """Print how far a study is.

It lists the trainings that have begun, each with its epoch, its speed, and its last loss and
accuracies with their curves. It lists the other jobs that failed, with their errors. It estimates
when the study will end. The estimate counts trainings only. Evaluations and figures take a few
seconds each. Run it in the folder that holds results/. It only reads files.
"""

STARTS = 120  # seconds that a training may take until it says something
SILENT = 600  # seconds without news after which status warns
WATCH = 5.0  # seconds between two reports of --watch
FEW = 3  # files that an error names, of many
REST = 4.0  # times as long as a report took, until the next: a large one reads thousands of files
CLEAR = "\033[H\033[2J"  # puts the next text at the top of an empty terminal
BARS, WIDTH = "▁▂▃▄▅▆▇█", 20  # of the curve of a training
# Columns of history.csv -> their name and unit on the screen.
CURVES = {"loss": "loss {}", "train_accuracy": "train {} %", "test_accuracy": "test {} %"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        default="config/config.yaml",
        help="the study's config (default: config/config.yaml)",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=WATCH,
        metavar="SECONDS",
        help=f"print it again every SECONDS (default: {WATCH:g}), until the study is done. A report"
        " of thousands of results takes seconds. The next one then waits four times as long",
    )


def duration(seconds: float) -> str:
    """48 s, 3 min 20 s, 2 h 05 min, 1 d 3 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def last_error(log: Path) -> str | None:
    """The last line of a log that starts with `error:`, or the last one of a traceback.

    If the line ends with a colon, the lines after it follow, indented.
    """
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [*re.finditer(r"^error: .*", text, re.M)]
    if errors:
        error = errors[-1].group()
        after = text[errors[-1].end() :].strip().splitlines() if error.endswith(":") else []
        return "\n    ".join([error, *shortened(after)])
    if "Traceback (most recent call last)" in text:
        return text.rstrip().splitlines()[-1]
    return None


def shortened(lines: list[str]) -> list[str]:
    """Some of the lines that name files, the number of the others, and the lines of advice."""
    named = [line for line in lines if "/" in line]
    counts = [re.fullmatch(r"\.\.\. and (\d+) more", line) for line in lines]
    advice = [
        line for line, count in zip(lines, counts, strict=True) if line not in named and not count
    ]
    more = len(named[FEW:]) + sum(int(count[1]) for count in counts if count)
    return [*named[:FEW], *[f"and {more} more"] * bool(more), *advice]


def failures(study: Study) -> dict[str, str]:
    """The jobs that failed, but for trainings: their logs and the errors in them.

    A job that starts again empties its log first.
    """
    folders = {study.root, f"{study.root}/figures"} | {part.folder for part in study.parts}
    for run in study.runs():
        folders |= {folder for task in run for folder in (task.learned, task.path)}
    found = {}
    for folder in sorted(filter(os.path.isdir, folders)):
        for file in sorted(os.scandir(folder), key=lambda file: file.name):
            is_log = file.name.endswith(".log") and file.name != "train.log"
            if is_log and file.stat().st_size and (error := last_error(Path(file.path))):
                found[file.path] = error
    return found


def is_running(folder: str) -> bool:
    """Whether a training runs, whose checkpoint will be in this folder."""
    return is_locked(Path(folder, layout.RESUME, "lock"))


def state(folder: Path, now: float, idle: bool) -> tuple[str, float | None]:
    """What a training that has begun does, and its seconds left. They are None if it stopped.

    folder: where its checkpoint will be. now: in seconds since 1970. idle: whether it is known that
    nothing runs the study.
    """
    log, resume = folder / "train.log", folder / ".resume"
    progress = read_progress(resume)
    text, left, heard = "starts", 0.0, log.stat().st_mtime
    stopped = "stopped at its start"
    if progress:
        left, heard = progress.seconds_left, max(heard, progress.time)
        words = [
            f"epoch {progress.epoch}/{progress.epochs}",
            *last_values(resume / layout.HISTORY),
            f"{progress.images_per_second:.0f} images/s",
            f"{duration(left)} left",
        ]
        if progress.share:
            words[0] += f" and {progress.share:.0%}"
        text = ", ".join(words)
        stopped = f"{text}; stopped"
    if is_running(folder):
        if now - heard <= SILENT:
            return text, left
        return f"{text}; no news for {duration(now - heard)}: it hangs or its epochs are long", None
    error = last_error(log)
    if not idle and log.stat().st_size == 0 and now - log.stat().st_mtime <= STARTS:
        return "starts", left
    return error or stopped, None


def last_values(history: Path) -> list[str]:
    """The last loss and accuracies, in words, each with its curve. The training may be writing."""
    if not history.exists():
        return []
    with open(history, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    found = []
    for name, text in CURVES.items():
        values = [row[name] for row in rows if row.get(name)]
        if values:
            found.append(f"{text.format(values[-1])} {curve([*map(float, values)])}".rstrip())
    return found


def curve(values: list[float]) -> str:
    """The values as a line of bars, from the lowest to the highest: 1, 0.5, 0.1 are `█▄▁`.

    At most WIDTH bars: each is the mean of neighbouring values. One value has no curve.
    """
    values = [value for value in values if math.isfinite(value)]
    bars = min(len(values), WIDTH)
    if bars < 2:
        return ""
    ends = [len(values) * bar // bars for bar in range(bars + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low or 1)
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


class Outdated(NamedTuple):
    """Results that exist, but that the study wants otherwise today: folder -> why.

    refused: why the next run makes none of them anew, in one line.
    """

    trainings: dict[str, str]
    evaluations: dict[str, str]
    refused: str = ""


NONE = Outdated({}, {})


def outdated(study: Study, code: Code | None = None) -> Outdated:
    """The results that the next run makes anew, because of the config, the code or the data.

    code: of this checkout, if it was read before.
    """
    results, trainings, evaluations = Results(study, code), {}, {}
    other = {}  # folder of a checkpoint -> why it, or what is made of it, is made anew
    refused = of_other_data(study.root, study.parts)
    data = refused or next(filter(None, map(results.prepared, study.parts)), None)
    for task in sorted(study.tasks.values(), key=lambda task: len(task.sizes)):
        path = task.learned
        if task.path == path and Path(path, layout.TRAINED).exists():
            why = results.trained(path)
            if why is None:
                why = other.get(task.previous) or data
            if why:
                trainings[path] = why
            ranked = study.memory(task).keeps and results.ranked(path, study.selection(task))
            if made := why or results.aligned(path) or ranked:
                other[path] = made
    for run in study.runs():
        for task in run:
            if Path(task.path, layout.METRICS).exists():
                why = results.evaluated(task)
                if why := other.get(task.learned) if why is None else why:
                    evaluations[task.path] = why
    return Outdated(trainings, evaluations, refused)


def told(study: Study, old: Outdated) -> str:
    """What outdated() found, in words."""
    if old.refused:
        return old.refused
    path, reason = next(iter((old.trainings | old.evaluations).items()))
    counts = counted(len(old.trainings), "training"), counted(len(old.evaluations), "evaluation")
    return (
        f"outdated, so the next run makes them anew: {' and '.join(counts)}. For instance"
        f" {path.removeprefix(study.root + '/')}: {reason}"
    )


def report(study: Study, now: float, old: Outdated = NONE) -> str:
    """The text that status prints. now: in seconds since 1970. old: what outdated() found.

    While Snakemake runs a study, it has the study's lock, wherever its trainings run.
    """
    trainings = sorted({task.learned for task in study.tasks.values()})
    evaluations = [task.path for run in study.runs() for task in run]
    done = [path for path in trainings if Path(path, layout.TRAINED).exists()]
    done = [path for path in done if path not in old.trainings]
    evaluated = [path for path in evaluations if Path(path, layout.METRICS).exists()]
    waiting = sorted(set(trainings) - set(done))
    idle = is_free(f"{study.root}/{layout.LOCK}") and not any(map(is_running, waiting))
    text = [
        f"{study.root}: {len(done)} of {counted(len(trainings), 'training')} done, "
        f"{len(evaluated) - len(old.evaluations)} of {counted(len(evaluations), 'task')} evaluated"
    ]
    if any(old):
        text.append(told(study, old))
    if not os.path.exists(study.root):
        text.append("it has not begun in this folder")
    elif idle and not old.refused and not is_done(study, old):
        text.append("nothing runs this study now")
    begun = False
    running = []  # the seconds left of each training that runs
    for path in waiting:
        if not Path(path, "train.log").exists():
            continue
        if path in old.trainings and not is_running(path):
            continue  # its log is that of the result that is there
        if not begun:
            text.append("begun and not done:")
            begun = True
        what, left = state(Path(path), now, idle)
        text.append(f"  {path.removeprefix(study.root + '/')}: {what}")
        if left is not None:
            running.append(left)
    if failed := failures(study):
        text.append("failed:")
        text += [f"  {log.removeprefix(f'{study.root}/')}: {why}" for log, why in failed.items()]
    if done and running:
        # A training to come is expected to take as long as the mean of those that are done. The
        # tasks of a run follow one another, so the study may well take longer.
        took = [read_spent(Path(path)).seconds or 0.0 for path in done]
        mean = sum(took) / len(took)
        others = len(waiting) - len(running)
        to_go = max(*running, (sum(running) + others * mean) / len(running))
        at_once = f" with {len(running)} at a time and {duration(mean)} each," if others else ""
        text.append(
            f"at least {duration(max(to_go, 1))} to go,{at_once} without evaluations and figures"
        )
    return "\n".join(text)


def is_done(study: Study, old: Outdated) -> bool:
    """Whether every training is done, and every task evaluated, as the study wants it."""
    files = [f"{task.learned}/{layout.TRAINED}" for task in study.tasks.values()]
    files += [f"{task.path}/{layout.METRICS}" for run in study.runs() for task in run]
    return not any(old) and all(Path(file).exists() for file in files)


def repeat(study: Study, code: Code, seconds: float | None) -> None:
    """Print the report, and again every so many seconds until the study is done."""
    while True:
        start = time.perf_counter()
        clear = CLEAR if seconds and sys.stdout.isatty() else ""
        old = outdated(study, code)
        print(clear + report(study, time.time(), old), flush=True)
        if not seconds or is_done(study, old):
            return
        time.sleep(max(seconds, REST * (time.perf_counter() - start)))


def main(args: argparse.Namespace) -> None:
    """Print the report on the study of a config file, once or again and again."""
    if args.watch is not None and args.watch <= 0:
        raise UserError(f"--watch {args.watch:g} is not a number of seconds above 0, such as 5")
    study = Study(read_config(args.config))
    if not Path("results").is_dir():
        raise UserError("there is no folder results/ here: run this in the folder that holds it")
    with contextlib.suppress(KeyboardInterrupt):  # the usual end of --watch
        repeat(study, Code(CHECKOUT), args.watch)
