"""wa forget beside what else may write memories. tests/workflow/test_growing.py has the rest."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from helpers import program

from wa.commands import forget as command
from wa.data.exemplars import read_memory, write_memory
from wa.files import content_sha256
from wa.locks import is_locked, lock
from wa.study import layout


def write(file: Path) -> Path:
    """A memory of an ant and a bee."""
    index = np.arange(2)
    arrays = {"images": np.zeros((2, 1, 1, 1), np.uint8), "index": index, "label": index}
    write_memory(
        file, {"content_sha256": content_sha256(arrays), "classes": ["ant", "bee"]}, arrays
    )
    return file


@pytest.fixture
def memory(tmp_path):
    return write(tmp_path / "shop/task-0" / layout.MEMORY)


def test_it_is_refused_while_snakemake_runs_the_study(memory):
    study = memory.parents[1]
    before = memory.read_bytes()
    with lock(study / layout.LOCK, wait=False):
        run = program("wa", "forget", study, "ant")
    assert run.returncode == 1 and len(run.stdout.splitlines()) == 1, run.stdout
    assert "error: Snakemake or another wa forget runs this study: " in run.stdout
    assert "Wait until it ends" in run.stdout
    assert memory.read_bytes() == before and not (study / layout.FORGOTTEN).exists()
    run = program("wa", "forget", study, "ant")
    assert run.returncode == 0 and read_memory(memory)["label"].tolist() == [1], run.stdout


def test_it_has_the_lock_until_every_memory_is_changed(memory, monkeypatch):
    study, locked = memory.parents[1], []
    forget = command.forget

    def watched(*of_file):
        locked.append(is_locked(study / layout.LOCK))
        return forget(*of_file)

    monkeypatch.setattr(command, "forget", watched)
    command.main(Namespace(study=study, classes=["ant"]))
    assert locked == [True] and not is_locked(study / layout.LOCK)


def test_a_memory_that_appears_before_the_note_is_changed_too(memory, monkeypatch):
    """Its job read forgotten.json before the note was there."""
    late = memory.parents[1] / "task-1" / layout.MEMORY
    write_json = command.write_json

    def write_late(*note):
        write(late)
        write_json(*note)

    monkeypatch.setattr(command, "write_json", write_late)
    command.main(Namespace(study=memory.parents[1], classes=["ant"]))
    assert read_memory(late)["label"].tolist() == [1]


def test_a_folder_that_is_no_study_stays_as_it_is(tmp_path):
    run = program("wa", "forget", tmp_path, "ant")
    assert run.returncode == 1 and "has no memory.npz" in run.stdout
    assert not [*tmp_path.iterdir()]
