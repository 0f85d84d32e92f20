"""How long Snakemake takes to plan a large study, and how much memory: a dry run in a folder without results.

    python benchmarks/dag.py --runs 1000

The study is of CIFAR-100 (which need not be there): 4 protocols of 10 tasks, 5 orders, 5 seeds, and methods to make up the runs.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def config(runs: int) -> dict:
    methods = max(1, round(runs / 100))
    return {
        "experiment": "large",
        "dataset": "cifar100",
        "orders": list(range(1993, 1998)),
        "seeds": list(range(5)),
        "protocols": [{"base": b, "increment": i} for b, i in ((10, 10), (55, 5), (82, 2), (91, 1))],
        "methods": {f"m{m}": {"memory": 2000, "distillation": "dynamic", "alignment": "weight"} for m in range(methods)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the plan of a large study.")
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of 100")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "study.yaml")
        study.write_text(yaml.safe_dump(config(args.runs)))
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(ROOT / "Snakefile"),
            "--directory",
            folder,
            "-n",
            "--quiet",
            "rules",
        ]
        started = time.monotonic()
        run = subprocess.run([*command, "--configfile", str(study)], capture_output=True, text=True)
        seconds = time.monotonic() - started
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    jobs = re.search(r"^total\s+(\d+)$", run.stdout + run.stderr, re.M).group(1)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = usage.ru_utime + usage.ru_stime
    print(f"{jobs} jobs: {seconds:.1f} s, of which {processor:.1f} s processor time; {usage.ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
