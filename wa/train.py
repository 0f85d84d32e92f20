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

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from wa import recipe as recipes
from wa import resume
from wa.augment import Augment, normalize
from wa.checkpoint import write_checkpoint
from wa.files import UserError, program, read_arrays, read_json, sha256, write_arrays, writing
from wa.herding import exemplars
from wa.loss import cross_entropy, distillation, distillation_weight
from wa.model import CilModel, load_model
from wa.randomness import key, shuffled
from wa.recipe import Recipe, learning_rate
from wa.scenario import memory_per_class

SHUFFLE, AUGMENT, INITIALIZE = range(3)  # streams of random numbers
NEVER = 2**62


class Processes:
    """The processes that train together. RANK in the environment, set by torchrun, makes them many."""

    def __init__(self, device: str):
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if device == "cuda":
            if not torch.cuda.is_available():
                raise UserError("device cuda is asked for, but torch finds no GPU: use device auto or cpu")
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        self.device = torch.device(device)
        if "RANK" in os.environ:
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    def sum(self, tensor: Tensor) -> None:
        if self.size > 1:
            dist.all_reduce(tensor)

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Each process's loss is its images' share of the global mean, so the gradients add up."""
        if self.size > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters])
            dist.all_reduce(flat)
            for p, total in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                p.grad.copy_(total.view_as(p))

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


class Images:
    """Some images of a packed data set, on the device: uint8 in channels-last memory, and their labels as class positions."""

    def __init__(self, folder: Path, split: str, index: np.ndarray, label: np.ndarray, device: torch.device):
        packed = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        self.index = torch.from_numpy(index).to(device)
        self.pixels = torch.from_numpy(packed[index]).to(device)
        self.label = torch.from_numpy(label).to(device)

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor) -> Tensor:
        """uint8 (B, C, H, W), channels last."""
        return self.pixels.index_select(0, rows).permute(0, 3, 1, 2)


class Task:
    """The images that a task trains and is tested on."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        self.facts = read_json(args.data / "dataset.json")
        self.order = read_json(args.order)
        self.sizes = args.tasks
        if min(self.sizes) < 1 or sum(self.sizes) > len(self.order["order"]):
            raise UserError(f"--tasks {self.sizes}: these are not tasks of {len(self.order['order'])} classes")
        self.n_seen = sum(self.sizes)
        self.n_old = self.n_seen - self.sizes[-1]

        position = np.argsort(self.order["order"])  # class -> position
        label = {s: position[np.load(args.data / f"{s}_labels.npy", allow_pickle=False)] for s in ("train", "test")}
        wanted = (label["train"] >= self.n_old) & (label["train"] < self.n_seen)
        if args.memory == "all":
            wanted = label["train"] < self.n_seen
        elif self.n_old and args.memory != "0":
            if not args.herding:
                raise UserError("--memory needs --herding, the ranking of the images of the earlier tasks")
            herding = read_arrays(args.herding)
            if len(herding["counts"]) != self.n_old:
                raise UserError(f"{args.herding} ranks {len(herding['counts'])} classes, but there are {self.n_old} old ones")
            wanted[exemplars(herding, memory_per_class(int(args.memory), self.n_old))] = True
        train, test = np.flatnonzero(wanted), np.flatnonzero(label["test"] < self.n_seen)
        self.train = Images(args.data, "train", train, label["train"][train], device)
        self.test = Images(args.data, "test", test, label["test"][test], device)


