"""Train one task: the one training loop, for one process or many.

    python -m wa.train --data results/data/digits --order order.json --tasks 4 --output base-4 --backbone resnet8 --epochs 30
    torchrun --standalone --nproc-per-node 2 -m wa.train ...        (the same options)

--tasks 4 2 2 trains task 2 of 4 + 2 + 2 classes. From task 1 on, --model and --herding name the previous task's
model.safetensors and herding.npz. Writes to --output:

    trained.safetensors   the model as training leaves it
    features.npz          its features of the task's training images, the exemplars, and the test images of all classes seen
    history.csv           a row an epoch

and, while it runs, .resume/: started again after a kill, it goes on from there and ends with the same bits.
"""

import argparse
import csv
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products; read at CUDA's first use

import torch

from wa import recipe as recipes
from wa import resume
from wa.checkpoint import write_checkpoint
from wa.engine import Processes, Trainer
from wa.files import UserError, program, sha256, write_arrays, writing
from wa.inputs import Task
from wa.model import CilModel, load_model
from wa.randomness import INITIALIZE, REDRAW, key
from wa.recipe import Recipe


def build(args: argparse.Namespace, task: Task, recipe: Recipe) -> tuple[CilModel, CilModel | None]:
    """The model to train and, where the recipe distils, its frozen teacher; both on the CPU."""
    torch.manual_seed(key(args.seed, len(task.sizes), INITIALIZE).item())
    channels = task.facts["image_shape"][2]
    if task.n_old == 0 or recipe.start == "scratch":
        return CilModel(recipe.backbone, channels, task.sizes, recipe.bias), None
    if not args.model:
        raise UserError("a task above 0 needs --model, the previous task's model.safetensors")
    model, facts = load_model(args.model)
    have = (facts["backbone"], facts["in_channels"], facts["task_sizes"], facts["bias"])
    want = (recipe.backbone, channels, task.sizes[:-1], recipe.bias)
    if have != want:
        raise UserError(f"{args.model} does not fit: it is (backbone, channels, classes a task, bias) {have}, wanted is {want}")
    teacher = load_model(args.model)[0].requires_grad_(False).eval() if recipe.distillation != "0" else None
    model.classifier.grow(task.sizes[-1])
    model.backbone.requires_grad_(not recipe.freeze)
    return model, teacher


def facts(args: argparse.Namespace, task: Task, recipe: Recipe, processes: Processes) -> dict:
    """What the header of a checkpoint says."""
    return {
        "dataset": task.facts["dataset"],
        "classes": task.order["names"][: task.n_seen],
        "task_sizes": task.sizes,
        "backbone": recipe.backbone,
        "bias": recipe.bias,
        "in_channels": task.facts["image_shape"][2],
        "image_shape": task.facts["image_shape"],
        "mean": task.facts["mean"],
        "std": task.facts["std"],
        "recipe": recipes.as_dict(recipe),
        "memory": args.memory,
        "seed": args.seed,
        "parent_sha256": sha256(args.model) if args.model else None,
        "herding_sha256": sha256(args.herding) if args.herding else None,
        "data_sha256": {k: v for k, v in task.facts.items() if k.endswith("sha256")},
        "processes": processes.size,
        "device": torch.cuda.get_device_name() if processes.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }


def parse() -> tuple[argparse.Namespace, Recipe]:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=lambda prog: argparse.HelpFormatter(prog, width=120)
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed data set")
    parser.add_argument("--order", type=Path, required=True, help="order.json")
    parser.add_argument("--tasks", type=int, nargs="+", required=True, help="classes of each task, up to the one to train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", default="0", help="exemplars in total, a class (20/class), or `all` (default: 0)")
    parser.add_argument("--model", nargs="?", type=Path, help="the previous task's model.safetensors")
    parser.add_argument("--herding", nargs="?", type=Path, help="the previous task's herding.npz")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--save-seconds", type=float, default=60, help="save the state for a resume at most this often (default: 60)"
    )
    recipes.add_options(parser)
    args = parser.parse_args()
    return args, recipes.from_options(args)


def main() -> None:
    args, recipe = parse()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    processes = Processes(args.device)
    first = processes.rank == 0
    task = Task(args, processes.device)
    least = len(task.train) % recipe.batch_size or recipe.batch_size
    if len(task.train) < recipe.batch_size or least < processes.size:
        raise UserError(
            f"{len(task.train)} images in batches of {recipe.batch_size} for {processes.size} processes: too few for a batch;"
            " choose another batch_size"
        )
    model, teacher = build(args, task, recipe)
    for module in filter(None, (model, teacher)):
        module.to(processes.device, memory_format=torch.channels_last)
    trainer = Trainer(model, teacher, task, recipe, processes, args.seed)
    header = facts(args, task, recipe, processes)
    saved = resume.Saved(args.output / ".resume", header)
    history = saved.load(trainer.model, trainer.optimizer)
    if first:
        print(
            f"task {len(task.sizes) - 1}: {len(task.train)} images, {task.n_seen} classes ({task.n_old} old),"
            f" {processes.size} process(es) on {header['device']}, {recipe.precision}, {torch.get_num_threads()} thread(s)"
            + (f"; going on after epoch {len(history)}" if history else ""),
            flush=True,
        )
    last_save = time.monotonic()
    for epoch in range(len(history), recipe.epochs):
        if recipe.redraw_classifier and epoch == recipe.warmup:
            torch.manual_seed(key(args.seed, len(task.sizes), REDRAW).item())
            model.classifier.redraw()
        row = trainer.epoch(epoch)
        history.append(row)
        if first:
            left = (recipe.epochs - epoch - 1) * row["seconds"]
            print(
                f"epoch {epoch + 1}/{recipe.epochs}  lr {row['lr']:.4g}  loss {row['loss']:.4f}  ce {row['cross_entropy']:.4f}"
                f"  kd {row['distillation']:.4f}  train {row['train_accuracy']:.2f} %  {row['images_per_second']:.0f} images/s"
                f"  {left:.0f} s left",
                flush=True,
            )
            if time.monotonic() - last_save >= args.save_seconds and epoch + 1 < recipe.epochs:
                saved.save(trainer.model, trainer.optimizer, history)
                last_save = time.monotonic()
    if first:
        write_arrays(
            args.output / "features.npz",
            index=task.images.index.cpu().numpy(),
            label=task.images.label.cpu().numpy(),
            features=trainer.features(task.images),
            test_index=task.test.index.cpu().numpy(),
            test_label=task.test.label.cpu().numpy(),
            test_features=trainer.features(task.test),
            **({"held_out": task.held_out} if recipe.held_out else {}),
        )
        with writing(args.output / "history.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, history[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        write_checkpoint(args.output / "trained.safetensors", model.tensors(), header)
        shutil.rmtree(saved.folder, ignore_errors=True)
    processes.close()


if __name__ == "__main__":
    program(main)
