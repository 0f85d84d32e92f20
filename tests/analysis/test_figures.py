"""Figures of invented results: every figure of studies of several shapes, legible, and right."""

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, program
from matplotlib.colors import to_hex
from matplotlib.text import Text

from wa.analysis.aggregate import CLASS_COLUMNS, COLUMNS
from wa.analysis.figures.catalog import FIGURES, READS, SENTENCES, TABLES, function_of
from wa.analysis.figures.comparison import error_bar
from wa.analysis.figures.drawing import Styles, write
from wa.analysis.figures.look import Look
from wa.analysis.metrics import (
    CLASSES,
    best_of_own_task,
    count_by_class,
    expected_calibration_error,
    task_metrics,
)
from wa.errors import UserError
from wa.files import read_json, write_arrays, write_json
from wa.study.layout import RunTable

PLAIN = Look()
STUDIES = {
    "three methods, twenty tasks": {
        "protocols": [(10, 10)],
        "n_classes": 200,
        "methods": ["replay", "wa", "joint"],
    },
    "unequal last task, two protocols": {
        "protocols": [(4, 4), (6, 2)],
        "n_classes": 10,
        "methods": ["wa", "kd"],
    },
    "one method, no memory, one run": {
        "protocols": [(4, 2)],
        "n_classes": 10,
        "methods": ["finetune"],
        "orders": ["natural"],
    },
    "one task": {"protocols": [(10, 2)], "n_classes": 10, "methods": ["wa"]},
    "many methods with long names": {
        "protocols": [(2, 2)],
        "n_classes": 10,
        "methods": [f"a-method-with-a-long-name-{i}" for i in range(10)] + ["wa", "kd"],
    },
    "ten methods and twelve classes with long names": {
        "protocols": [(4, 4)],
        "n_classes": 12,
        "methods": [f"a-method-with-a-long-name-{i}" for i in range(8)] + ["wa", "icarl"],
        "names": [f"class with a rather long name {c}" for c in range(12)],
    },
    "three methods, fifty tasks": {
        "protocols": [(2, 2)],
        "n_classes": 100,
        "methods": ["replay", "wa", "icarl"],
    },
    "one method, two tasks": {"protocols": [(5, 5)], "n_classes": 10, "methods": ["wa"]},
    "an unfinished study": {
        "protocols": [(4, 2)],
        "n_classes": 10,
        "methods": ["replay", "wa"],
        "tasks": [4, 2, 0, 0],
    },
}


def invent(
    folder: Path,
    protocols: list,
    n_classes: int,
    methods: list,
    orders=("1993", "1994"),
    tasks=None,
    names=None,
) -> RunTable:
    """Write results such as a study leaves; returns its table of runs.

    `wa` aligns, and the own classifier of `icarl` is the nearest mean of exemplars.
    tasks: how many tasks of each run are there. names: of the classes, in the data set's order.
    """
    own = {"icarl": "nme"} if "icarl" in methods else {}
    study = RunTable(
        str(folder),
        "invented",
        list(orders),
        [0],
        protocols,
        methods,
        n_classes,
        classifiers=own,
    )
    names = names or [f"class {c}" for c in range(n_classes)]
    for number, order in enumerate(orders):
        classes = np.random.default_rng(number).permutation(n_classes).tolist()
        found = {"order": classes, "names": [names[c] for c in classes]}
        write_json(folder / f"order-{order}" / "order.json", found)
    for number, run in enumerate(study.runs()):
        rng = np.random.default_rng(number)
        for t in range(len(run.sizes) if tasks is None else tasks[number]):
            here, beside = (
                run.task(t),
                run.learned(t),
            )
            seen, old = sum(run.sizes[: t + 1]), sum(run.sizes[:t])
            label = np.repeat(np.arange(seen), 5)
            arrays, metrics = {"label": label}, {}
            for classifier in ["trained", "aligned"] if run.method == "wa" and t else ["trained"]:
                wrong = rng.integers(old if classifier == "trained" else 0, seen, len(label))
                guess = np.where(rng.random(len(label)) < 0.6, label, wrong)
                arrays |= {
                    classifier: guess,
                    f"{classifier}_confidence": rng.uniform(0.3, 1, len(label)).astype(np.float32),
                }
                told = best_of_own_task(np.eye(seen)[guess], label, run.sizes[: t + 1])
                metrics[classifier] = task_metrics(
                    guess[:, None], label, run.sizes[: t + 1], told=told
                )
                metrics[classifier] |= {f"row_norm_{c}": rng.uniform(1, 2) for c in range(seen)}
            if run.method == "icarl":
                arrays["nme"] = np.random.default_rng(t).permutation(label)
                told = best_of_own_task(np.eye(seen)[arrays["nme"]], label, run.sizes[: t + 1])
                metrics["nme"] = task_metrics(
                    arrays["nme"][:, None], label, run.sizes[: t + 1], told=told
                )
            guesses = {name: arrays[name] for name in metrics}
            metrics[CLASSES] = count_by_class(guesses, label, seen)
            metrics["trained"] |= {"gamma": 0.7} if t else {}
            write_arrays(here / "predictions.npz", **arrays)
            write_json(here / "metrics.json", metrics)
            beside.mkdir(parents=True, exist_ok=True)
            history = "epoch,loss,train_accuracy,seconds\n1,2.0,30,9\n2,0.5,80,9\n"
            (beside / "history.csv").write_text(history)
            (beside / "train.benchmark.tsv").write_text(f"s\tmax_rss\n{60 + t}\t{900 + t}\n")
    tables = ["--output", folder / "metrics.csv", "--classes", folder / "classes.csv"]
    made = program("wa.analysis.aggregate", "--study", study.to_json(), *tables)
    assert made.returncode == 0, made.stdout
    costs = ["--output", folder / "cost.csv"]
    made = program("wa.analysis.cost", "--study", study.to_json(), *costs)
    assert made.returncode == 0, made.stdout
    return study


