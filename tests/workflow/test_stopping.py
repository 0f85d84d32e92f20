"""Snakemake that is stopped stops its jobs, and the same command goes on."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers import ROOT, snakemake_command, task_options

TASK = "results/tiny/order-1993/seed-0/base-10"


def wait_for(found, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "of_sigint"),
    [
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # as in a script's background
    ],
)
def test_a_signal_to_snakemake_alone_stops_the_training_and_the_same_command_goes_on(
    config, tmp_path, number, of_sigint
):
    config |= {"protocols": [{"base": 10, "increment": 1}], "methods": {"finetune": {}}}
    config["training"]["epochs"] = 120
    command = snakemake_command(tmp_path, "metrics", config=config)
    log, saved = tmp_path / TASK / "train.log", tmp_path / TASK / ".resume/state.safetensors"

    def run_and_stop_when(found) -> None:
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, of_sigint),
        )
        wait_for(found)
        children = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid, number)
        assert run.wait(timeout=60) != 0
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert gone and not alive
        said = log.read_text(encoding="utf-8")
        assert "stopped. The same command goes on." in said and "Traceback" not in said, said

    run_and_stop_when(saved.exists)

    def goes_on() -> bool:
        with contextlib.suppress(FileNotFoundError):  # Snakemake removes the log first
            return "going on after epoch" in log.read_text(encoding="utf-8")
        return False

    run_and_stop_when(goes_on)


def test_a_signal_after_the_results_are_written_deletes_nothing(digits, tmp_path):
    """The process takes long to end. Snakemake deletes what a job wrote that does not end well."""
    slow = "from wa.training import live, train; import sys, time\n"
    slow += "live.Live.close = lambda self: time.sleep(3)\ntrain.main()"
    command = [sys.executable, "-c", slow, *map(str, task_options(digits, tmp_path / "out"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for number in (signal.SIGINT, signal.SIGTERM):
        (tmp_path / "out/trained.safetensors").unlink(missing_ok=True)
        training = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        wait_for((tmp_path / "out/trained.safetensors").exists)
        training.send_signal(number)
        assert training.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_signal_to_several_processes_after_the_results_are_written(digits, tmp_path):
    slow = "import os, time\nif 'RANK' in os.environ:\n    from wa.training import live\n"
    slow += "    live.Live.close = lambda self: time.sleep(3)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    launch = [sys.executable, "-m", "wa.training.launch", "--processes", "2", "--device", "cpu"]
    command = [*launch, "--", *map(str, task_options(digits, tmp_path / "out"))]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    wait_for((tmp_path / "out/trained.safetensors").exists)
    training.send_signal(signal.SIGTERM)
    assert training.wait(timeout=60) == 0


def test_a_signal_that_is_ignored_stays_ignored():
    """Else it would end the jobs of a Snakemake that goes on."""
    code = "import signal; from wa.stopping import stop_jobs_too; stop_jobs_too();"
    code += " print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    shell = f"trap '' INT; {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environment)
    assert run.stdout == "True\n", run.stderr
