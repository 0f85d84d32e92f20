"""What the methods did in one protocol: a panel a method."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from wa.aggregate import Run
from wa.aggregate import runs as all_runs
from wa.figures.drawing import Line2D, Styles, flow, grid, integers, legend, nothing, plt, runs, save, seaborn, wrapped
from wa.figures.metrics import CLASSIFIERS, at_the_end, own_classifier, protocol_name, read
from wa.files import read_arrays
from wa.metrics import calibration as reliability
from wa.metrics import expected_calibration_error
from wa.scenario import task_sizes

UNFINISHED = "no run of this protocol is finished"


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % confidence interval of the mean (Student's t); of fewer than three values it would span the figure."""
    if len(values) < 3:
        return np.nan, np.nan
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


def comparison(study: dict, metrics: str, outputs: list[str]) -> None:
    """The average incremental and the last accuracy of each method: every run, their mean and its confidence interval."""
    columns = {"average_incremental_accuracy": "average (%)", "last_accuracy": "last (%)"}
    table = at_the_end(own_classifier(read(metrics, study)))
    table = table[table["metric"].isin(columns)]
    protocols = [p for p in table["protocol"].cat.categories if (table["protocol"] == p).any()]
    if not protocols:
        return nothing(UNFINISHED, outputs)
    styles, methods = Styles(study), [m for m in study["methods"] if (table["method"] == m).any()]
    figure, panels = grid(len(protocols), 2, 0.45 + 0.16 * len(methods), sharey=True)
    for row, protocol in zip(panels, protocols, strict=True):
        for panel, (metric, label) in zip(row, columns.items(), strict=True):
            frame = table[(table["protocol"] == protocol) & (table["metric"] == metric)]
            options = {"x": "value", "y": "method", "hue": "method", "order": methods, "hue_order": methods, "ax": panel}
            options |= {"palette": styles.colors, "legend": False}
            seaborn.stripplot(frame, **options, jitter=False, size=3, alpha=0.5)
            seaborn.pointplot(
                frame, **options, errorbar=interval, marker="|", markersize=9, linestyle="none", err_kws={"lw": 1.2}
            )
            panel.set(xlabel=label, ylabel="", xlim=(-2, 102))
        if len(study["protocols"]) > 1:
            row[0].set_title(protocol, loc="left")
    several = table.groupby(["protocol", "method", "metric"], observed=True).size().max() > 2
    gray = {"color": "0.4", "ls": ""}
    handles = [
        Line2D([], [], marker="o", ms=3, label="run", **gray),
        Line2D([], [], marker="|", ms=7, mew=1, label="mean", **gray),
    ]
    legend(figure, handles + [Line2D([], [], color="0.4", label="95 % interval")] * bool(several))
    save(figure, outputs)


