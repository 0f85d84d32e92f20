"""Reading metrics.csv for figures and tables."""

import pandas as pd

from wa.errors import UserError

PROTOCOL = ["base", "increment"]
CLASSIFIERS = {
    "trained": "as trained",
    "aligned": "aligned",
}  # those with rows and probabilities -> how figures name them
UNFINISHED = "no run of this protocol is finished"
RUN = ["order", "seed", *PROTOCOL, "method"]


def protocol_name(base: int, increment: int) -> str:
    return f"base {base}, increment {increment}"


def read(path: str, study: dict) -> pd.DataFrame:
    """The rows of metrics.csv that belong to the study. Methods and `protocol`s are ordered as the study orders them."""
    labels = dict.fromkeys(
        ["order", "method", "classifier", "metric"], "category"
    )  # a large study has millions of rows
    try:
        table = pd.read_csv(
            path,
            usecols=[*RUN, "task", "classifier", "metric", "value"],
            dtype=labels,
            keep_default_na=False,
        )
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from None
    table["protocol"] = [
        protocol_name(b, i) for b, i in zip(table["base"], table["increment"], strict=True)
    ]
    protocols = [protocol_name(*p) for p in study["protocols"]]
    table = table[table["protocol"].isin(protocols) & table["method"].isin(study["methods"])].copy()
    table["protocol"] = pd.Categorical(table["protocol"], protocols, ordered=True)
    table["method"] = pd.Categorical(table["method"].astype(str), study["methods"], ordered=True)
    return table


def own_classifier(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each method's own classifier: the one it names (iCaRL: nme), else the aligned one if it aligns, else the
    one that training left."""
    aligning = table.loc[table["classifier"] == "aligned", "method"].unique()
    # At task 0 nothing has been aligned: the classifier as trained is the method's own.
    own = (
        table["method"]
        .isin(aligning)
        .map({True: "aligned", False: "trained"})
        .where(table["task"] > 0, "trained")
    )
    named = (
        table[table["metric"] == "own_classifier"]
        .drop_duplicates("method")
        .set_index("method")["classifier"]
    )
    own = table["method"].astype(object).map(named.to_dict()).astype(object).fillna(own)
    return table[(table["classifier"].astype(str) == own) | (table["classifier"] == "")]


def measured(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, its values as `y`, with the classes seen by then as `x`."""
    keys = [*RUN, "task"]
    seen = table.loc[table["metric"] == "classes_seen", [*keys, "value"]].rename(
        columns={"value": "x"}
    )
    return table[table["metric"] == metric].rename(columns={"value": "y"}).merge(seen, on=keys)


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last task of each run that is finished."""
    keys = [*RUN, "task"]
    ends = table.loc[table["metric"] == "last_accuracy", keys].drop_duplicates()
    return table.merge(ends, on=keys)
