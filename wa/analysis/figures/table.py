"""Read metrics.csv, classes.csv and cost.csv for figures and tables.

wa.analysis.aggregate and wa.analysis.cost say what their columns are.
"""

import io
import math
import re

import pandas as pd

from wa.errors import UserError
from wa.files import was_changed
from wa.study.layout import RunTable, protocol_name

PROTOCOL = ["base", "increment"]
RUN = ["order", "seed", *PROTOCOL, "method"]
UNFINISHED = "no run of this protocol is finished"

# The linear classifiers, with rows and probabilities, and how figures name them.
CLASSIFIERS = {"trained": "as trained", "aligned": "aligned"}

# The metrics of a finished run that tables show, and how figures and tables name them.
FINAL = {
    "average_incremental_accuracy": "average",
    "average_incremental_accuracy_without_first": "average without first",
    "last_accuracy": "last",
    "average_incremental_top5_accuracy": "average top-5",
    "top5_accuracy": "last top-5",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
}


# The two of them that are compared in figures and in the table of differences.
COMPARED = ("average_incremental_accuracy", "last_accuracy")


def read(
    path: str,
    study: RunTable,
    values: tuple[str, ...] = ("classifier", "own", "metric", "value"),
    norms: bool = False,
) -> pd.DataFrame:
    """The rows of metrics.csv that belong to the study, with a column `protocol`.

    values: the columns after `classes`. norms: whether the norms of the classifier's rows are read.
    They are most of metrics.csv, and one figure shows them.

    Methods and protocols are ordered as the study orders them. `own` marks, for each method, the
    rows of the classifier that stands for it. Raises UserError if the table is damaged, or was
    edited after the study wrote it.
    """
    if was_changed(path):
        raise UserError(
            f"{path} was edited after the study wrote it. Delete it, and run the study again. To"
            " draw an edited table, copy it to another folder."
        )
    # A large study has millions of rows, so repeated text is kept once.
    columns = [*RUN, "task", "classes", *values]
    texts = {"order", "method", "classifier", "metric", "class"}.intersection(columns)
    types = dict.fromkeys(texts, "category") | ({"own": bool} if "own" in columns else {})
    try:
        lines = path if norms else without_norms(path)
        table = pd.read_csv(lines, usecols=columns, dtype=types, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from None
    table["protocol"] = [
        protocol_name(b, i) for b, i in zip(table["base"], table["increment"], strict=True)
    ]
    protocols = [protocol_name(*p) for p in study.protocols]
    table = table[table["protocol"].isin(protocols) & table["method"].isin(study.methods)].copy()
    table["protocol"] = pd.Categorical(table["protocol"], protocols, ordered=True)
    table["method"] = pd.Categorical(table["method"].astype(str), study.methods, ordered=True)
    return table


NORM = re.compile(rb",row_norm_[0-9]+,[^,]*$")  # the last two columns of such a row


def without_norms(path: str) -> io.BytesIO:
    """The lines of a table, without the norms of the classifier's rows."""
    with open(path, "rb") as file:
        return io.BytesIO(b"".join(line for line in file if not NORM.search(line)))


def read_own(path: str, study: RunTable) -> pd.DataFrame:
    """The rows of each method's own classifier, see wa.analysis.metrics.own_classifier."""
    table = read(path, study)
    return table[table["own"]]


def read_costs(path: str, study: RunTable) -> pd.DataFrame:
    """The rows of cost.csv."""
    return read(path, study, ("metric", "value"))


def measured(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric: its values as `y`, and the number of classes seen by then as `x`."""
    rows = table[table["metric"] == metric]
    return rows.rename(columns={"classes": "x", "value": "y"})


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last task of each run that is finished."""
    keys = [*RUN, "task"]
    ends = table.loc[table["metric"] == "last_accuracy", keys].drop_duplicates()
    return table.merge(ends, on=keys)


def mean_and_deviation(mean: float, deviation: float) -> str:
    """A cell of a table: "61.2 ± 0.4". A value that is missing, nan, is left out."""
    if math.isnan(mean):
        return ""
    return f"{mean:.1f}" if math.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
