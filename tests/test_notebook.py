"""wa.plot, and the notebook in docs/ that shows it, on a finished study."""

import json
import os
import pydoc
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import ROOT
from matplotlib.colors import to_hex

import wa.plot
from wa.analysis.figures.catalog import FIGURES
from wa.errors import UserError

NOTEBOOK = ROOT / "docs/figures.ipynb"


@pytest.fixture
def results(finished, tmp_path):
    """A folder in which the finished study is named digits, as in the notebook."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results/digits").symlink_to(finished / "results/tiny")
    (tmp_path / "results/data").symlink_to(finished / "results/data")
    return tmp_path


def test_the_notebook_runs(results):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5 and all(not cell.get("outputs") for cell in cells)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    run = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, "print(len(panels), last.shape)"])],
        capture_output=True,
        text=True,
        cwd=results,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert (results / "accuracy.pdf").stat().st_size > 1000
    assert run.stdout.endswith("3 (3, 12)\n")  # two panels and the bar, and three runs


def test_a_figure_has_the_methods_labels_colours_and_sizes_that_are_asked_for(results):
    folder = results / "results/digits"
    before = dict(matplotlib.rcParams)
    axes = wa.plot.accuracy(
        folder, methods=["wa", "finetune"], labels={"wa": "$5 WA"}, colors={"wa": "#123456"}
    )
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["$5 WA (1)", "finetune (1)"]
    assert to_hex(axes.lines[0].get_color()) == "#123456"
    assert axes.figure.get_figwidth() == 3.3 and axes.xaxis.label.get_fontsize() == 7
    larger = wa.plot.accuracy(folder, columns=2, font_size=10)
    assert larger.figure.get_figwidth() == 6.9 and larger.xaxis.label.get_fontsize() == 10
    assert {label.get_fontsize() for label in larger.get_xticklabels()} == {10}
    assert dict(matplotlib.rcParams) == before  # the notebook draws its own figures as before


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_returns_its_axes(results, name):
    plt.close("all")
    draw = getattr(wa.plot, name)
    assert name in dir(wa.plot)
    if name == "mean_ranks":  # of six runs
        with pytest.raises(UserError, match="no figure mean_ranks: ranks need three methods"):
            draw(results / "results/digits")
        return
    found = np.ravel(draw(results / "results/digits"))
    assert len(found) and all(isinstance(axes, plt.Axes) for axes in found)


def test_each_function_has_help_of_its_own():
    text = pydoc.plain(pydoc.render_doc(wa.plot.accuracy))
    assert "accuracy(study: str | pathlib.Path, methods:" in text
    assert "Draw the figure `accuracy` of a study: accuracy against classes seen." in text
    assert "font_size" in text and "Returns a matplotlib Axes" in text


def test_what_is_not_in_the_study_is_refused(results):
    folder = results / "results/digits"
    with pytest.raises(UserError, match=r"there is no method 'wax'\. Known: finetune, wa, joint"):
        wa.plot.accuracy(folder, labels={"wax": "ours"})
    with pytest.raises(UserError, match=r"there is no method 'kd'\. Known: finetune, wa, joint"):
        wa.plot.accuracy(folder, methods=["kd"])
    with pytest.raises(UserError, match=r"there is no key 'color'\. Known: labels, colors"):
        wa.plot.accuracy(folder, color="red")
    with pytest.raises(UserError, match=r"there is no method 'kd'\. Known: finetune, wa, joint"):
        wa.plot.accuracy(folder, methods="kd")
    with pytest.raises(UserError, match=r"there is no protocol"):
        wa.plot.matrix(folder, protocol=(4, 2))
    with pytest.raises(UserError, match=r"config\.yaml does not exist"):
        wa.plot.accuracy(results)
    with pytest.raises(AttributeError, match=r"has no attribute 'acuracy'"):
        _ = wa.plot.acuracy


def test_one_method_is_given_by_its_name(results):
    axes = wa.plot.accuracy(results / "results/digits", methods="wa")
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["wa (1)"]


@pytest.mark.parametrize(
    "look, said",
    [
        ({"font_size": -1}, "figures.font_size: -1 is less than the minimum of 4"),
        ({"font_size": float("nan")}, "figures.font_size: nan is not a number from 4 to 24"),
        ({"columns": 3}, "figures.columns: 3 is greater than the maximum of 2"),
        ({"colors": {"wa": "red"}}, "figures.colors.wa: 'red' is not a valid value"),
        ({"labels": ["wa"]}, "figures.labels: ['wa'] is a list. Write the names as keys"),
        ({"first_task": "no"}, "'no' is not a valid value. Possible: both, with, without"),
    ],
)
def test_a_look_is_refused_as_a_config_is(results, look, said):
    with pytest.raises(UserError) as error:
        wa.plot.accuracy(results / "results/digits", **look)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_size_may_be_a_number_of_numpy(results):
    axes = wa.plot.accuracy(results / "results/digits", font_size=np.float64(9))
    assert axes.xaxis.label.get_fontsize() == 9
