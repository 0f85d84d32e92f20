"""Start programs as copies of a process that has imported torch, Snakemake and seaborn.

These imports take most of the time of a short program. Each test process has one server:

    started = start("wa.training.train", ["--help"], folder, environment)

The copy is a process of its own: it has its own folder, environment, output and exit status. The
jobs of a Snakemake that is started so are such copies, too. What is read when Python starts, such
as the locale, is the server's: test that with `subprocess`.
"""

import atexit
import contextlib
import functools
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What the jobs of a Snakemake have for Python: it hands them to the server.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or os.environ.get("OMP_NUM_THREADS", "1") != "1":
    os.execv({python!r}, [{python!r}, *words])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = {{"module": words[1], "options": words[2:], "environment": dict(os.environ)}}
request["folder"] = os.getcwd()
text = json.dumps(request).encode()
socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
server.sendall(text)
answers = server.makefile()
child = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(child, number))
status = int(answers.readline() or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@functools.cache
def server() -> Path:
    """The client of the server of this test process. The server starts with the first request."""
    folder = Path(tempfile.mkdtemp(prefix="wa-"))
    client, address = folder / "python", folder / "socket"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
    client.chmod(0o755)
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": ""}
    command = [sys.executable, __file__, str(client), str(address)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
    atexit.register(shutil.rmtree, folder)
    atexit.register(process.communicate)  # it ends when nobody writes to it, and is waited for
    process.stdout.readline()  # it listens
    return client


def start(
    module: str, options: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess:
    """Run `python -m module options` to its end in a folder. stdout has stderr too."""
    command = [str(server()), "-m", module, *options]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        **both,
    )
    return subprocess.CompletedProcess(command, run.returncode, run.stdout)


def become(request: dict, client: str, files: list[int], sockets: list[socket.socket]) -> None:
    """Run the module of a request in this process. files: its stdin, stdout and stderr."""
    for opened in sockets:
        opened.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # As Python makes them for these files. Those of the server are for its own.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = paths if os.environ.get("PYTHONSAFEPATH") else [request["folder"], *paths]
    if request["module"] == "snakemake":
        sys.executable = client  # for its jobs
    os.execv = go_on
    sys.argv = [request["module"], *request["options"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def go_on(python: str, words: list[str], execv=os.execv) -> None:
    """In place of os.execv: run another module in this process. wa.training.launch does so."""
    if words[1] != "-m" or os.environ.get("OMP_NUM_THREADS", "1") != "1":
        execv(python, words)
    sys.argv = words[2:]
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    sys.exit()


def receive(asker: socket.socket) -> tuple[dict, list[int]]:
    """The request of a client, and its three files."""
    size, files, _, _ = socket.recv_fds(asker, 8, 3)
    left, text = int.from_bytes(size, "big"), b""
    while len(text) < left:
        text += asker.recv(left - len(text))
    return json.loads(text), files


def serve(client: str, address: str) -> None:
    """Start what clients ask for. Tell each its process and, at the end, its exit status."""
    import seaborn  # noqa: F401
    import snakemake.cli  # noqa: F401
    import torch  # noqa: F401

    gc.freeze()  # the copies need not look for garbage in what all share
    fork = multiprocessing.get_context("fork")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(100)
    print("ready", flush=True)
    running: dict[int, tuple] = {}  # by the sentinel of the process
    while True:
        for ready in multiprocessing.connection.wait([sys.stdin, listener, *running]):
            if ready is sys.stdin:  # the test process has ended
                for process, _ in running.values():
                    process.kill()
                return
            if ready is listener:
                asker, _ = listener.accept()
                request, files = receive(asker)
                sockets = [listener, asker, *(other for _, other in running.values())]
                process = fork.Process(target=become, args=(request, client, files, sockets))
                process.start()
                for file in files:
                    os.close(file)
                asker.sendall(f"{process.pid}\n".encode())
                running[process.sentinel] = process, asker
            else:
                process, asker = running.pop(ready)
                process.join()
                with contextlib.suppress(OSError), asker:  # the client may be gone
                    asker.sendall(f"{process.exitcode}\n".encode())


if __name__ == "__main__":
    serve(*sys.argv[1:])
