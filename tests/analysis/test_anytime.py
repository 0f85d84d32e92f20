"""The figure anytime: accuracy against epochs so far, and against what is stored."""

from pathlib import Path

import pandas as pd
import pytest

from wa.analysis import aggregate, cost
from wa.analysis.figures.anytime import anytime
from wa.analysis.figures.drawing import Styles, theme
from wa.analysis.figures.look import Look
from wa.study.layout import RunTable

# Exemplars in MB. All models take 1 MB after task 0, and 2 MB after task 1.
MEMORY = {"finetune": 0, "wa-memory-20": 3, "wa-memory-10": 1}
SWEEP = {"wa": ["wa-memory-20", "wa-memory-10"]}


def invented(folder: Path, last_task: bool = True) -> RunTable:
    """metrics.csv and cost.csv of two runs of each method. last_task: whether task 1 is there."""
    study = RunTable(str(folder), "x", ["1"], [0, 1], [(5, 5)], list(MEMORY), 10, sweeps=SWEEP)
    metrics, costs = [], []
    for run in study.runs():
        for task in range(1 + last_task):
            start = ("x", *run[:5], task, 5 * (task + 1))
            own = (*start, "trained", "true")
            metrics.append((*own, "accuracy", 90 - 20 * task + 2 * run.seed))
            costs.append((*start, "epochs", 30 if task == 0 else 10))
            costs.append((*start, "model_mb", 1 + task))
            costs.append((*start, "memory_mb", MEMORY[run.method]))
            if task:
                metrics.append((*own, "average_incremental_accuracy", 80 + 2 * run.seed))
                metrics.append((*own, "last_accuracy", 70 + 2 * run.seed))
    pd.DataFrame(metrics, columns=aggregate.COLUMNS).to_csv(folder / "metrics.csv", index=False)
    pd.DataFrame(costs, columns=cost.COLUMNS).to_csv(folder / "cost.csv", index=False)
    return study


def drawn(study: RunTable):
    with theme(Look()):
        return anytime(study, f"{study.root}/cost.csv", Styles(study, Look())).axes


def test_epochs_add_up_and_memory_is_that_of_the_end(tmp_path):
    left, right = drawn(invented(tmp_path))
    for line in left.lines:
        assert line.get_xdata().tolist() == [30, 40]
        assert line.get_ydata().tolist() == [91, 71]  # the means of two seeds
    joined, *points = right.lines
    assert joined.get_xdata().tolist() == [3, 5]  # by memory, not in the order of the config
    assert [tuple(map(float, p.get_xydata()[0])) for p in points] == [
        (2 + megabytes, pytest.approx(81)) for megabytes in MEMORY.values()
    ]


def test_of_an_unfinished_study_only_the_epochs_are_drawn(tmp_path):
    (panel,) = drawn(invented(tmp_path, last_task=False))
    assert panel.get_xlabel() == "epochs of training"
    assert [line.get_xdata().tolist() for line in panel.lines] == [[30]] * 3
