"""Snakemake that is stopped stops its jobs, and the same command goes on."""

import os
import re
import signal
import subprocess
import time

import psutil
import pytest
from helpers import snakemake_command

TASK = "results/tiny/order-1993/seed-0/base-10"


def wait_for(found, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_snakemake_alone_stops_the_training_and_the_same_command_goes_on(
    config, tmp_path, number
):
    config |= {"protocols": [{"base": 10, "increment": 1}], "methods": {"finetune": {}}}
    config["training"]["epochs"] = 60
    command = snakemake_command(tmp_path, "metrics", config=config)
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    log, saved = tmp_path / TASK / "train.log", tmp_path / TASK / ".resume/state.safetensors"
    wait_for(saved.exists)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, number)
    assert run.wait(timeout=60) != 0
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone and not alive
    said = log.read_text(encoding="utf-8")
    assert "stopped. The same command goes on." in said and "Traceback" not in said, said

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"going on after epoch \d+", log.read_text(encoding="utf-8"))
