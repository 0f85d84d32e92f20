"""Start a training: plainly, or through torchrun when it has several processes or a GPU.

    python -m wa.launch --processes 2 --threads 2 --device auto -- --data ... (options of wa.train)

Decided here, in the job, because the machine that plans a study need not be the one that trains. Imports nothing heavy.
"""

import argparse
import os
import sys
from pathlib import Path


def has_gpu() -> bool:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Path("/dev/nvidia0").exists() if visible is None else visible not in ("", "-1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, over all processes together")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("options", nargs="+", help="options of wa.train, after --")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(max(1, args.threads // args.processes))
    command = [sys.executable, "-m"]
    if args.processes > 1 or args.device == "cuda" or (args.device == "auto" and has_gpu()):
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes), "-m"]
    os.execv(sys.executable, [*command, "wa.train", "--device", args.device, *args.options])


if __name__ == "__main__":
    main()