def colorbar(figure: plt.Figure, image: plt.cm.ScalarMappable, axes: list[plt.Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=axes, label=label, location="bottom", shrink=0.8, aspect=40, pad=0.02)
    bar.outline.set_visible(False)


def matrix(study: dict, metrics: str, outputs: list[str]) -> None:
    """The accuracy on each task's classes after each task."""
    table = own_classifier(read(metrics, study))
    table = table[table["metric"].str.fullmatch(r"accuracy_task_\d+")]
    table = table.assign(of=table["metric"].str.rsplit("_", n=1).str[1].astype(int))
    if table.empty:
        return nothing("no task of this protocol has been evaluated", outputs)
    methods = [m for m in study["methods"] if (table["method"] == m).any()]
    tasks = table["task"].max() + 1
    figure, panels = flow(len(methods), 1.65, "classes of task", "after task")
    for panel, method in zip(panels, methods, strict=True):
        rows = table[table["method"] == method]
        mean = rows.pivot_table(index="task", columns="of", values="value").reindex(index=range(tasks), columns=range(tasks))
        image = panel.imshow(mean, vmin=0, vmax=100, cmap="viridis")
        if tasks <= 5:  # else the numbers do not fit
            for (after, of), value in np.ndenumerate(mean):
                if not np.isnan(value):
                    panel.text(of, after, f"{value:.0f}", ha="center", va="center", color="w" if value < 60 else "k")
        panel.set_title(wrapped(method))
        panel.grid(False)
        integers(panel.xaxis), integers(panel.yaxis)
    colorbar(figure, image, panels, "accuracy (%)")
    save(figure, outputs)


def norms(study: dict, metrics: str, outputs: list[str]) -> None:
    """The norms of the classifier's rows after the last task, in class order, as trained and aligned."""
    table = at_the_end(read(metrics, study))
    table = table[table["metric"].str.fullmatch(r"row_norm_\d+")]
    if table.empty:
        return nothing(UNFINISHED, outputs)
    table = table.assign(position=table["metric"].str.rsplit("_", n=1).str[1].astype(int))
    styles, methods = Styles(study), [m for m in study["methods"] if (table["method"] == m).any()]
    figure, panels = flow(len(methods), 1.2, "class, in order", "norm of its row")
    first_new = sum(task_sizes(study["n_classes"], *study["protocols"][0])[:-1])
    dashes = {"trained": (0, (1.5, 1)), "aligned": "-"}
    dashes = {c: dash for c, dash in dashes.items() if (table["classifier"] == c).any()}
    handles = [Line2D([], [], color="0.2", ls=dash, label=CLASSIFIERS[c]) for c, dash in dashes.items()]
    if first_new:
        handles.append(Line2D([], [], color="0.4", ls=":", label="first new class"))
    for panel, method in zip(panels, methods, strict=True):
        rows, color = table[table["method"] == method], styles.colors[method]
        for classifier, dash in dashes.items():
            norm = rows[rows["classifier"] == classifier].groupby("position")["value"].agg(["mean", "std"]).fillna(0)
            panel.plot(norm["mean"], ls=dash, color=color)
            panel.fill_between(norm.index, norm["mean"] - norm["std"], norm["mean"] + norm["std"], color=color, alpha=0.18, lw=0)
        if first_new:
            panel.axvline(first_new - 0.5, color="0.4", ls=":")
        panel.set_title(wrapped(method))
        panel.set_ylim(bottom=0)
        integers(panel.xaxis, 5)
    legend(figure, handles)
    save(figure, outputs)


def finished(study: dict) -> Iterator[tuple[Run, dict[str, np.ndarray]]]:
    """The finished runs, and their predictions after the last task."""
    for run in all_runs(study):
        file = run.path / f"task-{len(run.sizes) - 1}" / "predictions.npz"
        if file.exists():
            yield run, read_arrays(file)


def confusion(study: dict, metrics: None, outputs: list[str]) -> None:
    """Which class is taken for which after the last task, in class order, as trained and aligned."""
    counts: dict[tuple[str, str], np.ndarray] = {}
    n = study["n_classes"]
    for run, arrays in finished(study):
        for classifier in CLASSIFIERS:
            if classifier in arrays:
                pairs = np.bincount(arrays["label"] * n + arrays[classifier], minlength=n * n).reshape(n, n)
                counts[run.method, classifier] = counts.get((run.method, classifier), 0) + pairs
    if not counts:
        return nothing(UNFINISHED, outputs)
    figure, panels = flow(len(counts), 1.8, "predicted class", "true class")
    for panel, ((method, classifier), pairs) in zip(panels, counts.items(), strict=True):
        percent = 100 * pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
        image = panel.imshow(percent, cmap="viridis", norm=plt.matplotlib.colors.PowerNorm(0.5, 0, 100))
        panel.set_title(f"{wrapped(method)}\n{CLASSIFIERS[classifier]}")
        panel.grid(False)
        integers(panel.xaxis), integers(panel.yaxis)
    colorbar(figure, image, panels, "images of the true class (%)")
    save(figure, outputs)


def calibration(study: dict, metrics: None, outputs: list[str]) -> None:
    """Reliability diagrams after the last task, as trained and aligned, and the expected calibration errors."""
    bins: dict[tuple[str, str], list] = {}
    errors: dict[tuple[str, str], list] = {}
    for run, arrays in finished(study):
        for classifier in CLASSIFIERS:
            if classifier in arrays:
                confidence, right = arrays[f"{classifier}_confidence"], arrays[classifier] == arrays["label"]
                bins.setdefault((run.method, classifier), []).append(reliability(confidence, right))
                errors.setdefault((run.method, classifier), []).append(expected_calibration_error(confidence, right))
    if not bins:
        return nothing(UNFINISHED, outputs)
    styles, classifiers = Styles(study), [c for c in CLASSIFIERS if any(which == c for _, which in bins)]
    figure, panels = grid(1, len(classifiers), 1.7, sharey=True)
    for panel, classifier in zip(panels[0], classifiers, strict=True):
        panel.plot([0, 100], [0, 100], color="0.4", ls=":")
        for (method, which), parts in bins.items():
            if which == classifier:
                count, confident, hits = np.sum(parts, axis=0)
                some = count > 0
                panel.plot(100 * confident[some] / count[some], 100 * hits[some] / count[some], **styles.of(method))
        panel.set(xlabel="confidence (%)", title=CLASSIFIERS[classifier], xlim=(0, 102), ylim=(-2, 102), aspect="equal")
    panels[0][0].set_ylabel("accuracy (%)")
    handles = []
    for method in study["methods"]:
        ece = [f"{np.mean(errors[method, c]):.1f}" for c in classifiers if (method, c) in errors]
        if ece:
            handles.append(styles.handle(method, f"{method}: {' → '.join(ece)}"))
    legend(figure, handles, f"expected calibration error (%), {' → '.join(CLASSIFIERS[c] for c in classifiers)}")
    save(figure, outputs)


def curves(study: dict, metrics: None, outputs: list[str]) -> None:
    """The loss and the accuracy on the training images, epoch by epoch through all tasks; the mean of the runs."""
    parts = []
    for run in all_runs(study):
        for task, file in enumerate(run.learned("history.csv")):
            history = pd.read_csv(file, usecols=["epoch", "loss", "train_accuracy"])
            parts.append(
                history.assign(x=task + history["epoch"] / len(history), order=run.order, seed=run.seed, method=run.method)
            )
    if not parts:
        return nothing("no task of this protocol has been trained", outputs)
    table = pd.concat(parts).assign(protocol=protocol_name(*study["protocols"][0]))
    styles, counts = Styles(study), runs(table)
    figure, panels = grid(2, 1, 1.4, sharex=True)
    for panel, (column, label) in zip(
        panels[:, 0], {"loss": "loss", "train_accuracy": "training accuracy (%)"}.items(), strict=True
    ):
        styles.line(table.rename(columns={column: "y"}), panel, markers=False, errorbar=None, lw=0.7)
        panel.set(xlabel="task", ylabel=label, xlim=(0, None))
        integers(panel.xaxis)
    panels[0, 0].set_ylim(bottom=0)
    legend(
        figure, [styles.handle(m, f"{m} ({counts[m]})", marker=False) for m in study["methods"] if m in counts], "method (runs)"
    )
    save(figure, outputs)
