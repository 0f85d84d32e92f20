"""The training loop: the same bits twice and after a kill, for one process and two, and guards."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, program, second_task, task_options

from wa.checkpoint import read_checkpoint
from wa.files import read_arrays
from wa.randomness import key, shuffled, uniform
from wa.study.settings import Settings
from wa.training import train
from wa.training.schedule import learning_rate


@pytest.mark.slow
def test_the_same_bits_twice(digits, base, tmp_path):
    files = []
    for name in "ab":
        run = program("wa.training.train", *second_task(digits, base, tmp_path / name))
        assert run.returncode == 0, run.stdout
        files.append((tmp_path / name / "trained.safetensors").read_bytes())
    assert files[0] == files[1]
    assert not (tmp_path / "a" / ".resume").exists()
    tensors, dataset = read_checkpoint(tmp_path / "a" / "trained.safetensors")
    assert dataset["task_sizes"] == [4, 2] and dataset["classes"] == ["4", "2", "7", "6", "0", "3"]
    features = read_arrays(tmp_path / "a" / "features.npz")
    # 20 exemplars of the 4 old classes.
    assert np.bincount(features["label"])[:4].tolist() == [5] * 4
    assert set(features["test_label"]) == set(range(6)) and features["features"].shape[1] == 64
    before, _ = read_checkpoint(base / "model.safetensors")
    assert (tensors["backbone.conv1.weight"] != before["backbone.conv1.weight"]).any()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_killed_training_goes_on_to_the_same_bits(digits, base, tmp_path, number):
    command = [*map(str, second_task(digits, base, tmp_path / "killed")), "--epochs", "12"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "wa.training.train", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    for line in process.stdout:
        if line.startswith("epoch 5/"):
            break
    process.send_signal(number)
    last = process.stdout.read().splitlines()[-1:]
    process.wait(timeout=10)
    if number == signal.SIGTERM:  # Slurm sends it before it kills
        assert (process.returncode, last) == (1, ["stopped. The same command goes on."])
    assert not (tmp_path / "killed" / "trained.safetensors").exists()
    for name in ("torn", "other"):
        shutil.copytree(tmp_path / "killed", tmp_path / name)
    state = tmp_path / "torn" / ".resume" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-50] ^= 1  # one flipped bit
    state.write_bytes(content)

    said, bits = {}, {}
    for name, *more in (("whole",), ("killed",), ("torn",), ("other", "--lr", "0.04")):
        run = program("wa.training.train", *command, "--output", tmp_path / name, *more)
        assert run.returncode == 0, run.stdout
        said[name], bits[name] = run.stdout, (tmp_path / name / "trained.safetensors").read_bytes()
    before, after = said["killed"].split("going on after epoch")
    # The log is whole, and the epoch was not trained again.
    assert "epoch 1/12" in before and "epoch 1/12" not in after
    assert "starting anew" in said["torn"] and "starting anew" in said["other"]
    assert bits["killed"] == bits["whole"] == bits["torn"] != bits["other"]


@pytest.mark.slow
def test_two_processes_under_torchrun(digits, base, tmp_path):
    """Two processes see the batches of one.

    Batch norm sees half of each batch, so the weights are close, but not the same.
    """
    torchrun = ["--standalone", "--nproc-per-node", "2", "-m", "wa.training.train"]
    run = program("torch.distributed.run", *torchrun, *second_task(digits, base, tmp_path / "two"))
    assert run.returncode == 0, run.stdout
    assert "processes 2" in run.stdout
    assert run.stdout.count("epoch 3/3") == 1  # only rank 0 speaks
    run = program("wa.training.train", *second_task(digits, base, tmp_path / "one"))
    assert run.returncode == 0, run.stdout
    one, two = (
        read_checkpoint(tmp_path / name / "trained.safetensors")[0] for name in ("one", "two")
    )
    difference = np.abs(one["classifier.heads.0.weight"] - two["classifier.heads.0.weight"])
    assert 0 < difference.mean() < 0.02
    one, two = (read_arrays(tmp_path / name / "features.npz") for name in ("one", "two"))
    assert (one["index"] == two["index"]).all() and (one["test_label"] == two["test_label"]).all()


def test_the_union_of_the_processes_batches_is_the_single_process_batch():
    order = shuffled(key(0, 1, 2), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    for batch in order.split(128):
        for size in (2, 3, 4):
            assert torch.equal(torch.cat(batch.tensor_split(size)), batch)
    draws = uniform(key(5), order[:128], 7)
    assert torch.equal(
        torch.cat([uniform(key(5), part, 7) for part in order[:128].tensor_split(3)]), draws
    )


def test_random_numbers_are_uniform_and_independent():
    draws = uniform(key(0, 1, 2, 3), torch.arange(200_000), 4)
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T:
        counts = torch.histc(column, 100, 0, 1)
        chi2 = ((counts - 2000) ** 2 / 2000).sum()
        assert 60 < chi2 < 150  # 99 degrees of freedom
    assert torch.corrcoef(draws.T).triu(1).abs().max() < 0.01
    assert torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1].abs() < 0.01
    others = [
        uniform(key(*parts), torch.arange(1000), 1) for parts in ((0, 1), (1, 0), (0, 2), (0,))
    ]
    assert len({tuple(o.flatten().tolist()) for o in others}) == 4


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_schedules_are_torchs(schedule):
    settings = Settings(schedule=schedule, epochs=20, milestones=(5, 12), lr=0.3, lr_decay=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = {
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
        "step": torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 12], 0.1),
        "constant": torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    }[schedule]
    for epoch in range(20):
        assert learning_rate(settings, epoch) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_a_loss_that_is_not_finite_stops_the_job(digits, base, tmp_path):
    run = program("wa.training.train", *second_task(digits, base, tmp_path), "--lr", "1e9")
    assert run.returncode == 1
    assert (
        "error: the loss is not finite at epoch 1, step" in run.stdout
        and "learning rate 1e+09" in run.stdout
    )
    assert [file.name for file in tmp_path.iterdir()] == [".resume"]  # the epochs so far


def test_what_does_not_fit_is_said(digits, base, tmp_path):
    run = program(
        "wa.training.train", *second_task(digits, base, tmp_path), "--backbone", "resnet20"
    )
    assert (
        run.returncode == 1
        and "was trained with backbone resnet8, but this task needs resnet20" in run.stdout
    )
    run = program("wa.training.train", *task_options(digits, tmp_path), "--batch-size", "1")
    assert run.returncode == 1 and "1 images in a batch are too few" in run.stdout
    run = program("wa.training.train", *task_options(digits, tmp_path, 4, 7))
    assert run.returncode == 1 and "--tasks [4, 7]: each task needs a class" in run.stdout


def test_new_rows_do_not_depend_on_the_method(digits, base, tmp_path):
    """So methods of one run differ by what they do, and not by what they draw."""
    rows = []
    for more in ([], ["--distillation", "0"], ["--freeze"]):
        options = [*second_task(digits, base, tmp_path), *more]
        trainer = train.prepare(*train.parse([str(o) for o in options]))
        rows.append(trainer.model.classifier.heads[-1].weight)
    assert all(torch.equal(each, rows[0]) for each in rows)


def test_the_step_is_the_papers_loss(digits, base, tmp_path):
    """One batch through Trainer.losses against the equation, with the parts computed apart."""
    for mix in ("sum", "convex"):
        options = [
            *second_task(digits, base, tmp_path),
            "--distillation",
            "dynamic",
            "--mix",
            mix,
            "--precision",
            "float32",
        ]
        trainer = train.prepare(*train.parse([str(o) for o in options]))
        task, model, teacher = trainer.task, trainer.model, trainer.teacher
        x = (
            task.train.batch(torch.arange(16)) / 255 - trainer.mean.view(1, -1, 1, 1)
        ) / trainer.std.view(1, -1, 1, 1)
        label = task.train.label[:16]
        loss, _, _, _ = trainer.losses(x, label)
        with torch.no_grad():
            logits, old = model(x), teacher(x)
        ce = -logits.log_softmax(1)[torch.arange(16), label]
        p, q = (old / 2).softmax(1), (logits[:, :4] / 2).log_softmax(1)
        kd = 4 * (p * (p.log() - q)).sum(1)
        lam = 4 / 6
        torch.testing.assert_close(
            loss, (1 - lam) * ce + lam * kd if mix == "convex" else ce + lam * kd
        )
