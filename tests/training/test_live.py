"""What others see of a training while it runs: history.csv, progress.json and trackers."""

import csv
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from helpers import task_options

from wa.checkpoint import read_header
from wa.errors import UserError
from wa.files import read_json
from wa.training import train
from wa.training.history import COLUMNS, append_history, write_history
from wa.training.live import Live
from wa.training.trackers import TRACKERS, check_installed, trackers

TIMES = ("images_per_second", "seconds")


def row(epoch: int, loss: float = 0.5) -> dict:
    return dict.fromkeys(COLUMNS, 1.0) | {"epoch": epoch, "loss": loss, "test_accuracy": None}


def rows_of(file: Path) -> list[dict]:
    """The rows of a history without what is measured with a clock."""
    with open(file, encoding="utf-8", newline="") as stream:
        return [{k: v for k, v in r.items() if k not in TIMES} for r in csv.DictReader(stream)]


def test_a_history_grows_row_by_row_to_what_is_written_at_once(tmp_path):
    rows = [row(1, 1 / 3), row(2, 1e-9), row(3, 123456.789)]
    write_history(tmp_path / "whole.csv", rows)
    grown = Live(tmp_path / "run", [], 3, 10, [])
    for number, each in enumerate(rows, 1):
        grown.after_epoch(each)
        assert len(rows_of(tmp_path / "run/history.csv")) == number
    whole = (tmp_path / "whole.csv").read_text()
    assert (tmp_path / "run/history.csv").read_text() == whole
    assert ",0.333333," in whole  # six digits


def test_rows_after_the_saved_state_are_written_again(tmp_path):
    first = Live(tmp_path, [], 3, 10, [])
    for epoch in (1, 2):
        first.after_epoch(row(epoch))
    with open(tmp_path / "history.csv", "a", encoding="utf-8") as file:
        file.write("3,0.1,0.")  # a kill cut this row
    second = Live(tmp_path, [row(1)], 3, 10, [])  # only epoch 1 was saved
    for epoch in (2, 3):
        second.after_epoch(row(epoch))
    assert [r["epoch"] for r in rows_of(tmp_path / "history.csv")] == ["1", "2", "3"]


def test_a_history_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        append_history(tmp_path / "none/history.csv", row(1))


class Stopped(Exception):
    pass


def test_a_training_is_followed_and_a_resumed_one_has_the_same_history(
    digits, tmp_path, monkeypatch
):
    """A training that stops in epoch 3 has the rows of two. It ends as an undisturbed one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["--test-every", "2"]
    seen = []

    def follow(self, share):
        seen.append(share)
        if self.done == 2 and self.folder.parent == killed:
            raise Stopped

    monkeypatch.setattr(Live, "within_epoch", follow)
    train.run(*train.parse([str(o) for o in [*task_options(digits, whole), *options]]))
    steps = len(seen) // 3
    assert seen == [number / steps for number in range(1, steps + 1)] * 3
    again = train.parse([str(o) for o in [*task_options(digits, killed), *options]])
    with pytest.raises(Stopped):
        train.run(*again)
    assert [r["epoch"] for r in rows_of(killed / ".resume/history.csv")] == ["1", "2"]
    monkeypatch.undo()
    train.run(*again)
    assert rows_of(killed / "history.csv") == rows_of(whole / "history.csv")
    assert [bool(r["test_accuracy"]) for r in rows_of(whole / "history.csv")] == [0, 1, 0]
    assert not (killed / ".resume").exists()
    name = "trained.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()


class Writer:
    """In place of torch's SummaryWriter, which needs TensorBoard."""

    def __init__(self, folder):
        Path(folder).mkdir(parents=True)
        self.file = open(Path(folder, "events"), "w", encoding="utf-8")  # noqa: SIM115

    def add_scalar(self, name, value, step):
        self.file.write(f"{name} {step}\n")

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


class Run:
    """In place of a run of Weights & Biases."""

    def __init__(self, project, name, group, dir, config, settings):
        self.about = {"project": project, "name": name, "group": group, "config": config}
        assert settings["mode"] == "offline" and not Path(dir, "wandb").exists()
        Path(dir, "wandb").mkdir()
        self.file = Path(dir, "wandb", "run.json")
        self.rows = []

    def log(self, values, step):
        self.rows.append({"step": step} | values)

    def finish(self):
        self.file.write_text(json.dumps(self.about | {"rows": self.rows}))


def package(name: str, **content: object) -> ModuleType:
    found = ModuleType(name)
    found.__spec__ = ModuleSpec(name, None, origin="here")
    vars(found).update(content)
    return found


@pytest.fixture
def installed(monkeypatch):
    """TensorBoard and Weights & Biases, as far as they are used here."""
    monkeypatch.setitem(sys.modules, "tensorboard", package("tensorboard"))
    torchs = package("torch.utils.tensorboard", SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", torchs)
    monkeypatch.setitem(sys.modules, "wandb", package("wandb", init=Run, Settings=dict))


def test_trackers_get_every_number_and_change_no_bit(digits, tmp_path, installed):
    hashes = []
    logged = tmp_path / "results/mine/order-1993/seed-0/base-4"
    for folder, more in (
        (tmp_path / "plain", []),
        (logged, ["--tensorboard", "--wandb", "--test-every", "1"]),
    ):
        options = [*task_options(digits, folder), *more]
        train.run(*train.parse([str(option) for option in options]))
        hashes.append(read_header(folder / "trained.safetensors")["content_sha256"])
    assert hashes[0] == hashes[1]
    assert not list((tmp_path / "plain").glob("[tw]*[bd]"))
    events = (logged / "tensorboard/events").read_text().splitlines()
    columns = [name for name in COLUMNS if name != "epoch"]
    assert events == [f"{name} {epoch}" for epoch in (1, 2, 3) for name in columns]
    run = read_json(logged / "wandb/run.json")
    assert (run["project"], run["name"]) == ("mine", "order-1993/seed-0/base-4")
    assert run["config"]["lr"] == 0.05 and run["config"]["task_sizes"] == [4]
    assert [list(each) for each in run["rows"]] == [["step", *columns]] * 3
    assert [each["step"] for each in run["rows"]] == [1, 2, 3]


def test_a_resumed_training_is_tracked_anew(tmp_path, installed):
    folder = tmp_path / "task"
    args, settings = train.parse([*map(str, task_options(tmp_path, folder)), "--wandb"])
    args.tensorboard = True
    for name in ("tensorboard", "wandb"):
        (folder / name).mkdir(parents=True)
        (folder / name / "old").touch()
    Live(tmp_path / "run", [row(1), row(2)], 3, 10, trackers(args, settings)).close()
    events = (folder / "tensorboard/events").read_text()
    assert "loss 1\n" in events and "loss 2\n" in events and "test_accuracy" not in events
    run = read_json(folder / "wandb/run.json")
    assert [each["step"] for each in run["rows"]] == [1, 2] and run["project"] == "wa"
    assert not list(folder.glob("*/old"))


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    monkeypatch.setattr("wa.training.trackers.find_spec", lambda name: None)
    args, settings = train.parse([*map(str, task_options(tmp_path, tmp_path)), f"--{name}"])
    with pytest.raises(UserError, match=f"needs the package {name}, .* Install it with `pip"):
        trackers(args, settings)


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="needs the package wandb"):
        check_installed(["wandb"])