FAST = ("unequal last task, two protocols", "an unfinished study")  # the others are marked slow


def marked(name: str) -> object:
    marks = () if name in FAST else pytest.mark.slow
    return pytest.param(name, id=name.replace(" ", "-").replace(",", ""), marks=marks)


@pytest.fixture(scope="module", params=[marked(name) for name in STUDIES])
def study(request, tmp_path_factory) -> RunTable:
    return invent(tmp_path_factory.mktemp("study"), **STUDIES[request.param])


def draw(figure: str, study: RunTable, output: Path, look: Look = PLAIN) -> plt.Figure:
    """Draw by the figure's function, and write it; returns what was drawn."""
    plt.close("all")
    entry = FIGURES[figure]
    if entry.per_protocol:
        study = replace(study, protocols=study.protocols[:1])
    table = f"{study.root}/{READS[entry.reads]}" if entry.reads in READS else None
    write(function_of(figure), study, table, look, [str(output)])
    return plt.gcf()


def texts(figure: plt.Figure) -> list[tuple[Text, np.ndarray]]:
    """The texts that are seen, each with its box, in points."""
    figure.canvas.draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    for axes in figure.axes:  # tick labels beyond the limits exist, but are not drawn
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low)
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low - slack <= tick.get_loc() <= high + slack:
                    found = [t for t in found if t not in (tick.label1, tick.label2)]
    return [(t, t.get_window_extent().extents * 72 / figure.dpi) for t in found]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_a_column_wide_and_legible(figure, study, tmp_path):
    drawn = draw(figure, study, tmp_path / "figure.png")
    width, height = drawn.get_size_inches() * 72
    many = figure in ("classes", "confusion", "matrix", "norms")  # have a panel for each method
    assert width in [pytest.approx(inches * 72) for inches in ((3.3, 6.9) if many else (3.3,))]
    seen = texts(drawn)
    assert seen
    for text, (left, bottom, right, top) in seen:
        assert text.get_fontsize() >= 7, text
        assert left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1, (
            f"{text} is cut"
        )
    for (text, a), (other, b) in itertools.combinations(seen, 2):
        overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        assert not (overlap > 1).all(), f"{text} lies on {other}"
    for axes in drawn.axes:
        assert axes.lines or axes.collections or axes.images, "an empty panel"


