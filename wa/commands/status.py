"""How far a study is: what is done, what is trained now, at which epoch and speed, and when it will end.

    wa status --config config/config.yaml        in the folder that holds results/

Reads files alone, so it asks and disturbs nobody, on this machine or on a cluster.
"""

import csv
import re
import time
from pathlib import Path

from wa.errors import UserError
from wa.locks import is_locked
from wa.study.config import read_config
from wa.study.study import Study

EPOCH = re.compile(r"^epoch (\d+)/(\d+) .*?([\d.]+) images/s  ([\d.]+) s left$", re.M)
SILENT = 600  # seconds after which it is worth saying that a log says nothing new


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{minutes // 1440} d {minutes % 1440 // 60} h"
        if minutes >= 1440
        else f"{minutes // 60} h {minutes % 60:02} min"
    )


def seconds_of(history: Path) -> float:
    with open(history) as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def report(study: Study, now: float) -> str:
    """The text, for a time `now` in seconds since the epoch."""
    trainings = sorted({task.learned for task in study.tasks.values()})
    evaluations = [task.path for run in study.runs() for task in run]
    done = [path for path in trainings if Path(path, "trained.safetensors").exists()]
    evaluated = sum(Path(path, "metrics.json").exists() for path in evaluations)
    lines, left, times = [], [], [seconds_of(Path(path, "history.csv")) for path in done]
    for path in sorted(set(trainings) - set(done)):
        log = Path(path, "train.log")
        if not log.exists():
            continue
        said = log.read_text(errors="replace")
        epochs = EPOCH.findall(said)
        where = (
            "starts" if not epochs else "epoch {}/{}, {} images/s, {} s left".format(*epochs[-1])
        )
        silent = now - log.stat().st_mtime
        if error := re.search(r"^error: .*", said, re.M):
            where = error.group()
        elif not is_locked(f"{path}/.resume/lock"):
            where += "; stopped"
        elif silent > SILENT:
            where += f"; silent for {duration(silent)}: it hangs, or an epoch is that long"
        else:
            left.append(float(epochs[-1][3]) if epochs else 0.0)
        lines.append(f"  {path.removeprefix(study.root + '/')}: {where}")
    text = [
        f"{study.root}: {len(done)} of {len(trainings)} trainings done, {evaluated} of {len(evaluations)} tasks evaluated"
    ]
    text += ["begun and not done:", *lines] if lines else []
    waiting = len(trainings) - len(done) - len(left)
    if times and left:
        # The mean training so far stands for those to come. A run's tasks follow one another, so it may well take longer.
        seconds = max(*left, (sum(left) + waiting * sum(times) / len(times)) / len(left))
        text.append(
            f"at least {duration(seconds)} to go, with {len(left)} at a time and {duration(sum(times) / len(times))} each"
        )
    return "\n".join(text)


def status(config: str) -> None:
    """Print the report on the study of a config file."""
    if not Path("results").is_dir():
        raise UserError("there is no folder results/ here: run this where the study runs")
    print(report(Study(read_config(config)), time.time()))
