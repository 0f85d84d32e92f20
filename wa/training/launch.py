"""Start a training: on GPUs of its own, through torchrun when it has several processes, through srun when it has several nodes.

    python -m wa.training.launch --processes 2 --threads 2 --device auto -- --data ... (options of wa.training.train)

Decided here, in the job, because the machine that plans a study need not be the one that trains. Imports nothing heavy.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from wa.errors import UserError, program
from wa.locks import lock
from wa.study import layout
from wa.training.gpu_lease import gpus, lease
from wa.training.options import is_done, parse, wanted


def claim(output: Path) -> None:
    """Hold this training's folder for the rest of this process.

    A killed Snakemake may have left a training at work there: wait for its end.
    """
    file = lock(output / layout.RESUME / "lock", wait=True)
    os.set_inheritable(os.dup(file.fileno()), True)


def finish(output: Path) -> None:
    """Keep the results of a training that is done as they are, but newer than what they were made from."""
    print("exactly this training is finished: its results are kept", flush=True)
    for name in (layout.FEATURES, layout.HISTORY, layout.TRAINED):
        os.utime(output / name)
    shutil.rmtree(output / layout.RESUME, ignore_errors=True)


def use_gpus(count: int, runs_per_gpu: int) -> None:
    """Lease GPUs for the rest of this process, and of all that it starts.

    The lease is this process's standard input, the one file that every way of starting a process hands on: torchrun's
    workers hold it too, and should torchrun be killed, nobody else gets their GPUs before they are gone.
    """
    file, names = lease(gpus(), count, runs_per_gpu)
    os.dup2(file, 0)
    os.set_inheritable(0, True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)


def torchrun(arguments: list[str]) -> None:
    """Run torchrun here, and end as its first failed worker did: what that said is the last line, not torchrun's own report."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--nodes", type=int, default=1, help="machines, in a Slurm job (default: 1)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="processes, on each machine (default: 1)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="CPU threads, over all processes of a machine (default: 1)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--runs-per-gpu", type=int, default=1, help="trainings that may share a GPU (default: 1)"
    )
    parser.add_argument(
        "--in-step", action="store_true", help="this is one of the machines; srun is told to say so"
    )
    parser.add_argument("options", nargs="+", help="options of wa.training.train, after --")
    args = parser.parse_args()
    if not args.in_step:
        options, settings = parse(args.options)
        claim(options.output)
        if is_done(options.output, wanted(options, settings)):
            finish(options.output)
            return
    if args.nodes > 1 and not args.in_step:
        if "SLURM_JOB_ID" not in os.environ:
            raise UserError(
                f"nodes: {args.nodes} needs Slurm: run the study with `--profile profiles/slurm`, or set nodes: 1"
            )
        srun = [
            "srun",
            f"--nodes={args.nodes}",
            f"--ntasks={args.nodes}",
            "--ntasks-per-node=1",
            "--kill-on-bad-exit",
        ]
        srun += [f"--cpus-per-task={args.threads}"]
        os.execvp(
            "srun", [*srun, sys.executable, "-m", "wa.training.launch", "--in-step", *sys.argv[1:]]
        )
    os.environ["OMP_NUM_THREADS"] = str(max(1, args.threads // args.processes))
    if args.device != "cpu" and gpus():
        use_gpus(args.processes, args.runs_per_gpu)
    train = ["-m", "wa.training.train", "--device", args.device, *args.options]
    if args.nodes > 1:
        # The first node is the one that srun was started on, and a job's number is a port that no other job there uses.
        first, job = os.environ["SLURM_LAUNCH_NODE_IPADDR"], int(os.environ["SLURM_JOB_ID"])
        where = [f"--nnodes={args.nodes}", f"--node-rank={os.environ['SLURM_NODEID']}"]
        where += [f"--master-addr={first}", f"--master-port={20000 + job % 10000}"]
    else:
        where = ["--standalone"]
    if args.nodes * args.processes > 1:
        torchrun([*where, f"--nproc-per-node={args.processes}", *train])
    else:
        os.execv(sys.executable, [sys.executable, *train])


if __name__ == "__main__":
    program(main)