class Trainer:
    """The state of a training and its step."""

    def __init__(self, model: CilModel, teacher: CilModel | None, task: Task, recipe: Recipe, processes: Processes, seed: int):
        self.model, self.teacher, self.task, self.recipe, self.processes = model, teacher, task, recipe, processes
        self.seed, self.device = seed, processes.device
        try:
            self.augment = Augment(recipe.augmentation)
            zero = torch.zeros(1, dtype=torch.int64, device=self.device)
            self.augment(task.train.batch(zero), zero[0], zero)  # refuses what it cannot do to such images
        except ValueError as error:
            raise UserError(f"augmentation: {error}") from None
        self.mean = torch.tensor(task.facts["mean"], device=self.device)
        self.std = torch.tensor(task.facts["std"], device=self.device)
        self.kd_weight = distillation_weight(recipe.distillation, task.n_old, task.n_seen) if teacher else 0.0
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")

    def losses(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss, its two parts and whether the prediction is right, for each image (B,)."""
        with self.autocast:
            logits = self.model(x).float()
            ce = cross_entropy(logits, label, self.recipe.label_smoothing)
            kd = torch.zeros_like(ce)
            if self.kd_weight:
                with torch.no_grad():
                    teacher = self.teacher(x).float()
                kd = distillation(logits[:, : self.task.n_old], teacher, self.recipe.temperature)
                if self.recipe.temperature_squared:
                    kd = kd * self.recipe.temperature**2
        ce_weight = 1 - self.kd_weight if self.recipe.mix == "convex" else 1.0
        return ce_weight * ce + self.kd_weight * kd, ce, kd, logits.argmax(dim=1) == label

    def step(self, rows: Tensor, draw: Tensor, batch: int, totals: Tensor) -> None:
        """A step on this process's share, `rows`, of a global batch; adds sums over images to `totals`. Synchronises nothing."""
        images = self.task.train
        index = images.index[rows]
        x = self.augment(images.batch(rows), draw, index).contiguous(memory_format=torch.channels_last)
        x = self.augment.erase(normalize(x, self.mean, self.std), draw, index)
        parts = self.losses(x, images.label[rows])
        self.optimizer.zero_grad(set_to_none=True)
        (parts[0].sum() / batch).backward()
        self.processes.sum_gradients(self.parameters)
        self.optimizer.step()
        totals += torch.stack([part.detach().sum() for part in parts])

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch; returns the row of the history."""
        started, n, size = time.perf_counter(), len(self.task.train), self.recipe.batch_size
        rate = learning_rate(self.recipe, epoch)
        self.optimizer.param_groups[0]["lr"] = rate
        order = shuffled(key(self.seed, len(self.task.sizes), epoch, SHUFFLE), n).to(self.device)
        draw = key(self.seed, len(self.task.sizes), epoch, AUGMENT).to(self.device)
        totals = torch.zeros(4, device=self.device)
        bad = torch.full((), NEVER, device=self.device)  # the first step whose loss is not finite, found without looking
        self.model.train()
        for i, batch in enumerate(order.split(size)):
            rows = batch.tensor_split(self.processes.size)[self.processes.rank]
            self.step(rows, draw, len(batch), totals)
            bad = torch.where(totals[0].isfinite(), bad, bad.clamp(max=i))
        self.processes.sum(totals)
        bad = bad.neg()
        if self.processes.size > 1:
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        first_bad = -bad.item()
        if first_bad < NEVER:
            raise UserError(
                f"the loss is not finite at epoch {epoch + 1}, step {first_bad + 1}, learning rate {rate:g}: lower lr"
            )
        loss, ce, kd, right = (totals / n).tolist()
        seconds = time.perf_counter() - started
        row = {"epoch": epoch + 1, "lr": rate, "loss": loss, "cross_entropy": ce, "distillation": kd}
        return row | {"train_accuracy": 100 * right, "images_per_second": n / seconds, "seconds": seconds}

    @torch.no_grad()
    def features(self, images: Images) -> np.ndarray:
        """The backbone's features of images as they are, in float32: (n, d)."""
        self.model.eval()
        parts = [
            self.model.backbone(normalize(images.batch(rows), self.mean, self.std).contiguous(memory_format=torch.channels_last))
            for rows in torch.arange(len(images), device=self.device).split(1000)
        ]
        return torch.cat(parts).cpu().numpy()


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
    parser.add_argument("--memory", default="0", help="exemplars of the old classes in total, or `all` (default: 0)")
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
            index=task.train.index.cpu().numpy(),
            label=task.train.label.cpu().numpy(),
            features=trainer.features(task.train),
            test_index=task.test.index.cpu().numpy(),
            test_label=task.test.label.cpu().numpy(),
            test_features=trainer.features(task.test),
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