@pytest.mark.parametrize("figure", ["accuracy", "classes", "confusion", "worst_pairs"])
def test_names_may_have_dollar_signs(figure, tmp_path):
    names = [f"{c}%_$ $ costs" for c in range(6)]
    study = invent(
        tmp_path, protocols=[(3, 3)], methods=["wa"], n_classes=6, names=names, orders=("1993",)
    )
    drawn = draw(figure, study, tmp_path / "figure.svg", Look(labels={"wa": "$_1 or $_2"}))
    seen = [text for text, _ in texts(drawn) if "$" in text.get_text()]
    assert seen and not any(text.get_parse_math() for text in seen)


def invented_metrics(folder: Path, methods: dict[str, float], orders: int) -> RunTable:
    """metrics.csv of finished runs whose methods differ by the given points."""
    rng, rows = np.random.default_rng(0), []
    study = RunTable(
        str(folder), "x", [str(o) for o in range(orders)], [0, 1], [(10, 10)], list(methods), 100
    )
    for run in study.runs():
        hard = 10 * int(run.order) + run.seed
        for metric in ("average_incremental_accuracy", "last_accuracy"):
            value = hard + methods[run.method] + rng.normal(0, 0.3)
            rows.append(("x", *run[:5], 9, 100, "trained", "true", metric, value))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "metrics.csv", index=False)
    return study


def test_paired_differences_are_filled_where_they_are_significant(tmp_path):
    methods = {"wa": 0, "worse": -5, "alike-but-with-quite-a-long-name": 0}
    study = invented_metrics(tmp_path, methods, orders=5)
    drawn = draw("paired", study, tmp_path / "figure.svg")
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert labels == list(methods)[1:]
    for panel in drawn.axes:
        points = {line.get_ydata()[0]: line for line in panel.lines if line.get_marker() == "o"}
        assert points[0].get_xdata()[0] == pytest.approx(-5, abs=0.4)
        assert points[0].get_markerfacecolor() != "w" and points[1].get_markerfacecolor() == "w"
    few = invented_metrics(tmp_path, methods, orders=2)  # four pairs
    drawn = draw("paired", replace(few, reference="worse"), tmp_path / "figure.svg")
    points = [line for line in drawn.axes[0].lines if line.get_marker() == "o"]
    assert all(point.get_markerfacecolor() == "w" for point in points)
    assert points[0].get_xdata()[0] == pytest.approx(5, abs=0.5)


def test_mean_ranks_are_drawn_from_the_best(tmp_path):
    methods = {"worst-with-quite-a-long-name": -9, "wa": 0, "kd": -3}
    study = invented_metrics(tmp_path, methods, orders=5)
    drawn = draw("mean_ranks", study, tmp_path / "figure.svg")
    for panel in drawn.axes:
        assert [t.get_text() for t in panel.get_yticklabels()] == ["wa", "kd", *list(methods)[:1]]
        points = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
        assert points == [1, 2, 3]
    drawn = draw("mean_ranks", invented_metrics(tmp_path, methods, orders=2), tmp_path / "f.svg")
    assert "ranks need three methods, and 6 runs" in drawn.texts[0].get_text().replace("\n", " ")


def test_the_figure_of_gamma_shows_what_aligning_gains(tmp_path):
    methods = ["finetune", "wa"]
    study = invent(tmp_path, protocols=[(4, 3)], methods=methods, n_classes=10, orders=("1993",))
    drawn = draw("gamma", study, tmp_path / "figure.svg")
    gain = drawn.axes[1]
    assert gain.get_title() == "gained by aligning (points)"
    values = {"trained": [], "aligned": []}
    for t in (1, 2):
        metrics = read_json(tmp_path / f"order-1993/seed-0/base-4/inc-3/wa/task-{t}/metrics.json")
        for name, accuracies in values.items():
            accuracies.append(metrics[name]["accuracy"])
    shown = [line.get_ydata() for line in gain.lines if list(line.get_xdata()) == [7, 10]]
    assert len(shown) == 1
    np.testing.assert_allclose(shown[0], np.subtract(values["aligned"], values["trained"]))


def test_every_figure_has_a_caption_and_every_sentence_is_used():
    captions = {file.stem: file.read_text() for file in (ROOT / "workflow/report").glob("*.rst")}
    assert set(captions) == {*FIGURES, *TABLES, "sweep", "config", "workflow"}
    used = set(re.findall(r"snakemake\.config\.sentences\.(\w+)", "".join(captions.values())))
    assert used == set(SENTENCES)
    for name in (*FIGURES, *TABLES):
        assert captions[name].endswith("{{ snakemake.params.about }}\n"), name


