"""wa.commands.status says what the files of a study say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers import ROOT, small_study

from wa.commands import status
from wa.commands.status import Outdated, curve, duration, is_done, last_error, outdated, report
from wa.data.datasets import refuse
from wa.errors import UserError
from wa.locks import lock
from wa.study.study import Study
from wa.training.history import append_history, write_history
from wa.training.live import Live
from wa.training.progress import read_progress


def row(epoch: int, seconds: float = 60, speed: float = 90) -> dict:
    """A row of the history."""
    rates = {"lr": 0.1, "images_per_second": speed, "seconds": seconds, "test_accuracy": None}
    losses = dict.fromkeys(("loss", "cross_entropy", "distillation", "train_accuracy"), 1.0)
    return {"epoch": epoch} | rates | losses


def learn(folder: str, epoch: int = 0, log: str = "", age: float = 0, **values: float):
    """Begin a training of ten epochs at the time 1000 - age. Returns its lock.

    epoch: how many epochs are done. values: seconds and speed of the last one.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "train.log").write_text(log, encoding="utf-8")
    os.utime(Path(folder, "train.log"), (1000 - age, 1000 - age))
    held = lock(f"{folder}/.resume/lock", wait=False)
    if epoch:
        live = Live(Path(folder, ".resume"), [], 10, 100, [])
        live.after_epoch(row(epoch, **values))
        file = Path(folder, ".resume/progress.json")
        file.write_text(
            json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"time": 1000 - age}),
            encoding="utf-8",
        )
    return held


def finish(folder: str, seconds: float) -> None:
    """End a training of two epochs that took `seconds` each."""
    write_history(Path(folder, "history.csv"), [row(1, seconds), row(2, seconds)])
    Path(folder, "trained.safetensors").touch()


