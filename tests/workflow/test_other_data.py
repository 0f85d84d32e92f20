"""A config of another data set never takes over the models of a study."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import add_images, program, small_study, snakemake

from wa.commands.status import is_done, outdated, report
from wa.study.parts import of_other_data
from wa.study.study import Study

LETTERS = list("abcdefghij")
SAID = (
    "results/tiny has models of dataset digits (classes 0, 2, 3, ...), but the config says dataset"
)
ADVICE = "Give this study another name (`experiment`), or delete results/tiny"


@pytest.fixture
def other(finished, tmp_path, monkeypatch) -> dict:
    """The config of a folder of images of ten other classes, with the name of a finished study."""
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    add_images(tmp_path / "images", LETTERS)
    return small_study() | {"dataset": "letters", "path": "images"}


def said_of(config: dict) -> str:
    study = Study(config)
    return of_other_data(study.root, study.parts)


def pack(classes: list[str], dataset: str) -> None:
    """What packing would write: the digits, with other names of their classes."""
    facts = json.loads(Path("results/data/digits/dataset.json").read_text(encoding="utf-8"))
    Path("results/data", dataset).mkdir()
    facts |= {"classes": classes, "dataset": dataset}
    Path("results/data", dataset, "dataset.json").write_text(json.dumps(facts), encoding="utf-8")


def test_the_plan_refuses_it_in_one_line_and_the_status_counts_nothing(other):
    run = snakemake(Path.cwd(), "-n", config=other)
    line = f"{SAID} letters (a, b, c, ...). {ADVICE}"
    assert run.returncode == 1 and run.stdout.count(line) == 1 and "Job stats" not in run.stdout
    study = Study(other)
    old = outdated(study)
    assert report(study, 1000, old).splitlines() == [
        "results/tiny: 0 of 7 trainings done, 0 of 9 tasks evaluated",
        line,
    ]
    assert not is_done(study, old)
    Path("study.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    status = program("wa", "status", "--config", "study.yaml")
    assert status.returncode == 0 and line in status.stdout
    shutil.rmtree("results/tiny")
    assert said_of(other) == ""


def test_without_the_copy_of_the_config_the_classes_tell_it(other):
    os.remove("results/tiny/config.yaml")
    said = said_of(other)
    assert said.startswith("results/tiny has models (classes 0, 2, 3, ...), but the config says")
    pack(LETTERS, "letters")
    assert said_of(other | {"path": "none"}) == said


def test_before_the_classes_are_known_the_copy_of_the_config_tells_it(other):
    other |= {"dataset": "cifar10", "path": "none"}
    assert said_of(other) == f"{SAID} cifar10. {ADVICE}"
    os.remove("results/tiny/config.yaml")
    assert said_of(other) == ""  # nothing is known


def test_the_same_classes_under_another_name_are_the_same_data(other):
    config = small_study()
    assert said_of(config) == ""
    pack([str(digit) for digit in range(10)], "renamed")
    assert said_of(config | {"dataset": "renamed", "path": "none"}) == ""
    shutil.rmtree("results/data")
    assert said_of(config) == ""


def test_a_draft_draws_what_is_there(other):
    run = snakemake(Path.cwd(), "-n", "--config", "draft=True", config=other)
    assert run.returncode == 0, run.stdout


def test_tasks_by_name_are_refused_in_a_folder_of_other_models(other):
    named = {k: v for k, v in other.items() if k not in ("protocols", "orders")}
    named |= {"tasks": [LETTERS[:6], LETTERS[6:]], "seeds": [0]}
    assert said_of(named) == f"{SAID} letters (a, b, c, ...). {ADVICE}"
