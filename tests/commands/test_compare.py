"""wa compare against a calculation by hand, and on the models of a finished study."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import program

import wa
from wa.analysis.figures.drawing import theme
from wa.analysis.figures.look import Look
from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.commands.compare import (
    Predictions,
    changes,
    confusions,
    draw,
    drawing,
    refusal,
    report,
    summary,
)
from wa.files import read_arrays, sha256

RUN = "results/tiny/order-1993/seed-0/base-6/inc-2/wa"


def said(*names: str) -> Predictions:
    return Predictions(np.array(names, dtype=object), np.full(len(names), 0.75))


LABEL = np.array(["cat", "cat", "dog", "dog", "cow", "cow"], dtype=object)
OLD = said("cat", "cat", "dog", "cat", "cat", "dog")
NEW = said("cat", "dog", "dog", "dog", "cow", "cat")


def test_classes_before_and_after_the_largest_fall_first():
    found = changes(LABEL, OLD, NEW, {"cat", "dog"})
    assert [(c.name, c.old, c.new, c.points) for c in found] == [
        ("cat", 100, 50, -50),
        ("cow", None, 50, 0),
        ("dog", 50, 100, 50),
    ]
    confused = confusions(LABEL, NEW, {"cat", "dog"})
    lines = list(report(found, {"agreement": 50.0, "nothing": None}, confused))
    assert [line.split() for line in lines[1:4]] == [
        ["cat", "2", "100.0", "50.0", "-50.0"],
        ["cow", "2", "-", "50.0", "new"],
        ["dog", "2", "50.0", "100.0", "+50.0"],
    ]
    assert lines[-1].split() == ["cow", "cat", "1", "50.0"]


def test_confusions_between_old_and_new_classes_the_worst_first():
    """Confusions of two old classes, or of two new ones, do not count."""
    label = np.array(["cat"] * 4 + ["dog"] * 2 + ["cow"] * 2 + ["hen"], dtype=object)
    new = said("cow", "cow", "dog", "cat", "hen", "cat", "cat", "hen", "cow")
    assert [tuple(pair) for pair in confusions(label, new, {"cat", "dog"})] == [
        ("cat", "cow", 2, 50),
        ("cow", "cat", 1, 50),
        ("dog", "hen", 1, 50),
    ]
    assert confusions(label, new, set(label)) == []


def test_a_class_that_only_the_old_version_knows_falls_to_0():
    found = changes(LABEL, NEW, OLD, {"cat", "dog", "cow"})
    assert [(c.name, c.old, c.new) for c in found if c.name == "cow"] == [("cow", 50, 0)]


@pytest.mark.parametrize("known", [{"cat", "dog"}, {"cat", "dog", "cow"}])
def test_the_figure_has_the_confusions_if_there_are_any(tmp_path, known):
    drawn = tmp_path / "compare.svg"
    confused = confusions(LABEL, NEW, known)
    draw(changes(LABEL, OLD, NEW, known), confused, str(drawn))
    text = drawn.read_text(encoding="utf-8")
    assert "<!-- cow -->" in text and "<!-- accuracy (%) -->" in text
    assert ("<!-- cow → cat -->" in text) == bool(confused)


def test_names_may_have_dollar_signs(tmp_path):
    """Two of them would be a formula, and this one is not even that."""
    label = np.array(["50%_$", "5#$"], dtype=object)
    new = said("5#$", "50%_$")
    known = {"50%_$"}
    drawn = tmp_path / "compare.svg"
    draw(changes(label, said("50%_$", "50%_$"), new, known), confusions(label, new, known), drawn)
    assert "<!-- 50%_$ → 5#$ -->" in drawn.read_text(encoding="utf-8")


def test_no_text_of_the_figure_is_cut_off():
    long = [f"a class with a rather long name {c}" for c in range(3)]
    label = np.array(long * 2, dtype=object)
    old, new = said(*long, *long), said(*long[1:], long[0], *long)
    known = set(long[:2])
    with theme(Look()):
        figure = drawing(changes(label, old, new, known), confusions(label, new, known))
        figure.canvas.draw()
        width, height = figure.get_size_inches() * figure.dpi
        for panel in figure.axes:
            for text in (panel.xaxis.label, *panel.get_yticklabels()):
                left, bottom, right, top = text.get_window_extent().extents
                assert left >= 0 and bottom >= 0 and right <= width and top <= height, text


def test_old_and_new_classes_agreement_and_calibration():
    facts = summary(LABEL, OLD, NEW, {"cat", "dog"})
    assert facts["old classes, old version"] == 75 == facts["old classes, new version"]
    assert facts["new classes, new version"] == 50
    assert facts["all classes, new version"] == pytest.approx(100 * 4 / 6)
    assert facts["agreement on old classes"] == 50
    assert facts["calibration error, old version"] == 0  # it says 0.75, and 3 of 4 are right
    assert facts["calibration error, new version"] == pytest.approx(100 * (0.75 - 4 / 6))
    similar = summary(LABEL, OLD, NEW._replace(confidence=None), {"cat", "dog"})
    assert similar["calibration error, new version"] is None


def test_two_versions_of_a_study(finished, tmp_path):
    models = [finished / RUN / f"task-{t}/model.safetensors" for t in (1, 2)]
    run = program(
        "wa", "compare", *models, "--json", tmp_path / "c.json", "--figure", tmp_path / "c.svg"
    )
    assert run.returncode == 0, run.stdout
    found = json.loads((tmp_path / "c.json").read_text())
    metrics = [json.loads((m.parent / "metrics.json").read_text())["aligned"] for m in models]
    facts = found["summary"]
    assert facts["old classes, old version"] == pytest.approx(metrics[0]["accuracy"])
    assert facts["old classes, new version"] == pytest.approx(metrics[1]["accuracy_old"])
    assert facts["new classes, new version"] == pytest.approx(metrics[1]["accuracy_new"])
    assert facts["calibration error, new version"] == pytest.approx(metrics[1]["ece"], abs=0.01)
    assert len(found["classes"]) == 10 and (tmp_path / "c.svg").stat().st_size > 1000
    assert sum(each["old"] is None for each in found["classes"]) == 2
    assert found["new"]["version"] == sha256(models[1])
    assert_confusions_are_those_of_evaluation(found["confusions"], models[1].parent)


def assert_confusions_are_those_of_evaluation(confusions: list[dict], task: Path) -> None:
    """The pairs are those of predictions.npz, in which positions 8 and 9 are the new classes."""
    arrays = read_arrays(task / "predictions.npz")
    names = wa.load(task / "model.safetensors").classes
    expected = Counter(
        (names[true], names[predicted])
        for true, predicted in zip(arrays["label"], arrays["aligned"], strict=True)
        if (true < 8) != (predicted < 8)
    )
    counts = {(pair["true"], pair["predicted"]): pair["images"] for pair in confusions}
    assert sum(counts.values()) == pytest.approx(sum(expected.values()), abs=2)  # rounding
    assert [pair["images"] for pair in confusions] == sorted(counts.values(), reverse=True)


def test_a_fall_beyond_the_limit_ends_with_1(finished, tmp_path):
    run_folder = finished / RUN
    forgets = [run_folder.with_name("finetune") / f"task-{t}/model.safetensors" for t in (1, 2)]
    run = program("wa", "compare", *forgets, "--max-drop", "0")
    assert run.returncode == 1
    assert re.search(r"error: \d of 8 classes fell by more than 0 points: ", run.stdout)
    models = [run_folder / f"task-{t}/model.safetensors" for t in (1, 2)]
    link = tmp_path / "current"
    link.symlink_to(models[1])
    assert program("wa", "compare", models[0], link, "--max-drop", "100").returncode == 0


def test_a_fall_of_exactly_the_limit_passes():
    """62 to 57 of 100 images is -5.000000000000007 points."""
    label = np.array(["cat"] * 100, dtype=object)
    old = said(*["cat"] * 62, *["dog"] * 38)
    for right, passes in ((57, True), (56, False)):
        new = said(*["cat"] * right, *["dog"] * (100 - right))
        assert (refusal(changes(label, old, new, {"cat"}), [], 5) == "") == passes


def test_a_class_that_disappeared_is_named_and_fails(finished, tmp_path):
    """The test images are those of the new version. They have none of a class that it lacks."""
    model = finished / RUN / "task-1/model.safetensors"
    tensors, header = read_checkpoint(model)
    old = tmp_path / "old.safetensors"
    write_checkpoint(old, tensors, header | {"classes": ["zebra", *header["classes"][1:]]})
    run = program("wa", "compare", old, model, "--json", tmp_path / "c.json")
    assert run.returncode == 0, run.stdout
    assert "classes of the old version without test images: zebra" in run.stdout
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["untested_classes"] == found["lost_classes"] == ["zebra"]
    run = program("wa", "compare", old, model, "--max-drop", "100")
    assert run.returncode == 1
    assert "error: classes that the new version does not know: zebra" in run.stdout


def test_a_class_that_is_lost_fails_even_if_it_fell_little():
    """It falls to 0, and that may be less than the limit."""
    assert refusal(changes(LABEL, NEW, OLD, {"cat", "dog", "cow"}), ["cow"], 100)
    assert not refusal(changes(LABEL, NEW, OLD, {"cat", "dog", "cow"}), [], 100)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x"])
def test_a_limit_that_is_no_fall_is_refused(value):
    run = program("wa", "compare", "old", "new", f"--max-drop={value}")
    assert run.returncode == 2
    assert f"{value} is not a fall in points: give 0 or more" in run.stdout.splitlines()[-1]


def test_what_cannot_be_compared_is_one_line(finished, tmp_path):
    model = finished / RUN / "task-1/model.safetensors"
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(model.read_bytes())
    run = program("wa", "compare", model, copy)
    assert run.returncode == 1 and "Name the packed data: --data FOLDER" in run.stdout
    data = finished / "results/data/digits"
    assert program("wa", "compare", model, copy, "--data", data).returncode == 0