def test_a_figure_that_cannot_be_drawn_says_why(tmp_path):
    one = invent(tmp_path, **STUDIES["one task"])
    for figure, why in {
        "forgetting": "nothing can be forgotten",
        "gamma": "nothing to align",
        "old_new": "no old classes",
        "worst_pairs": "no old classes",
    }.items():
        drawn = draw(figure, one, tmp_path / "figure.svg")
        assert why in drawn.texts[0].get_text() and not drawn.axes


@pytest.fixture(scope="module")
def digits_like(tmp_path_factory) -> RunTable:
    return invent(
        tmp_path_factory.mktemp("study"), [(4, 2)], 10, ["kd", "wa"], orders=("a", "b", "c")
    )


def test_lines_are_the_means_of_the_table_by_each_methods_own_classifier(digits_like, tmp_path):
    table = pd.read_csv(f"{digits_like.root}/metrics.csv", keep_default_na=False)
    table = table[table["metric"] == "accuracy"]
    drawn = draw("accuracy", digits_like, tmp_path / "figure.svg")
    for method, own in (("kd", "trained"), ("wa", "aligned")):
        rows = table[
            (table["method"] == method)
            & (table["classifier"] == np.where(table["task"] > 0, own, "trained"))
        ]
        line = next(
            x
            for x in drawn.axes[0].lines
            if to_hex(x.get_color()) == to_hex(Styles(digits_like, PLAIN).colors[method])
        )
        assert line.get_xdata().tolist() == [4, 6, 8, 10]
        assert line.get_ydata() == pytest.approx(rows.groupby("task")["value"].mean().to_numpy())
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["kd (3)", "wa (3)"]


def class_accuracies(study: RunTable) -> dict[tuple, tuple[int, float]]:
    """(order, method, task, classifier, class) -> its images and accuracy, from the predictions."""
    found = {}
    for run in study.runs():
        names = read_json(Path(study.root, f"order-{run.order}", "order.json"))["names"]
        for t, file in enumerate(run.files("predictions.npz")):
            with np.load(file) as arrays:
                label = arrays["label"]
                for classifier in {"trained", "aligned", "nme"} & set(arrays):
                    right = arrays[classifier] == label
                    for c in np.unique(label):
                        key = run.order, run.method, t, classifier, names[c]
                        of_class = label == c
                        found[key] = int(of_class.sum()), 100 * float(right[of_class].mean())
    return found


def test_classes_csv_has_what_a_loop_over_the_predictions_counts(tmp_path):
    study = invent(tmp_path, [(4, 3)], 10, ["kd", "wa", "icarl"])
    table = pd.read_csv(tmp_path / "classes.csv", dtype={"order": str})
    assert tuple(table.columns) == CLASS_COLUMNS
    key = ["order", "method", "task", "classifier", "class"]
    rows = {tuple(row[:5]): tuple(row[5:]) for row in table[[*key, "images", "accuracy"]].values}
    expected = class_accuracies(study)
    assert rows.keys() == expected.keys() and len(rows) == len(table)
    for name, (images, accuracy) in expected.items():
        assert rows[name] == (images, pytest.approx(accuracy))
    own = table[table["own"]].groupby("method")["classifier"].unique()
    assert {m: set(c) for m, c in own.items()} == {
        "kd": {"trained"},
        "wa": {"trained", "aligned"},  # trained after task 0, which nothing aligns
        "icarl": {"nme"},
    }
    assert list(dict.fromkeys(table["classes"])) == [4, 7, 10]


def test_a_class_without_test_images_has_no_row_and_an_empty_cell(tmp_path):
    study = invent(tmp_path, [(4, 3)], 10, ["kd"], orders=("a",))
    names = read_json(tmp_path / "order-a/order.json")["names"]
    for file in tmp_path.rglob("metrics.json"):
        metrics = read_json(file)
        for counts in metrics["classes"].values():
            counts[1] = 0
        write_json(file, metrics)
    tables = ["--output", tmp_path / "metrics.csv", "--classes", tmp_path / "classes.csv"]
    made = program("wa.analysis.aggregate", "--study", study.to_json(), *tables)
    assert made.returncode == 0, made.stdout
    assert names[1] not in pd.read_csv(tmp_path / "classes.csv")["class"].unique()
    shown = draw("classes", study, tmp_path / "figure.svg").axes[0].images[0].get_array()
    assert np.isnan(shown[1].astype(float).filled(np.nan)).all()
    assert not np.isnan(shown[0].astype(float).filled(np.nan)).any()


