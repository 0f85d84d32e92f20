"""What the front page of the report says of kinds of studies that are not run for it here."""

from types import SimpleNamespace

import pytest
from docutils.core import publish_string
from helpers import ROOT
from jinja2 import Environment

from wa.study.config import validate


@pytest.mark.parametrize(
    "cut, runs, said",
    [
        ({"protocols": [{"base": 0, "increment": 2}]}, "3 runs", "base 2, increment 2"),
        ({"protocols": [{"sizes": [4, 6]}]}, "3 runs", "tasks of 4, 6 classes"),
        ({"protocols": [{"base": 4, "increment": 2}, {"sizes": [9, 1]}]}, "6 runs", "2; tasks of"),
        ({"tasks": [["a", "b"], ["c"]]}, "3 runs", "tasks by name"),
    ],
)
def test_the_front_page_counts_the_runs_of_every_kind_of_study(cut, runs, said):
    written = {"experiment": "x", "dataset": "pets", "methods": {"wa": {}}, "seeds": [0, 1, 2]}
    more = {
        "written": written,
        "versions": {"snakemake": "9"},
        "missing": ["one: 1 of 2 tasks"],
        "program": lambda: "1.0.0",
        "data": lambda: {"data/a": "train_images.npy 1", "data/b_": "train_images.npy 2"},
        "sentences": {"own_classifier": "A sentence."},
    }
    page = (ROOT / "workflow/report/workflow.rst").read_text(encoding="utf-8")
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(page)  # as Snakemake
    workflow = SimpleNamespace(config=validate(written | cut) | more)
    text = template.render(snakemake=workflow, categories={})
    publish_string(text, settings_overrides={"halt_level": 2})  # a warning is an error
    words = " ".join(text.split())
    assert f"That is {runs}, 3 of each method and protocol." in words
    assert f":Protocols: {said}" in words or f"increment {said}" in words
    assert "1 of the runs is not finished" in words and "wa 1.0.0, snakemake 9" in words
