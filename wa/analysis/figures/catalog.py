"""The figures, one entry each: the workflow, the program and the tests loop over this table.

A new figure is three things:

1. a function `NAME(study, table, styles)` in a module of this folder, which returns the figure. The
   table is the path of metrics.csv, or of the table that the figure reads. styles: see
   drawing.py,
2. an entry NAME here,
3. its caption, workflow/report/NAME.rst.

Nothing heavy is imported here, for the Snakefile reads this module.
"""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from wa.study import layout

# What a figure or a table may read: the table of the study that its function is given. Those that
# are not here read files beside the checkpoints.
READS = {
    "metrics": layout.TABLE,
    "classes": layout.CLASS_TABLE,
    "cost": layout.COST_TABLE,
    "anytime": layout.COST_TABLE,  # it finds metrics.csv beside it
}


class Figure(NamedTuple):
    """What the workflow must know of a figure."""

    module: str  # the module of this folder that holds the function
    category: str  # where the report lists it
    title: str  # its name in the report
    reads: str = "metrics"  # or "classes", "cost", "anytime", "predictions", "history"
    per_protocol: bool = False  # one figure for each protocol, or one for all


BIAS = "Bias of the classifier"

FIGURES = {
    "accuracy": Figure("lines", "Accuracy", "accuracy against classes seen"),
    "task_aware": Figure("lines", "Accuracy", "accuracy if the task is told"),
    "comparison": Figure("comparison", "Accuracy", "final comparison"),
    "paired": Figure("paired", "Accuracy", "paired differences"),
    "mean_ranks": Figure("paired", "Accuracy", "mean ranks over all runs"),
    "matrix": Figure("panels", "Accuracy", "accuracy matrix, task by task", per_protocol=True),
    "classes": Figure("panels", "Accuracy", "accuracy by class", "classes", per_protocol=True),
    "forgetting": Figure("lines", "Forgetting", "forgetting"),
    "old_new": Figure("lines", "Forgetting", "old and new classes"),
    "norms": Figure("panels", BIAS, "norms of the rows, as trained and aligned", per_protocol=True),
    "gamma": Figure("lines", BIAS, "gamma over tasks"),
    "new_share": Figure("lines", BIAS, "how often new classes are predicted"),
    "confusion": Figure("predictions", BIAS, "confusion", "predictions", per_protocol=True),
    "worst_pairs": Figure(
        "predictions", BIAS, "old and new classes confused", "predictions", per_protocol=True
    ),
    "calibration": Figure("predictions", BIAS, "calibration", "predictions", per_protocol=True),
    "curves": Figure("training", "Training", "training curves", "history", per_protocol=True),
    "anytime": Figure("anytime", "Training", "accuracy against epochs and memory", "anytime"),
    "cost": Figure("training", "Training", "time, memory and energy", "cost"),
}


class Table(NamedTuple):
    """What the workflow must know of a table."""

    function: str  # in tables.py
    reads: str = "metrics"  # or "cost"


# The tables, by the name of their files.
TABLES = {
    "final": Table("final"),
    "tasks": Table("after_each_task"),
    "task_told": Table("if_the_task_is_told"),
    "ablation": Table("ablation"),
    "differences": Table("differences_to_reference"),
    "costs": Table("costs", "cost"),
}


def function_of(name: str) -> Callable:
    """The function that draws a figure or makes a table."""
    module = FIGURES[name].module if name in FIGURES else "tables"
    function = TABLES[name].function if name in TABLES else name
    return getattr(import_module(f"wa.analysis.figures.{module}"), function)


# Sentences that several captions share; a caption names one as snakemake.config.sentences.NAME.
SENTENCES = {
    "own_classifier": (
        "Each method is shown with its own classifier. That is the classifier that the method "
        "names (iCaRL: the nearest mean of exemplars). A method that names none is shown with "
        "its aligned classifier if it aligns, and otherwise with the classifier as trained."
    ),
    "mean_and_band": (
        "The line is the mean over the runs. With up to four methods, a band shows their standard "
        "deviation."
    ),
    "trained_and_aligned": (
        "Every method is shown with its linear classifier as trained, and the methods that align "
        "also with the aligned classifier."
    ),
    "task_0": "Methods that start from the same base share task 0.",
}
