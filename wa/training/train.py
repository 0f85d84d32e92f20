"""Train one task: the one training loop, for one process or many.

    python -m wa.training.train --data results/data/digits --order order.json --tasks 4 --output base-4 --backbone resnet8 --epochs 30
    torchrun --standalone --nproc-per-node 2 -m wa.training.train ...        (the same options)

--tasks 4 2 2 trains task 2 of 4 + 2 + 2 classes. From task 1 on, --model and --herding name the previous task's
model.safetensors and herding.npz. Writes to --output:

    trained.safetensors   the model as training leaves it
    features.npz          its features of the task's training images, the exemplars, and the test images of all classes seen
    history.csv           a row an epoch

and, while it runs, .resume/: started again after a kill, it goes on from there and ends with the same bits.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # deterministic matrix products; read at CUDA's first use
os.environ.setdefault(
    "THP_MEM_ALLOC_ENABLE", "1"
)  # huge pages for a CPU's large tensors: to fill new ones takes a third

import torch

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.data.augmentations import output_size
from wa.data.memory import Memory
from wa.data.task import Task
from wa.errors import UserError, program
from wa.files import sha256, write_arrays, writing
from wa.locks import die_with_parent
from wa.models.model import CilModel, load_model
from wa.randomness import INITIALIZE, REDRAW, key
from wa.study.settings import Settings, add_options, from_options
from wa.training import resume
from wa.training.engine import Processes, Trainer


def input_size(task: Task, settings: Settings) -> list[int]:
    """Height and width of the images that the backbone takes."""
    size = output_size(settings.augmentation)
    return [size, size] if size else task.dataset["image_shape"][:2]


def build(
    args: argparse.Namespace, task: Task, settings: Settings
) -> tuple[CilModel, CilModel | None]:
    """The model to train and, where the settings distils, its frozen teacher; both on the CPU."""
    torch.manual_seed(key(args.seed, len(task.sizes), INITIALIZE).item())
    channels, size = task.dataset["image_shape"][2], input_size(task, settings)
    if task.n_old == 0 or settings.start == "scratch":
        model = CilModel(
            settings.backbone,
            channels,
            task.sizes,
            settings.bias,
            tuple(size),
            settings.pretrained,
            settings.classifier_init,
        )
        return model, None
    if not args.model:
        raise UserError("a task above 0 needs --model, the previous task's model.safetensors")
    model, dataset = load_model(args.model)
    have = (
        dataset["backbone"],
        dataset["in_channels"],
        dataset["task_sizes"],
        dataset["bias"],
        dataset.get("input_size", size),
    )
    want = (settings.backbone, channels, task.sizes[:-1], settings.bias, size)
    if have != want:
        what = "backbone, channels, classes a task, bias, size of images"
        raise UserError(f"{args.model} does not fit: it is ({what}) {have}, wanted is {want}")
    teacher = (
        load_model(args.model)[0].requires_grad_(False).eval() if settings.distillation else None
    )
    model.classifier.init = settings.classifier_init
    model.classifier.grow(task.sizes[-1])
    model.backbone.requires_grad_(not settings.freeze)
    return model, teacher


def describe(args: argparse.Namespace, task: Task, settings: Settings, engine: dict) -> dict:
    """What the header of a checkpoint says."""
    return {
        "dataset": task.dataset["dataset"],
        "classes": task.order["names"][: task.n_seen],
        "task_sizes": task.sizes,
        "backbone": settings.backbone,
        "bias": settings.bias,
        "in_channels": task.dataset["image_shape"][2],
        "image_shape": task.dataset["image_shape"],
        "input_size": input_size(task, settings),
        "cache_size": task.dataset.get("cache_size"),
        "mean": task.dataset["mean"],
        "std": task.dataset["std"],
        "settings": asdict(settings),
        "memory": str(args.memory),
        "seed": args.seed,
        "parent_sha256": sha256(args.model) if args.model else None,
        "pretrained_sha256": sha256(settings.pretrained) if settings.pretrained else None,
        "herding_sha256": sha256(args.herding) if args.herding else None,
        "data_sha256": {k: v for k, v in task.dataset.items() if k.endswith("sha256")},
        "engine": engine,
        "code_sha256": code_sha256(),
    }


def code_sha256() -> str:
    """The hash of all modules of this package that a training has imported."""
    files = [m.__file__ for name, m in sys.modules.items() if name.startswith("wa.")]
    return hashlib.sha256(
        "".join(sha256(file) for file in sorted({*files, __file__})).encode()
    ).hexdigest()


def parse(options: list[str] | None = None) -> tuple[argparse.Namespace, Settings]:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=120),
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed data set")
    parser.add_argument("--path", help="folder of the original images, for --input timm")
    parser.add_argument("--order", type=Path, required=True, help="order.json")
    parser.add_argument(
        "--tasks",
        type=int,
        nargs="+",
        required=True,
        help="classes of each task, up to the one to train",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--memory",
        type=Memory.parse,
        default=Memory(),
        help="exemplars in total (2000), for each class (20/class), or all (default: 0, none)",
    )
    parser.add_argument(
        "--model", nargs="?", type=Path, help="the previous task's model.safetensors"
    )
    parser.add_argument("--herding", nargs="?", type=Path, help="the previous task's herding.npz")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--test-every",
        type=int,
        default=0,
        help="report the test accuracy every so many epochs (default: 0, never)",
    )
    add_options(parser)
    args = parser.parse_args(options)
    return args, from_options(args)


def prepare(args: argparse.Namespace, settings: Settings) -> Trainer:
    """A trainer as it is before the first epoch."""
    processes = Processes(args.device)
    task = Task(args, processes.device)
    least = len(task.train) % settings.batch_size or settings.batch_size
    if len(task.train) < settings.batch_size or least < processes.size:
        raise UserError(
            f"{len(task.train)} images in batches of {settings.batch_size} for {processes.size} processes: too few for a batch;"
            " choose another batch_size"
        )
    return Trainer(*build(args, task, settings), task, settings, processes, args.seed)


def die_with_torchrun() -> None:
    """End this worker when torchrun ends, however that ends: alone it would only wait for the others."""
    die_with_parent()
    if os.environ.get("WA_LAUNCHER", str(os.getppid())) != str(os.getppid()):
        sys.exit("torchrun is gone")


def is_finished(path: Path, header: dict) -> bool:
    """Whether this very training has been done: by an orphan of a killed Snakemake, whose end wa.training.launch has waited for."""
    try:
        return read_checkpoint(path)[1] == json.loads(json.dumps(header))
    except (OSError, UserError):
        return False


def line(row: dict, epochs: int) -> str:
    """What the log says of an epoch."""
    test = "" if row["test_accuracy"] is None else f"  test {row['test_accuracy']:.2f} %"
    return (
        f"epoch {row['epoch']}/{epochs}  lr {row['lr']:.4g}  loss {row['loss']:.4f}  ce {row['cross_entropy']:.4f}"
        f"  kd {row['distillation']:.4f}  train {row['train_accuracy']:.2f} %{test}  {row['images_per_second']:.0f} images/s"
        f"  {(epochs - row['epoch']) * row['seconds']:.0f} s left"
    )


def write(output: Path, trainer: Trainer, history: list[dict], header: dict) -> None:
    """What a training leaves. The checkpoint comes last: where it is, the others are."""
    images, test = trainer.task.images, trainer.task.test
    write_arrays(
        output / "features.npz",
        index=images.index.cpu().numpy(),
        label=images.label.cpu().numpy(),
        features=trainer.features(images).cpu().numpy(),
        test_index=test.index.cpu().numpy(),
        test_label=test.label.cpu().numpy(),
        test_features=trainer.features(test).cpu().numpy(),
        **({"held_out": trainer.task.held_out} if trainer.settings.held_out else {}),
    )
    with writing(output / "history.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    write_checkpoint(output / "trained.safetensors", trainer.model.tensors(), header)


def main() -> None:
    args, settings = parse()
    if "RANK" in os.environ:
        die_with_torchrun()
    trainer = prepare(args, settings)
    task, first = trainer.task, trainer.processes.rank == 0
    engine = trainer.engine()
    header = describe(args, task, settings, engine)
    if is_finished(args.output / "trained.safetensors", header):
        if first:
            print("this training has been done: nothing to do", flush=True)
        trainer.processes.close()
        return
    saved = resume.Saved(args.output / ".resume", header)
    history = saved.load(trainer.model, trainer.optimizer)
    if first:
        print(
            f"task {len(task.sizes) - 1}: {len(task.train)} images, {task.n_seen} classes ({task.n_old} old)\n"
            + ", ".join(f"{k} {v}" for k, v in engine.items())
            + "".join(f"\n{line(row, settings.epochs)}" for row in history)
            + (f"\ngoing on after epoch {len(history)}" if history else ""),
            flush=True,
        )
    for epoch in range(len(history), settings.epochs):
        if settings.redraw_classifier and epoch == settings.warmup:
            torch.manual_seed(key(args.seed, len(task.sizes), REDRAW).item())
            trainer.model.classifier.redraw()
        row = trainer.epoch(epoch)
        test_now = first and args.test_every and (epoch + 1) % args.test_every == 0
        history.append(row | {"test_accuracy": trainer.accuracy(task.test) if test_now else None})
        if first:
            print(line(history[-1], settings.epochs), flush=True)
            if epoch + 1 < settings.epochs:
                saved.save_if_due(trainer.model, trainer.optimizer, history)
    if first:
        write(args.output, trainer, history, header)
        shutil.rmtree(saved.folder, ignore_errors=True)
    trainer.processes.close()


if __name__ == "__main__":
    program(main)
