"""`--sdm conda`: jobs run in the environment that Snakemake builds, here with a fake conda."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from helpers import ROOT, small_study, snakemake_command

# What Snakemake asks of conda. An environment is a folder with a Python that keeps a record.
CONDA = """#!/bin/bash
case "$*" in
    "info --json") echo '{"conda_prefix": "FOLDER", "platform": "linux-64"}' ;;
    "--version") echo "conda 25.1.0" ;;
    "config --get"*) echo '{"get": {"channel_priority": "strict"}}' ;;
    "env create"*)
        while [ "$1" != --file ]; do shift; done
        cp "$2" FOLDER/asked.yml
        mkdir -p "$4/bin"
        cp FOLDER/python "$4/bin/python" ;;
    "clean "*) ;;
    *) echo "the fake conda does not know: $*" >&2; exit 1 ;;
esac
"""
ACTIVATE = 'export PATH="$1/bin:$PATH"\n'
PYTHON = """#!/bin/bash
echo "$0 $*" >> FOLDER/record.txt
REAL -c 'import os, wa; print(wa.__file__, os.environ["PYTHONSAFEPATH"])' >> FOLDER/imports.txt
exec REAL "$@"
"""


def install_conda(folder: Path) -> None:
    """Put the fake into folder/bin."""
    (folder / "bin").mkdir(parents=True)
    for name, text in (("bin/conda", CONDA), ("bin/activate", ACTIVATE), ("python", PYTHON)):
        file = folder / name
        file.write_text(text.replace("FOLDER", str(folder)).replace("REAL", sys.executable))
        file.chmod(0o755)


def test_a_job_runs_in_the_environment_and_imports_this_checkout(tmp_path):
    fake, work = tmp_path / "fake", tmp_path / "work"
    install_conda(fake)
    work.mkdir()
    target = "results/data/digits/dataset.json"
    command = snakemake_command(work, target, "--sdm", "conda", config=small_study())
    environment = os.environ | {"PATH": f"{fake}/bin:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    environment.pop("PYTHONSAFEPATH", None)
    run = subprocess.run(command, capture_output=True, text=True, cwd=work, env=environment)
    assert run.returncode == 0, run.stderr

    assert json.loads((work / target).read_text())
    built = yaml.safe_load((fake / "asked.yml").read_text())
    assert built == yaml.safe_load((ROOT / "environment.yml").read_text())
    (used,) = (fake / "record.txt").read_text().splitlines()
    python, options = used.split(" ", 1)
    assert Path(python).is_relative_to(work / ".snakemake/conda")
    assert options.startswith("-m wa.data.datasets ")
    assert (fake / "imports.txt").read_text() == f"{ROOT}/wa/__init__.py 1\n"
