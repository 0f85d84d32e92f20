"""A training that is killed, has a full disk, or may not write to its folder.

Each test is a row of the table that tests/faults.py prints (make faults): the fault, what was seen,
and how it ended.
"""

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    program,
    second_task,
    small_study,
    snakemake,
    snakemake_command,
    task_options,
)

from wa.checkpoint import read_header
from wa.methods import algorithm
from wa.models import backbones, resnet
from wa.training import engine, resume, train


def go_on(options: list, folder: Path, epochs: int) -> dict[str, np.ndarray]:
    """Train from the state in a folder up to an epoch, and save there. Returns the tensors."""
    trainer = train.prepare(*train.parse([str(option) for option in options]))
    saved = resume.Saved(folder, {})
    history, _ = saved.load(trainer, {})
    for epoch in range(len(history), epochs):
        history.append(trainer.epoch(epoch))
    saved.save(trainer, history)
    return trainer.model.tensors()


class WithDropout(resnet.CifarResNet):
    def forward(self, x):
        return torch.nn.functional.dropout(super().forward(x), 0.3, self.training)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--momentum", "0"],
        ["--backbone", "resnet20"],
        ["--optimizer", "adamw", "--lr", "0.001", "--backbone-lr-factor", "0.1"],
    ],
    ids=" ".join,
)
def test_a_resumed_training_has_the_same_bits(options, digits, tmp_path, monkeypatch):
    """Also without a momentum to save, and with a network that draws random numbers."""
    dropping = partial(WithDropout, (16, 32, 64), 1)
    monkeypatch.setitem(backbones.BACKBONES, "resnet20", dropping)
    options = [*task_options(digits, tmp_path), *options]
    whole = go_on(options, tmp_path / "whole", 3)
    go_on(options, tmp_path / "killed", 1)
    resumed = go_on(options, tmp_path / "killed", 3)
    assert all((resumed[name] == whole[name]).all() for name in whole)


RUNNING_MEAN = """
import torch
from wa.methods.learner import Learner


class Mine(Learner):
    def begin(self):
        mean = torch.ones((), device=self.trainer.device)
        {keeps}

    def losses(self, x, label):
        found = super().losses(x, label)
        mean = {mean}
        with torch.no_grad():
            mean.mul_(0.9).add_(0.1 * found.total.mean())
        return found._replace(total=found.total / mean)
"""


@pytest.mark.parametrize("place", ["self", "self.model.auxiliary"])
def test_what_a_learner_keeps_is_saved_in_auxiliary_alone(place, digits, tmp_path):
    """As docs/methods.md has it, of a method in a file of one's own."""
    keeps = f"{place}.mean = mean"
    if place != "self":
        keeps = f'{place}.register_buffer("mean", mean)'
    file = tmp_path / "mine.py"
    file.write_text(RUNNING_MEAN.format(keeps=keeps, mean=f"{place}.mean"))
    options = [*task_options(digits, tmp_path), "--algorithm", file]
    whole = go_on(options, tmp_path / "whole", 3)
    go_on(options, tmp_path / "killed", 1)
    resumed = go_on(options, tmp_path / "killed", 3)
    same = all((resumed[name] == whole[name]).all() for name in whole)
    assert same == (place != "self")


@pytest.mark.parametrize("killed_after", [1, 2, 3])
@pytest.mark.parametrize("name", ["eeil", "der", "foster"])
def test_a_training_resumes_in_its_second_stage(name, killed_after, digits, base, tmp_path):
    """Two epochs, then two of another stage. `eeil` distils the model of the first one.

    `der` has another network in the second task, and a classifier drawn anew in the second stage.
    `foster` trains another model in the second stage.
    """
    options = [*second_task(digits, base, tmp_path), "--epochs", 2, "--algorithm", name]
    given = {key: 2 for key in algorithm.facts(name).options if key.endswith("_epochs")}
    words = algorithm.to_words(algorithm.with_defaults(name, given))
    options += ["--options", *words]
    whole = go_on(options, tmp_path / "whole", 4)
    go_on(options, tmp_path / "killed", killed_after)
    resumed = go_on(options, tmp_path / "killed", 4)
    assert all((resumed[name] == whole[name]).all() for name in whole)


def test_another_engine_goes_on_and_is_named(digits, tmp_path):
    """Another GPU, or another number of threads, does not throw an hour of training away."""
    options = [*task_options(digits, tmp_path), "--device", "cpu"]
    args, settings = train.parse([str(option) for option in options])
    trainer = train.prepare(args, settings)
    earlier = trainer.engine() | {"device": "NVIDIA H100", "threads": 7}
    saved = resume.Saved(tmp_path / ".resume", train.wanted(args, settings))
    saved.load(trainer, earlier)
    saved.save(trainer, [trainer.epoch(0) | {"test_accuracy": None}])

    run = program("wa.training.train", *options)
    assert run.returncode == 0 and "going on after epoch 1" in run.stdout, run.stdout
    expected = "an earlier part ran with device NVIDIA H100, threads 7: the last bits may differ"
    assert expected in run.stdout
    header = read_header(tmp_path / "trained.safetensors")
    assert header["engine"]["device"] == "cpu" and header["earlier_engines"] == [earlier]


