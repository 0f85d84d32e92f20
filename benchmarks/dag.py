"""How long Snakemake takes to plan a large study, and how much memory.

    .venv/bin/python benchmarks/dag.py --runs 1000

It is a dry run in a folder without results. The study is of CIFAR-100, which need not be there: 4
protocols of 10 tasks, 5 class orders, 5 seeds, and as many methods as make up the runs.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[1]


# data set -> (base, increment) of protocols of ten tasks
SIZES = {
    "cifar100": ((10, 10), (55, 5), (82, 2), (91, 1)),
    "imagenet1000": ((100, 100), (550, 50), (820, 20), (910, 10)),
}


def config(runs: int, dataset: str = "cifar100") -> dict:
    methods = max(1, round(runs / 100))
    return {
        "experiment": "large",
        "dataset": dataset,
        "orders": list(range(1993, 1998)),
        "seeds": list(range(5)),
        "protocols": [{"base": base, "increment": increment} for base, increment in SIZES[dataset]],
        "methods": {
            f"m{m}": {"memory": 2000, "distillation": "dynamic", "alignment": "weight"}
            for m in range(methods)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the plan of a large study.")
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of 100")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "study.yaml")
        study.write_text(yaml.safe_dump(config(args.runs)), encoding="utf-8")
        options = ["--directory", folder, "--configfile", str(study), "-n", "--quiet", "rules"]
        command = [sys.executable, "-u", "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *options]
        planned = None
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            for line in run.stdout:
                if planned is None and line.startswith(
                    "Job stats:"
                ):  # a dry run says it again when it has listed the jobs
                    planned = sum(psutil.Process(run.pid).cpu_times()[:2])
                if line.startswith("total "):
                    jobs = line.split()[1]
    if run.returncode:
        sys.exit("snakemake failed; run it yourself")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = usage.ru_utime + usage.ru_stime
    print(
        f"{jobs} jobs, {usage.ru_maxrss / 2**20:.2f} GiB."
        f" Processor time: {planned:.1f} s to plan, {processor:.1f} s in all"
    )


if __name__ == "__main__":
    main()