@pytest.mark.parametrize("orders", [("a",), ("a", "b")])
def test_the_figure_of_classes_shows_the_mean_over_runs_by_each_methods_own_classifier(
    tmp_path, orders
):
    """With one order, classes stand as they were learned. With two, as in the data set."""
    study = invent(tmp_path, [(4, 3)], 10, ["kd", "icarl"], orders=orders)
    drawn = draw("classes", study, tmp_path / "figure.svg")
    names = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    learned = read_json(tmp_path / "order-a/order.json")["names"]
    assert names == (learned if len(orders) == 1 else [f"class {c}" for c in range(10)])
    accuracies = class_accuracies(study)
    own = {"kd": "trained", "icarl": "nme"}
    for panel in drawn.axes[:2]:
        shown, method = panel.images[0].get_array(), panel.get_title()
        for (row, name), task in itertools.product(enumerate(names), range(3)):
            keys = [(order, method, task, own[method], name) for order in orders]
            values = [accuracies[key][1] for key in keys if key in accuracies]
            if values:
                assert shown[row, task] == pytest.approx(np.mean(values))
            else:
                assert np.ma.is_masked(shown[row, task]) or np.isnan(shown[row, task])


@pytest.mark.parametrize("classes, named", [(12, 12), (100, 50)])
def test_the_figure_of_classes_names_the_classes(tmp_path, classes, named):
    """All of 12 long names, and at least every second one of 100."""
    names = [f"class with a rather long name {c}" for c in range(classes)]
    study = invent(tmp_path, [(classes // 2, 3)], classes, ["kd", "wa"], ("a",), names=names)
    drawn = draw("classes", study, tmp_path / "figure.png")
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert len(labels) >= named and all(label.startswith("class w…") for label in labels)
    assert drawn.get_figheight() <= 10


def test_confusion_counts_each_class_by_its_name(digits_like, tmp_path):
    """Over three class orders. The same position is another class in each."""
    drawn = draw("confusion", digits_like, tmp_path / "figure.svg")
    panels = {axes.get_title(): axes for axes in drawn.axes if axes.get_title()}
    assert list(panels) == ["kd", "wa"]
    names = [text.get_text() for text in panels["kd"].get_yticklabels()]
    assert names == [f"class {c}" for c in range(10)]
    count = {}
    for run in digits_like.runs():
        if run.method != "wa":
            continue
        order = read_json(Path(digits_like.root, f"order-{run.order}", "order.json"))["names"]
        with np.load(run.path / "task-3/predictions.npz") as arrays:
            for truth, guess in zip(arrays["label"], arrays["aligned"], strict=True):
                pair = order[truth], order[guess]
                count[pair] = count.get(pair, 0) + 1
    shown = panels["wa"].images[0].get_array()
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        assert shown[i, j] == pytest.approx(100 * count.get((a, b), 0) / 15)


def test_confusion_of_one_order_stands_as_it_was_learned(tmp_path):
    study = invent(tmp_path, [(4, 2)], 10, ["kd", "icarl"], orders=("a",))
    drawn = draw("confusion", study, tmp_path / "figure.svg")
    learned = read_json(tmp_path / "order-a/order.json")["names"]
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == learned
    with np.load(tmp_path / "order-a/seed-0/base-4/inc-2/icarl/task-3/predictions.npz") as arrays:
        right = 100 * np.bincount(arrays["label"][arrays["label"] == arrays["nme"]], minlength=10)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in drawn.axes[:2]}
    np.testing.assert_allclose(np.diag(shown["icarl"]), right / 5)  # by its own classifier


@pytest.mark.parametrize("orders", [("a",), ("a", "b")])
def test_the_worst_pairs_are_those_of_a_loop_over_the_predictions(tmp_path, orders):
    study = invent(tmp_path, [(4, 3)], 10, ["kd", "icarl"], orders=orders)
    drawn = draw("worst_pairs", study, tmp_path / "figure.svg")
    panel, own = drawn.axes[0], {"kd": "trained", "icarl": "nme"}
    shares: dict[tuple, dict[str, float]] = {}
    for method in own:
        hits, images = {}, {}
        for run in (run for run in study.runs() if run.method == method):
            names = read_json(Path(study.root, f"order-{run.order}", "order.json"))["names"]
            with np.load(run.path / "task-2/predictions.npz") as arrays:
                label, predicted = arrays["label"], arrays[own[method]]
            for a, b in itertools.product(range(10), repeat=2):
                if (a >= 7) != (b >= 7):  # the last task brought positions 7 to 9
                    pair = f"{names[a]} → {names[b]}"
                    hits[pair] = hits.get(pair, 0) + int((predicted[label == a] == b).sum())
                    images[pair] = images.get(pair, 0) + int((label == a).sum())
        for pair in hits:
            shares.setdefault(pair, {})[method] = 100 * hits[pair] / images[pair]
    labels = [text.get_text() for text in panel.get_yticklabels()]
    means = [sum(shares[label].values()) / 2 for label in labels]
    every = sorted((sum(share.values()) / 2 for share in shares.values()), reverse=True)
    assert means == pytest.approx(every[:10]) and len(labels) == 10
    for line, method in zip(panel.lines, own, strict=True):
        assert line.get_xdata().tolist() == pytest.approx([shares[name][method] for name in labels])


def test_a_method_without_probabilities_has_no_calibration(tmp_path):
    study = invent(tmp_path, [(4, 2)], 10, ["kd", "icarl"])
    drawn = draw("calibration", study, tmp_path / "figure.svg")
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels[1] == "icarl: no probabilities" and len(drawn.axes[0].lines) == 2
    only = replace(study, methods=["icarl"])
    drawn = draw("calibration", only, tmp_path / "figure.svg")
    assert "no probabilities" in drawn.texts[0].get_text()


def test_nearly_empty_bins_are_left_out_and_all_are_counted(digits_like, tmp_path):
    drawn = draw("calibration", digits_like, tmp_path / "figure.svg")
    above, below = drawn.axes
    for steps, line in zip(below.lines, above.lines[1:], strict=True):
        shares = steps.get_ydata()[:-1]
        assert shares.sum() == pytest.approx(100)
        assert len(line.get_xdata()) == (shares >= 1).sum() < len(shares)


def test_curves_begin_at_0_join_the_tasks_and_show_the_test_accuracy(tmp_path):
    study = invent(tmp_path, [(4, 3)], 10, ["kd"], orders=("a",))
    assert len(draw("curves", study, tmp_path / "figure.svg").axes) == 2
    for file in tmp_path.rglob("history.csv"):
        file.write_text("epoch,loss,train_accuracy,test_accuracy\n1,2.0,30,\n2,0.5,80,70\n")
    loss, _, test = draw("curves", study, tmp_path / "figure.svg").axes
    (line,) = loss.lines
    assert line.get_xdata().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert line.get_ydata().tolist() == [2, 2, 0.5, 2, 0.5, 2, 0.5]
    assert test.get_ylabel() == "test accuracy (%)"
    assert test.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_no_panel_of_norms_clips_its_curve(tmp_path):
    study = invent(tmp_path, [(4, 2)], 10, ["kd", "wa"], orders=("a", "b", "c"))
    table = tmp_path / "metrics.csv"
    lines = table.read_text().splitlines()
    high = [
        line.rpartition(",")[0] + ",9" if ",wa," in line and "row_norm_3" in line else line
        for line in lines
    ]
    copied = tmp_path / "edited"
    copied.mkdir()
    (copied / "metrics.csv").write_text("\n".join(high) + "\n")
    drawn = draw("norms", replace(study, root=str(copied)), tmp_path / "figure.svg")
    assert drawn.axes[0].get_ylim()[0] == 0 and drawn.axes[0].get_ylim()[1] > 9


def test_bands_are_left_out_where_they_would_hide_each_other(tmp_path):
    few = invent(tmp_path / "few", [(4, 2)], 10, [f"m{i}" for i in range(4)])
    many = invent(tmp_path / "many", [(4, 2)], 10, [f"m{i}" for i in range(7)])
    for study, bands in ((few, 4), (many, 0)):
        drawn = draw("accuracy", study, tmp_path / "figure.svg")
        assert len(drawn.axes[0].collections) == bands
        assert ("band" in drawn.legends[0].get_title().get_text()) == bool(bands)


def test_a_legend_of_single_runs_speaks_of_no_mean(digits_like):
    styles = Styles(digits_like, PLAIN)
    assert styles.line_means({"kd": "1", "wa": "1"}) == "method (runs)"
    assert styles.line_means({"kd": "1", "wa": "2"}).endswith("mean, band: standard deviation")


def test_calibration_tells_the_error_of_the_table(digits_like, tmp_path):
    drawn = draw("calibration", digits_like, tmp_path / "figure.svg")
    errors = []
    for run in digits_like.runs():
        if run.method == "kd":
            with np.load(run.path / "task-3/predictions.npz") as arrays:
                errors.append(
                    expected_calibration_error(
                        arrays["trained_confidence"], arrays["trained"] == arrays["label"]
                    )
                )
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels[0] == f"kd: {np.mean(errors):.1f}" and labels[1].startswith("wa: ")


def test_a_table_that_was_edited_is_not_drawn(digits_like, tmp_path):
    shutil.copytree(digits_like.root, tmp_path / "study")
    table = tmp_path / "study/metrics.csv"
    table.write_text(table.read_text().replace("accuracy,", "accuracy,1"))
    options = ["--study", digits_like.to_json(), "--metrics", table, "--output", tmp_path / "a.svg"]
    run = program("wa.analysis.figures", "accuracy", *options)
    assert run.returncode == 1 and len(run.stdout.splitlines()) == 1
    assert run.stdout.startswith(f"error: {table} was edited after the study wrote it.")
    assert not (tmp_path / "a.svg").exists()


def test_the_interval_is_students(digits_like):
    low, high = error_bar(np.array([1.0, 2.0, 3.0]))
    assert (low + high) / 2 == pytest.approx(2)
    assert high - 2 == pytest.approx(4.302653 / np.sqrt(3))  # t of 2 degrees of freedom
    assert np.isnan(error_bar(np.array([1.0, 2.0]))).all()


def test_a_method_looks_the_same_in_every_figure_and_no_two_look_alike(tmp_path):
    methods = [f"m{i}" for i in range(25)]
    study = RunTable("results", "many", ["1993"], [0], [(4, 2)], methods, 10)
    styles = Styles(study, PLAIN)
    assert (
        len({(styles.colors[m], styles.markers[m], styles.dashes[m]) for m in study.methods}) == 25
    )
    assert len({to_hex(styles.colors[f"m{i}"]) for i in range(10)}) == 10
    drawn = invent(tmp_path, **STUDIES["three methods, twenty tasks"])
    colors = {to_hex(c) for c in Styles(drawn, PLAIN).colors.values()}
    for figure in (
        "accuracy",
        "forgetting",
        "old_new",
        "gamma",
        "norms",
        "calibration",
        "curves",
        "cost",
    ):
        lines_of = [
            line
            for axes in draw(figure, drawn, tmp_path / "figure.svg").axes
            for line in axes.lines
        ]
        assert {to_hex(line.get_color()) for line in lines_of} - {"#666666"} == colors, figure


def test_the_program_draws_the_same_bytes_again_and_refuses_a_figure_that_is_none(
    digits_like, tmp_path
):
    options = [
        "--study",
        digits_like.to_json(),
        "--metrics",
        f"{digits_like.root}/metrics.csv",
        "--output",
    ]
    drawn = program("wa.analysis.figures", "accuracy", *options, tmp_path / "a.svg")
    assert drawn.returncode == 0, drawn.stdout
    draw("accuracy", digits_like, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    refused = program("wa.analysis.figures", "acuracy", *options, tmp_path / "c.svg")
    assert refused.returncode == 2 and "invalid choice: 'acuracy'" in refused.stdout
    damaged = tmp_path / "metrics.csv"
    damaged.write_text("no,table\n")
    with pytest.raises(UserError, match=f"^{damaged} is damaged"):
        draw("accuracy", replace(digits_like, root=str(tmp_path)), tmp_path / "c.svg")
