"""Start a training, on GPUs of its own.

    python -m wa.training.launch --processes 2 --threads 2 --device auto -- --data ...

The options after `--` are those of wa.training.train. torchrun starts several processes, and srun
several nodes. The job itself decides this, because the machine that plans a study may not be the
one that trains. This module imports nothing heavy.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from wa.errors import UserError, program
from wa.locks import lock
from wa.study import layout
from wa.training import meter
from wa.training.gpu_lease import lease
from wa.training.gpus import gpus
from wa.training.options import is_done, parse, wanted


def claim(output: Path) -> None:
    """Hold this training's folder for the rest of this process.

    A killed Snakemake may have left a training that still runs there. Wait for its end.
    """
    file = lock(output / layout.RESUME / "lock", wait=True)
    os.set_inheritable(os.dup(file.fileno()), True)


def finish(output: Path) -> None:
    """Keep the results of a finished training, but make them newer than their inputs."""
    print("exactly this training is finished: its results are kept", flush=True)
    for name in (layout.FEATURES, layout.HISTORY, layout.TRAINED):
        os.utime(output / name)
    shutil.rmtree(output / layout.RESUME, ignore_errors=True)


def use_gpus(count: int, runs_per_gpu: int) -> list[str]:
    """Lease GPUs for the rest of this process, and of every process that it starts: their names.

    The lease is the standard input, because every way of starting a process passes that on. So the
    workers of torchrun hold the lease too. If torchrun is killed, nobody gets their GPUs before
    they end.
    """
    file, names = lease(gpus(), count, runs_per_gpu)
    os.dup2(file, 0)
    os.set_inheritable(0, True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    os.environ["WA_RUNS_PER_GPU"] = str(runs_per_gpu)
    return names


def torchrun(arguments: list[str]) -> None:
    """Run torchrun in this process, and end as its first failed worker did.

    The worker's message is then the last line, and not torchrun's own report.
    """
    import logging

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ["WA_LAUNCHER"] = str(os.getpid())
    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
    except SignalException as error:
        status = -error.sigval
    else:
        return
    if status < 0:
        print(f"error: the training was ended by signal {-status}", flush=True)
    sys.exit(status if status >= 0 else 128 - status)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=1, help="machines of a Slurm job (default: 1)")
    parser.add_argument(
        "--processes", type=int, default=1, help="processes on each machine (default: 1)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="CPU threads of all processes of a machine together (default: 1)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--runs-per-gpu", type=int, default=1, help="trainings that may share a GPU (default: 1)"
    )
    parser.add_argument(
        "--in-step", action="store_true", help="for srun: this process is one of the machines"
    )
    parser.add_argument("options", nargs="+", help="options of wa.training.train, after --")
    return parser.parse_args()


def run_on_nodes(args: argparse.Namespace) -> NoReturn:
    """Become srun, which starts this module on each node of the Slurm job. Raises UserError."""
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"nodes: {args.nodes} needs Slurm. Run the study with `--profile profiles/slurm`,"
            " or set nodes: 1."
        )
    srun = [
        "srun",
        f"--nodes={args.nodes}",
        f"--ntasks={args.nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit",
        f"--cpus-per-task={args.threads}",
    ]
    this = [sys.executable, "-m", "wa.training.launch", "--in-step", *sys.argv[1:]]
    os.execvp("srun", [*srun, *this])


def rendezvous(nodes: int) -> list[str]:
    """The options of torchrun that say where its processes meet."""
    if nodes == 1:
        return ["--standalone"]
    # The first node is the one where srun was started. The number of the job gives a port that no
    # other job there uses.
    first = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    job = int(os.environ["SLURM_JOB_ID"])
    return [
        f"--nnodes={nodes}",
        f"--node-rank={os.environ['SLURM_NODEID']}",
        f"--master-addr={first}",
        f"--master-port={20000 + job % 10000}",
    ]


def main() -> None:
    args = parse_arguments()
    if not args.in_step:
        options, settings = parse(args.options)
        claim(options.output)
        if is_done(options.output, wanted(options, settings)):
            finish(options.output)
            return
    if args.nodes > 1 and not args.in_step:
        run_on_nodes(args)
    os.environ["OMP_NUM_THREADS"] = str(max(1, args.threads // args.processes))
    leased = []
    if args.device != "cpu" and gpus():
        leased = use_gpus(args.processes, args.runs_per_gpu)
    if not args.in_step:
        meter.start(options.output, leased)
    train = ["-m", "wa.training.train", "--device", args.device, *args.options]
    if args.nodes * args.processes > 1:
        try:
            torchrun([*rendezvous(args.nodes), f"--nproc-per-node={args.processes}", *train])
        except SystemExit:
            # A signal may come when the first process has written the results. They are kept.
            if args.in_step or not is_done(options.output, wanted(options, settings)):
                raise
    else:
        os.execv(sys.executable, [sys.executable, *train])


if __name__ == "__main__":
    program(main)
