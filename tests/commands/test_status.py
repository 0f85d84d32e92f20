"""wa.commands.status says what the files of a study say."""

import os
from pathlib import Path

from wa.commands.status import report
from wa.locks import lock
from wa.study.study import Study

EPOCH = "epoch {}/10  lr 0.1  loss 1.0  ce 1.0  kd 0.0  train 50.00 %  {} images/s  {} s left\n"


def learn(folder: str, log: str, seconds: int | None = None, age: float = 0):
    """A task's folder; returns the lock of a training that runs."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "train.log").write_text(log)
    os.utime(Path(folder, "train.log"), (1000 - age, 1000 - age))
    if seconds is not None:
        Path(folder, "history.csv").write_text(f"epoch,seconds\n1,{seconds}\n2,{seconds}\n")
        Path(folder, "trained.safetensors").touch()
    return lock(f"{folder}/.resume/lock", wait=False)


def test_what_is_done_runs_and_failed(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study(config)
    base = "results/tiny/order-1993/seed-0/base-6"
    assert report(study, 1000) == "results/tiny: 0 of 7 trainings done, 0 of 9 tasks evaluated"
    learn(base, "", 600)
    running = learn(f"{base}/inc-2/wa/task-1", EPOCH.format(1, 90, 900) + EPOCH.format(2, 100, 800))
    starting = learn(f"{base}/inc-2/joint/task-1", "", age=5)
    learn(f"{base}/inc-2/joint/task-2", EPOCH.format(3, 90, 900)).close()
    learn(f"{base}/inc-2/finetune/task-1", "error: no room\n")
    Path(f"{base}/inc-2/wa/task-0").mkdir()
    Path(f"{base}/inc-2/wa/task-0/metrics.json").touch()
    assert report(study, 1000).splitlines() == [
        "results/tiny: 1 of 7 trainings done, 1 of 9 tasks evaluated",
        "begun and not done:",
        "  order-1993/seed-0/base-6/inc-2/finetune/task-1: error: no room",
        "  order-1993/seed-0/base-6/inc-2/joint/task-1: starts",
        "  order-1993/seed-0/base-6/inc-2/joint/task-2: epoch 3/10, 90 images/s, 900 s left; stopped",
        "  order-1993/seed-0/base-6/inc-2/wa/task-1: epoch 2/10, 100 images/s, 800 s left",
        "at least 0 h 47 min to go, with 2 at a time and 0 h 20 min each",  # (800 + 4 * 1200) / 2 s
    ]
    assert (
        "task-1: epoch 2/10, 100 images/s, 800 s left; silent for 1 h 00 min: it hangs"
        in report(study, 4600)
    )
    running.close(), starting.close()
