"""The training engine: the processes that train together, a step, an epoch."""

import os
import time

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from wa.augment import Augment, normalize
from wa.files import UserError
from wa.inputs import Images, Task
from wa.loss import CLASSIFICATION, DISTILLATION, distillation_weight
from wa.model import CilModel
from wa.randomness import AUGMENT, SHUFFLE, key, shuffled
from wa.recipe import Recipe, learning_rate

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
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")

    def losses(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss, its two parts and whether the prediction is right, for each image (B,)."""
        with self.autocast:
            logits = self.model(x).float()
            n_old = self.task.n_old
            ce = CLASSIFICATION[self.recipe.classification](logits, label, n_old, self.recipe.label_smoothing)
            kd = torch.zeros_like(ce)
            if self.kd_weight:
                with torch.no_grad():
                    teacher = self.teacher(x).float()
                old_sizes = self.task.sizes[:-1]
                kd = DISTILLATION[self.recipe.form](logits[:, :n_old], teacher, self.recipe.temperature, old_sizes)
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
        if self.recipe.clip:
            self.model.classifier.clip()
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
