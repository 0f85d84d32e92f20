"""Start programs as copies of a process that has imported torch and Snakemake.

These imports take most of the time of a short program. Each test process has one server:

    started = start("wa.training.train", ["--help"], folder, environment)

The copy is a process of its own: it has its own folder, environment, output and exit status. What
is read when Python starts, such as the locale, is the server's: test that with `subprocess`.
"""

import atexit
import functools
import gc
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def server() -> subprocess.Popen:
    """The server of this test process. It starts with the first request."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)
    atexit.register(process.communicate)  # it ends when nobody writes to it, and is waited for
    return process


def start(
    module: str, options: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess:
    """Run `python -m module options` to its end in a folder. stdout has stderr too."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as said:
        request = {"module": module, "options": options, "environment": environment}
        request |= {"folder": str(folder), "output": said.name}
        print(json.dumps(request), file=server().stdin, flush=True)
        status = int(server().stdout.readline())
        return subprocess.CompletedProcess([module, *options], status, said.read())


def become(module: str, options: list[str], environment: dict, folder: str, output: str) -> None:
    """Run the module in this process. What it says goes to the file `output`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = [module, *options]
    sys.path[0] = folder  # as with `python -m`
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def serve() -> None:
    """Answer each request, a line of JSON, with the exit status of the program."""
    import snakemake.cli  # noqa: F401
    import torch  # noqa: F401

    gc.freeze()  # the copies need not look for garbage in what all share
    fork = multiprocessing.get_context("fork")
    for line in iter(sys.stdin.readline, ""):
        process = fork.Process(target=become, kwargs=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    serve()
