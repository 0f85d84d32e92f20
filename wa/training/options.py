"""The options of wa.training.train, and what they ask for.

The launcher reads them too, so this needs no torch.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from wa import identity
from wa.checkpoint import read_header
from wa.code import Code
from wa.data.memory import Memory
from wa.data.packed import hashes, read_dataset, read_parts
from wa.data.scenario import read_order
from wa.errors import UserError
from wa.files import read_arrays_header, sha256
from wa.study import layout
from wa.study.settings import Settings, add_options, from_options


def parse(options: list[str] | None = None) -> tuple[argparse.Namespace, Settings]:
    """The options of a command line, and the settings among them. Raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m wa.training.train",
        description="Train one task.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="folder of the packed data set, or without --order a folder for each task",
    )
    add("--path", help="folder of the original images, for --input timm")
    add("--order", nargs="?", type=Path, help="order.json")
    add(
        "--tasks",
        type=int,
        nargs="+",
        required=True,
        help="number of classes of each task, up to the task to train",
    )
    add("--seed", type=int, default=0, help="seed of weights, shuffling and augmentation")
    add(
        "--memory",
        default="0",
        help="exemplars in total (2000), per class (20/class), or `all` (default: 0, none)",
    )
    add("--model", nargs="?", type=Path, help="the previous task's model.safetensors")
    add(
        "--unaligned",
        nargs="?",
        type=Path,
        help="the previous task's trained.safetensors, for --start trained",
    )
    add("--ranking", nargs="?", type=Path, help="the previous task's herding.npz")
    add(
        "--exemplars",
        nargs="?",
        type=Path,
        help="the previous task's memory.npz, which without --order takes the place of --ranking",
    )
    add("--output", type=Path, required=True, help="folder to write to")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add(
        "--test-every",
        type=int,
        default=0,
        help="report the test accuracy every N epochs (default: 0, never)",
    )
    add(
        "--tensorboard",
        action="store_true",
        help="write event files of TensorBoard to the folder tensorboard/ of --output",
    )
    add(
        "--wandb",
        action="store_true",
        help="write an offline run of Weights & Biases to the folder wandb/ of --output",
    )
    add("--code", help="digest of the code, for the header (default: found in this checkout)")
    add_options(parser)
    args = parser.parse_args(options)
    return args, from_options(args)


def wanted(args: argparse.Namespace, settings: Settings) -> dict:
    """The entries that the header of the checkpoint will have: what these options ask for.

    Raises UserError if the tasks are not possible, or if a file is missing among the options.
    """
    files = [folder / layout.DATASET for folder in args.data]
    if args.order:
        dataset = read_dataset(files[0])
        names = read_order(args.order, dataset["classes"])["names"]
    else:
        dataset = read_parts(files)
        names = dataset["classes"]
    if min(args.tasks) < 1 or sum(args.tasks) > len(names):
        raise UserError(
            f"--tasks {args.tasks}: each task needs a class, and there are {len(names)} classes"
        )
    begins = len(args.tasks) == 1 or settings.start == "scratch"
    if not begins and not args.model:
        raise UserError("a task above 0 needs --model, the previous task's model.safetensors")
    goes_on = not begins and settings.start == "trained"
    if goes_on and not args.unaligned:
        raise UserError(
            "--start trained needs --unaligned, the previous task's trained.safetensors"
        )
    code = args.code or identity.training_code(Code(identity.CHECKOUT), asdict(settings))
    return identity.training(
        asdict(settings),
        code=code,
        seed=args.seed,
        memory=str(Memory.parse(args.memory)),
        task_sizes=args.tasks,
        classes=names[: sum(args.tasks)],
        data=hashes(dataset),
        model=None if begins else read_header(args.model).get("content_sha256"),
        ranking=read_arrays_header(args.ranking).get("content_sha256") if args.ranking else None,
        pretrained=sha256(settings.pretrained) if begins and settings.pretrained else None,
        unaligned=read_header(args.unaligned).get("content_sha256") if goes_on else None,
        exemplars=(
            read_arrays_header(args.exemplars).get("content_sha256") if args.exemplars else None
        ),
    )


def is_done(output: Path, want: dict) -> bool:
    """Whether exactly this training is finished.

    output: its folder. want: the entries of its header. Snakemake may start a finished training
    again: after something before it was computed again with the same result, or after Snakemake
    was killed while the training went on.
    """
    files = [output / name for name in (layout.TRAINED, layout.FEATURES, layout.HISTORY)]
    if not all(file.exists() for file in files):
        return False
    try:
        header = read_header(files[0])
        made_from = read_arrays_header(files[1]).get("from_trained")
        same = made_from == header.get("content_sha256")
        return same and identity.difference(header, want) == ""
    except UserError:
        return False