def test_what_is_done_runs_and_failed(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study(config)
    base = "results/tiny/order-1993/seed-0/base-6"
    assert report(study, 1000).splitlines() == [
        "results/tiny: 0 of 7 trainings done, 0 of 9 tasks evaluated",
        "it has not begun in this folder",
    ]
    learn(base)
    finish(base, 600)
    running = learn(f"{base}/inc-2/wa/task-1", 2, seconds=100, speed=99.7)
    starting = learn(f"{base}/inc-2/joint/task-1", age=5)
    learn(f"{base}/inc-2/joint/task-2", 3, "epoch 3/10\n", seconds=5, speed=9).close()
    learn(f"{base}/inc-2/finetune/task-1", 3, "error: no room\nbye\nerror: no disk\n").close()
    Path(f"{base}/inc-2/wa/task-0").mkdir()
    Path(f"{base}/inc-2/wa/task-0/metrics.json").touch()
    assert report(study, 1000).splitlines() == [
        "results/tiny: 1 of 7 trainings done, 1 of 9 tasks evaluated",
        "begun and not done:",
        "  order-1993/seed-0/base-6/inc-2/finetune/task-1: error: no disk",
        "  order-1993/seed-0/base-6/inc-2/joint/task-1: starts",
        "  order-1993/seed-0/base-6/inc-2/joint/task-2: epoch 3/10, loss 1, train 1 %, 9 images/s,"
        " 35 s left; stopped",
        "  order-1993/seed-0/base-6/inc-2/wa/task-1: epoch 2/10, loss 1, train 1 %, 100 images/s,"
        " 13 min 20 s left",
        # (800 + 4 * 1200) / 2
        "at least 46 min 40 s to go, with 2 at a time and 20 min 00 s each, without evaluations and"
        " figures",
    ]
    assert "13 min 20 s left; no news for 1 h 00 min: it hangs" in report(study, 4600)
    running.close(), starting.close()


def test_jobs_that_failed_are_named_with_their_errors(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = {
        "results/data/digits/prepare.log": "tiny: 90 images\n",
        "results/tiny/figures/gamma.log": "error: no font\n",
        "results/tiny/order-1993/seed-0/base-6/align.log": "",
        "results/tiny/order-1993/seed-0/base-6/inc-2/wa/task-0/evaluate.log": (
            "Traceback (most recent call last):\n  File x\n\nKeyError: 'cat'\n\n"
        ),
        # of a method that the study does not have
        "results/tiny/order-1993/seed-0/base-6/inc-2/gone/task-0/evaluate.log": "error: no\n",
    }
    for log, text in logs.items():
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        Path(log).write_text(text, encoding="utf-8")
    assert report(Study(config), 1000).splitlines()[1:] == [
        "failed:",
        "  figures/gamma.log: error: no font",
        "  order-1993/seed-0/base-6/inc-2/wa/task-0/evaluate.log: KeyError: 'cat'",
    ]


def test_a_training_that_goes_on_after_an_error_is_not_reported_as_failed(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = "results/tiny/order-1993/seed-0/base-6"
    running = learn(folder, 1, "error: no room\n")
    assert "base-6: epoch 1/10, loss 1, train 1 %, 90 images/s, 9 min 00 s left" in report(
        Study(config), 1000
    )
    running.close()


def test_a_training_that_has_no_lock_yet_starts(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = "results/tiny/order-1993/seed-0/base-6"
    learn(folder, 3, age=20).close()  # an earlier part ended in epoch 3
    assert "base-6: starts" in report(Study(config), 1000)
    assert "9 min 00 s left; stopped" not in report(Study(config), 1000)
    assert "; stopped" in report(Study(config), 2000)


def test_after_a_kill_nothing_is_said_to_run(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = "results/tiny/order-1993/seed-0/base-6"
    learn(base).close()
    finish(base, 600)
    learn(f"{base}/inc-2/finetune/task-1", age=20).close()
    learn(f"{base}/inc-2/wa/task-1", 2, age=20).close()
    snakemake = lock("results/tiny/.lock", wait=False)
    starting = report(Study(config), 1000)
    assert "finetune/task-1: starts\n" in starting and "min 00 s to go" in starting
    assert "nothing runs" not in starting
    snakemake.close()
    assert report(Study(config), 1000).splitlines() == [
        "results/tiny: 1 of 7 trainings done, 0 of 9 tasks evaluated",
        "nothing runs this study now",
        "begun and not done:",
        "  order-1993/seed-0/base-6/inc-2/finetune/task-1: stopped at its start",
        "  order-1993/seed-0/base-6/inc-2/wa/task-1: epoch 2/10, loss 1, train 1 %, 90 images/s,"
        " 8 min 00 s left; stopped",
    ]
    with learn(f"{base}/inc-2/joint/task-1", 2):  # on a cluster, it may outlive its Snakemake
        assert "nothing runs" not in report(Study(config), 1000)


def test_without_a_lock_of_the_study_a_training_that_starts_is_believed(
    config, tmp_path, monkeypatch
):
    """As when another workflow runs the study as a module."""
    monkeypatch.chdir(tmp_path)
    folder = "results/tiny/order-1993/seed-0/base-6"
    learn(folder, age=20).close()
    assert "base-6: starts" in report(Study(config), 1000)
    assert "base-6: stopped at its start" in report(Study(config), 2000)


def test_one_training_and_one_task_are_no_plural(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study(config | {"methods": {"wa": {}}, "protocols": [{"sizes": [10]}]})
    assert report(study, 1000).startswith("results/tiny: 0 of 1 training done, 0 of 1 task evalua")


@pytest.mark.parametrize("number, more", [(2, []), (3, []), (5, ["and 2 more"])])
def test_the_images_that_cannot_be_used_are_named(config, tmp_path, monkeypatch, number, more):
    """As wa.data.datasets says it: a line for each of at most 20 images, then what to do."""
    monkeypatch.chdir(tmp_path)
    images = [f"images/train/cat/{i}.png (8 x 9 pixels)" for i in range(number)]
    with pytest.raises(UserError) as error:
        refuse("images", [], images, None)
    Path("results/data/digits").mkdir(parents=True)
    Path("results/data/digits/prepare.log").write_text(
        f"first\nerror: {error.value}\n", encoding="utf-8"
    )
    shown = report(Study(config), 1000).splitlines()
    advice = "for images of several sizes, write `cache_size: 256`, or a side that fits them, in"
    assert shown[-1] == f"    {advice} the config"
    assert shown[-2 - len(images[:3]) - len(more) : -1] == [
        f"  results/data/digits/prepare.log: error: images: {number} of its images cannot be used."
        " Mend or remove them:",
        *[f"    {line}" for line in [*images[:3], *more]],
    ]


def test_the_number_of_images_counts_those_that_the_log_leaves_out(tmp_path):
    with pytest.raises(UserError) as error:
        refuse("images", [f"images/train/cat/{i}.png" for i in range(90)], [], None)
    (tmp_path / "prepare.log").write_text(f"error: {error.value}\n")
    *_, last = last_error(tmp_path / "prepare.log").splitlines()
    assert last == "    and 87 more"


def test_the_time_of_a_finished_training_counts_its_start(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = "results/tiny/order-1993/seed-0/base-6"
    learn(base)
    finish(base, 1)  # two epochs of one second
    Path(base, "train.benchmark.tsv").write_text("s\tmax_rss\n40.5\t900\n", encoding="utf-8")
    running = learn(f"{base}/inc-2/wa/task-1", 2, seconds=1)
    assert "with 1 at a time and 40 s each" in report(Study(config), 1000)
    running.close()


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.4, "0 s"),
        (48, "48 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (86399, "1 d 0 h"),
        (97200, "1 d 3 h"),
    ],
)
def test_a_short_time_has_seconds(seconds, text):
    assert duration(seconds) == text


def test_progress_is_written_at_most_once_a_second(tmp_path):
    assert read_progress(tmp_path) is None
    live = Live(tmp_path, [], 10, 100, [])
    live.after_epoch(row(1))
    live.after_epoch(row(2))
    assert read_progress(tmp_path).epoch == 1
    os.utime(tmp_path / "progress.json", (0, 0))
    live.after_epoch(row(3, seconds=2))
    assert read_progress(tmp_path)[:5] == (3, 10, 0, 90, 14)


def test_the_first_epoch_tells_how_far_it_is(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = "results/tiny/order-1993/seed-0/base-6"
    running = learn(folder)
    clock = SimpleNamespace(monotonic=lambda: 50.0, time=time.time)
    monkeypatch.setattr("wa.training.live.time", clock)
    live = Live(Path(folder, ".resume"), [], 10, images=1000, trackers=[])
    clock.monotonic = lambda: 58.0
    live.within_epoch(0.4)  # so an epoch takes 20 seconds
    text = report(Study(config), time.time())
    assert "base-6: epoch 0/10 and 40%, 50 images/s, 3 min 12 s left" in text
    live.within_epoch(0.5)  # not a second later
    assert read_progress(Path(folder, ".resume")).share == 0.4
    running.close()


def test_the_last_loss_and_accuracies_are_shown(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = "results/tiny/order-1993/seed-0/base-6"
    running = learn(folder, 2)
    history = Path(folder, ".resume/history.csv")
    append_history(history, row(3) | {"loss": 0.123456789, "test_accuracy": 66.5})
    shown = "base-6: epoch 2/10, loss 0.123457 █▁, train 1 % ▁▁, test 66.5 %, 90 images/s"
    assert shown in report(Study(config), 1000)
    with open(history, "a", encoding="utf-8") as file:
        file.write("4,0.1,0.0")  # a row that is being written
    assert shown in report(Study(config), 1000)
    running.close()


def test_a_curve_has_a_bar_for_each_value_or_for_neighbours():
    assert curve([1, 0.5, 0]) == "█▅▁" and curve([0.0, 7.0]) == "▁█"
    assert curve([5.0]) == curve([]) == "" and curve([2.0, 2.0]) == "▁▁"
    assert curve([0.0, float("nan"), 7.0]) == "▁█"
    halves = curve([0.0] * 30 + [7.0] * 30)
    assert halves == "▁" * 10 + "█" * 10
    assert curve([0.0, 14.0] * 20) == curve([1.0] * 1000) == "▁" * 20


def test_outdated_results_are_counted_with_a_reason(finished, config, tmp_path, monkeypatch):
    """Another alignment of wa: its task 1 is aligned anew, and its task 2 trained anew."""
    monkeypatch.chdir(finished)
    assert outdated(Study(config)) == Outdated({}, {})
    config["methods"]["wa"]["alignment"] = "unit"
    study = Study(config)
    old = outdated(study)
    run = "results/tiny/order-1993/seed-0/base-6/inc-2/wa"
    why = "alignment was weight, is unit"
    assert old.trainings == {f"{run}/task-2": why}
    assert old.evaluations == {f"{run}/task-1": why, f"{run}/task-2": why}
    assert report(study, 1000, old).splitlines() == [
        "results/tiny: 6 of 7 trainings done, 7 of 9 tasks evaluated",
        "outdated, so the next run makes them anew: 1 training and 2 evaluations. For instance"
        f" order-1993/seed-0/base-6/inc-2/wa/task-2: {why}",
        "nothing runs this study now",
    ]
    assert is_done(study, Outdated({}, {})) and not is_done(study, old)
    config["training"]["epochs"] = 2
    old = outdated(Study(config))
    assert (len(old.trainings), len(old.evaluations)) == (7, 9)


def test_a_training_that_makes_an_outdated_result_anew_is_shown(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, base = Study(config), "results/tiny/order-1993/seed-0/base-6"
    running = learn(base, 2)
    finish(base, 1)
    old = Outdated({base: "lr was 1, is 2"}, {})
    assert "  order-1993/seed-0/base-6: epoch 2/10" in report(study, 1000, old)
    running.close()
    assert "begun" not in report(study, 1000, old)


def test_watching_ends_when_the_study_is_done(finished, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small_study()), encoding="utf-8")
    command = [sys.executable, "-m", "wa", "status", "--config", str(tmp_path / "config.yaml")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": finished, "env": environment, "capture_output": True, "text": True}
    run = subprocess.run([*command, "--watch", "0.1"], **options, timeout=120)
    assert run.stdout == "results/tiny: 7 of 7 trainings done, 9 of 9 tasks evaluated\n"
    assert "\033" not in run.stdout  # no codes of a terminal in a file
    run = subprocess.run([*command, "--watch", "0"], **options)
    assert run.returncode == 1 and "--watch 0 is not a number of seconds above 0" in run.stderr


def test_an_interrupted_watch_ends_without_a_word(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small_study()), encoding="utf-8")
    (tmp_path / "results").mkdir()
    # A shell's background ignores SIGINT, and tests may run there.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "wa", "status"]
    command += ["--config", "config.yaml", "--watch"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as watch:
        assert watch.stdout.readline().startswith("results/tiny: 0 of 7 trainings done")
        watch.send_signal(signal.SIGINT)
        assert (watch.stderr.read(), watch.wait()) == ("", 0)


def test_a_long_report_is_not_made_without_a_rest(monkeypatch):
    """Reading thousands of results takes seconds, and others use the same file system."""
    clock, rests = iter([0.0, 3.0, 10.0, 10.5]), []
    monkeypatch.setattr(status, "outdated", lambda study, code: status.NONE)
    monkeypatch.setattr(status, "report", lambda study, now, old: "")
    monkeypatch.setattr(status, "is_done", lambda study, old: len(rests) == 2)
    monkeypatch.setattr(status.time, "perf_counter", lambda: next(clock, 0.0))
    monkeypatch.setattr(status.time, "sleep", rests.append)
    status.repeat(None, None, 5)
    assert rests == [12, 5]


def test_damaged_progress_is_one_clear_line(tmp_path):
    (tmp_path / "progress.json").write_text('{"epoch": "\\u001b[31m", "epochs": 10}')
    with pytest.raises(UserError, match="it says epoch = "):
        read_progress(tmp_path)


def test_a_history_refuses_a_column_that_is_not_in_the_list(tmp_path):
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_history(tmp_path / "history.csv", [row(1) | {"another": 1}])