def test_each_process_and_epoch_drops_other_features(digits, tmp_path, monkeypatch):
    """The numbers of dropout depend on the seed, the epoch and the process."""
    trainer = train.prepare(*train.parse([str(o) for o in task_options(digits, tmp_path)]))
    monkeypatch.setattr(trainer, "run", lambda *_: drawn.append(torch.rand(1).item()))
    monkeypatch.setattr(engine.dist, "all_reduce", lambda *_: None)
    trainer.processes.size = 2
    drawn = []
    for rank, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        trainer.processes.rank = rank
        trainer.epoch(epoch)
    first = drawn[:: len(drawn) // 4]
    assert len(set(first)) == 3 and first[0] == first[3]


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A file system of 300 KB: enough for features.npz, too small for a checkpoint beside it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_leaves_what_was_there(
    digits, base, tmp_path, small_disk, record_property
):
    before = small_disk / "before"
    before.write_bytes(b"x" * 50_000)
    run = program("wa.training.train", *second_task(digits, base, small_disk))
    assert run.returncode == 1
    assert (
        run.stdout.count("error: ") == 1
        and "cannot be written" in run.stdout
        and "o space left" in run.stdout
    )
    assert "Traceback" not in run.stdout
    record_property(
        "row",
        (
            "a full disk",
            run.stdout.splitlines()[-1],
            "one error, nothing lost; with room again, same bits",
        ),
    )
    assert before.read_bytes() == b"x" * 50_000
    left = {p.name for p in small_disk.rglob("*") if p.is_file()}
    # Each of these is whole, and there is no checkpoint.
    assert left <= set(
        ["before", "state.safetensors", "progress.json", "features.npz", "history.csv"]
    )
    before.unlink()
    subprocess.run(["mount", "-o", "remount,size=10m", small_disk], check=True)
    for output in (small_disk, tmp_path / "undisturbed"):
        run = program("wa.training.train", *second_task(digits, base, output))
        assert run.returncode == 0, run.stdout
    name = "trained.safetensors"
    assert (small_disk / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_a_folder_that_cannot_be_written_to_is_one_error(digits, base, tmp_path, record_property):
    # Root may write to any folder, but not below a file.
    (tmp_path / "file").write_text("in the way")
    run = program("wa.training.train", *second_task(digits, base, tmp_path / "file" / "output"))
    assert (
        run.returncode == 1
        and "cannot be written" in run.stdout.splitlines()[-1]
        and "Traceback" not in run.stdout
    )
    record_property(
        "row", ("a folder that cannot be made", run.stdout.splitlines()[-1], "one error")
    )


def processes_of(folder: Path, *words: str) -> list[int]:
    """The processes whose command line has all these words and the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if where == str(folder) and all(word in command for word in words):
                found.append(int(entry.name))
    return found


TARGETS = {
    "worker": [("-m wa.training.train",)],
    "torchrun": [("-m wa.training.launch",)],
    "snakemake": [("-m snakemake",)],
    "all": [("",)],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, dict]:
    """A study of one training by two processes: undisturbed."""
    config = small_study() | {"processes": 2, "device": "cpu", "methods": {"finetune": {}}}
    config["protocols"] = [{"base": 10, "increment": 1}]  # one task
    config["training"]["epochs"] = 40
    folder = tmp_path_factory.mktemp("undisturbed")
    run = snakemake(folder, "metrics", config=config)
    assert run.returncode == 0, run.stdout
    return folder, config


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.slow
def test_after_a_kill_the_same_command_ends_with_the_same_bits(
    prepared, tmp_path, target, record_property
):
    undisturbed, config = prepared
    task = "results/tiny/order-1993/seed-0/base-10"
    command = snakemake_command(tmp_path, "metrics", config=config)
    started = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    state = tmp_path / task / ".resume" / "state.safetensors"
    while not state.exists():
        assert started.poll() is None, (tmp_path / task / "train.log").read_text()
        time.sleep(0.01)
    killed = [pid for words in TARGETS[target] for pid in processes_of(tmp_path, *words)]
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if target in ("worker", "torchrun"):
        assert started.wait(timeout=60) != 0
    assert not (tmp_path / task / "trained.safetensors").exists()
    run = snakemake(tmp_path, "metrics", config=config)
    log = (tmp_path / task / "train.log").read_text()
    assert run.returncode == 0, run.stdout
    assert "going on after epoch" in log or "is finished: its results are kept" in log, log
    for name in ("trained.safetensors", "features.npz"):
        assert (tmp_path / task / name).read_bytes() == (undisturbed / task / name).read_bytes()
    assert not processes_of(tmp_path, "wa.training.train")
    said = next(
        line
        for line in log.splitlines()
        if "going on after epoch" in line or "is finished: its results are kept" in line
    )
    record_property(
        "row", (f"SIGKILL of {target}, two processes training", f"then: {said}", "same bits")
    )
