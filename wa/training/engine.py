"""The training engine: the processes that train together, a step, an epoch.

The step is written once, as `Trainer.step`. It only touches tensors that stay where they are, and
no value comes back to Python within an epoch. So a single GPU can record it as a CUDA graph, one
for each size of batch, and replay that. A small network needs this: its few hundred kernels take
longer to launch one by one than to run. The eager step is the reference. Images are augmented
before, many batches at once (`Trainer.augmented`).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from wa.data.augment import Augment, center, normalize
from wa.data.augmentations import check_images
from wa.data.batches import Images, split
from wa.data.task import Task
from wa.errors import UserError
from wa.methods.learner import Learner, Losses
from wa.models.backbones import synchronize_batch_norm
from wa.models.model import CilModel
from wa.randomness import AUGMENT, BEGIN, LAYERS, SHUFFLE, key, shuffled
from wa.study.settings import Settings
from wa.training import precision
from wa.training.failures import first_line
from wa.training.gpus import gpus, problem
from wa.training.schedule import learning_rate

NEVER = 2**62
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# Pixels of images that are augmented at once: 16,384 images of 32 x 32 on a GPU, 512 on a CPU.
# There RandAugment is 1.4 times as fast as with 128, and more gain nothing.
AUGMENTED = {"cpu": 2**19, "cuda": 2**24}
FEATURES = 2**22  # pixels of images that are embedded at once, such as 64 images of 256 x 256
WARM_UP = 3  # steps before one is recorded: libraries set themselves up in the first ones


def sgd(groups: list[dict], settings: Settings, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, settings.lr, settings.momentum, 0, weight_decay, fused=True)


def adamw(groups: list[dict], settings: Settings, weight_decay: float) -> torch.optim.Optimizer:
    betas = settings.momentum, 0.999
    on_gpu = groups[0]["params"][0].is_cuda  # so that a step can be recorded
    return torch.optim.AdamW(
        groups, settings.lr, betas, weight_decay=weight_decay, fused=True, capturable=on_gpu
    )


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


class Processes:
    """The processes that train together: those of torchrun, or this one alone.

    device: auto, cpu or cuda. `auto` is cuda if the machine has a GPU. Raises UserError if torch
    cannot use that GPU.
    """

    def __init__(self, device: str):
        if device == "auto":
            device = "cuda" if gpus() or torch.cuda.is_available() else "cpu"
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if device == "cuda":
            number = int(os.environ.get("LOCAL_RANK", 0))
            reason = problem(number)
            if reason:
                names = ",".join(gpus()) or "that was asked for"
                raise UserError(
                    f"torch cannot use the GPU {names}: {reason}."
                    " `wa doctor` shows what is there. To train without it, set device: cpu"
                )
            torch.cuda.set_device(number)
            torch.cuda.set_stream(torch.cuda.Stream())  # the default stream cannot be recorded
        self.device = torch.device(device)
        if "RANK" in os.environ:
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    def precision(self, asked: str) -> str:
        """The precision for what the settings ask. The first process chooses for all."""
        choice = [precision.choose(asked, self.device) if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(choice, device=self.device)
        return choice[0]

    def sum(self, tensor: Tensor) -> None:
        if self.size > 1:
            dist.all_reduce(tensor)

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the statistics of batch norm that the first one has."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    dist.broadcast(buffer, 0)

    def share(self, parts: Sequence[Tensor]) -> None:
        """Give all parts to all processes. Process r has computed part r, r + size, and so on."""
        if self.size > 1:
            for number, part in enumerate(parts):
                dist.broadcast(part, number % self.size)

    def close(self) -> None:
        if dist.is_initialized():
            # All wait until the first has written. One that leaves early would stop threads that
            # the first still uses.
            dist.barrier()
            dist.destroy_process_group()


class SummedGradients:
    """The gradients of all parameters in one buffer, to add up those of all processes at once.

    The loss of a process is its images' share of the global mean, so the sum is the gradient of
    that mean. parameters: those of the model that have a gradient after the first step.
    """

    def __init__(self, parameters: list[nn.Parameter]):
        self.parameters = parameters
        sizes = [p.numel() for p in parameters]
        self.flat = torch.empty(sum(sizes), device=parameters[0].device)
        # The fused step of SGD needs the memory format of the parameter.
        self.places = [
            part.as_strided(p.shape, p.stride())
            for part, p in zip(self.flat.split(sizes), parameters, strict=True)
        ]

    def add_up(self) -> None:
        torch._foreach_copy_(self.places, [p.grad for p in self.parameters])
        dist.all_reduce(self.flat)
        for p, place in zip(self.parameters, self.places, strict=True):
            p.grad = place


class RecordedStep:
    """A step that is recorded as a CUDA graph, one for each size of batch, and replayed.

    The first WARM_UP steps of a size run without a graph. They set up libraries and memory, and
    count as steps of the training.
    """

    def __init__(self, step: Callable[..., None]):
        self.step, self.pool = step, None
        self.inputs: dict[int, list[Tensor]] = {}
        self.times: Counter[int] = Counter()
        self.replay: dict[int, Callable[[], None]] = {}

    def record(self, batch: int) -> Callable[[], None]:
        """Record what the step launches, without running it. Returns the function that runs it.

        Raises UserError if the step cannot be recorded.
        """
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # Other threads pin memory meanwhile: the one that gathers images, and DataLoader's.
        try:
            with torch.cuda.graph(graph, self.pool, stream, capture_error_mode="thread_local"):
                self.step(batch, *self.inputs[batch])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"the step cannot be recorded as a CUDA graph ({first_line(error)}). Some networks"
                " copy from the host in each step. Set `cuda_graphs: false` under `training`"
            ) from error
        self.pool = graph.pool()  # the graphs never run at the same time, so they share it
        return graph.replay

    def __call__(self, batch: int, *inputs: Tensor) -> None:
        if batch not in self.inputs:
            self.inputs[batch] = [torch.empty_like(tensor) for tensor in inputs]
        for place, tensor in zip(self.inputs[batch], inputs, strict=True):
            place.copy_(tensor)
        self.times[batch] += 1
        if self.times[batch] <= WARM_UP:
            self.step(batch, *self.inputs[batch])
            return
        if batch not in self.replay:
            self.replay[batch] = self.record(batch)
        self.replay[batch]()


class Trainer:
    """The state of a training and its step."""

    def __init__(
        self,
        model: CilModel,
        teacher: CilModel | None,
        task: Task,
        settings: Settings,
        processes: Processes,
        seed: int,
        learner: type[Learner] = Learner,
        options: dict | None = None,
        state: dict[str, Tensor] | None = None,
    ):
        self.task, self.settings, self.processes = task, settings, processes
        self.seed, self.device = seed, processes.device
        self.augment = Augment(settings.augmentation)
        check_images(settings.augmentation, *task.dataset["image_shape"])
        self.precision = processes.precision(settings.precision)
        # Not fp32_precision: torch.export cannot read these two once that is set.
        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"  # the default is True
        self.dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self.autocast = torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype is not torch.float32
        )
        self.memory_format = MEMORY_FORMATS[settings.memory_format]

        if settings.sync_batch_norm and processes.size > 1:
            if self.device.type != "cuda":
                raise UserError("sync_batch_norm needs GPUs, because torch has it for them only")
            model = synchronize_batch_norm(model)
        self.model = model.to(self.device, memory_format=self.memory_format)
        self.teacher = teacher
        if teacher:
            # A network of another library has no such method and stays as it is.
            if hasattr(teacher.backbone, "fold_batch_norm"):
                teacher.backbone.fold_batch_norm()
            self.teacher = teacher.to(self.device, self.dtype, memory_format=self.memory_format)
        self.mean = torch.tensor(task.dataset["mean"], device=self.device)
        self.std = torch.tensor(task.dataset["std"], device=self.device)
        state = {name: tensor.to(self.device) for name, tensor in (state or {}).items()}
        self.draw_from(0, BEGIN)
        self.learner = learner(self, options or {}, state)
        # What a step reads and writes, apart from images, weights and momentum. A recorded step
        # needs them in fixed places.
        # The key of the epoch's augmentation, for erasing.
        self.draw = torch.zeros((), dtype=torch.int64, device=self.device)
        # The number of steps done in this epoch.
        self.steps = torch.zeros((), dtype=torch.int64, device=self.device)
        # The first step whose loss is not finite.
        self.first_bad = torch.zeros((), dtype=torch.int64, device=self.device)
        # The sums over images of the loss, its two parts, and the right predictions.
        self.totals = torch.zeros(4, device=self.device)
        self.graphs = self.device.type == "cuda" and processes.size == 1 and settings.cuda_graphs
        # A second stage goes on counting epochs where the first ends.
        second = self.learner.second()
        self.first_epochs, self.epochs = settings.epochs, settings.epochs + second.get("epochs", 0)
        self.started = 0  # the epoch in which this stage began
        self.snapshot: dict[str, np.ndarray] = {}  # the model when the second stage began
        # Called after each step with the share of the epoch that is done. It changes no result.
        self.report: Callable[[float], None] = lambda share: None
        self.begin_stage()

    def begin_stage(self) -> None:
        """Make an optimizer, and the step that uses it."""
        settings = self.settings
        trained = [p for p in self.model.parameters() if p.requires_grad]
        backbone = {id(p) for p in self.model.backbone.parameters()}
        groups = [(trained, 1.0)]
        if settings.backbone_lr_factor != 1:
            inside = [p for p in trained if id(p) in backbone]
            outside = [p for p in trained if id(p) not in backbone]
            groups = [(inside, settings.backbone_lr_factor), (outside, 1.0)]
        groups = [(parameters, factor) for parameters, factor in groups if parameters]
        self.parameters = [p for parameters, _ in groups for p in parameters]
        self.gradients: SummedGradients | None = None  # of several processes, from the first step
        # The learning rate of each group: a factor, and where a recorded step reads the rate.
        self.rates = [
            (factor, torch.tensor(settings.lr * factor, device=self.device)) for _, factor in groups
        ]
        self.optimizer = OPTIMIZERS[settings.optimizer](
            [
                {"params": parameters, "lr": rate}
                for (parameters, _), (_, rate) in zip(groups, self.rates, strict=True)
            ],
            settings,
            settings.weight_decay / (len(self.task.sizes) if settings.divide_weight_decay else 1),
        )
        self.run = RecordedStep(self.step) if self.graphs else self.step

    def draw_from(self, *parts: int) -> None:
        """Seed torch's generators by the seed, the task and `parts`. Those of the GPUs, too."""
        torch.manual_seed(key(self.seed, len(self.task.sizes), *parts).item())

    def begin_second(self) -> None:
        """Begin the second stage of the method's learner, with its settings and its images."""
        self.snapshot = {name: array.copy() for name, array in self.model.tensors().items()}
        self.started = self.first_epochs
        self.draw_from(self.first_epochs, BEGIN)
        self.task.train = self.learner.begin_second()
        self.settings = replace(self.settings, **self.learner.second())
        self.begin_stage()

    def engine(self) -> dict:
        """What was chosen here, for the log and the checkpoint."""
        return {
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "processes": self.processes.size,
            "threads": torch.get_num_threads(),
            "precision": self.precision,
            "memory_format": self.settings.memory_format,
            "deterministic": self.settings.deterministic,
            "cuda_graphs": self.graphs,
            "torch": torch.__version__,
        }

    def inputs(self, rows: Tensor, pixels: Tensor) -> Tensor:
        """What the network takes for some rows: normalised images (b, C, H, W), erased if asked.

        rows: int64 (b,). pixels: their images, as `augmented` returns them.
        """
        if self.task.originals:
            return pixels.to(self.dtype, memory_format=self.memory_format)
        x = pixels.contiguous(memory_format=self.memory_format)
        x = normalize(x, self.mean, self.std, self.dtype)
        return self.augment.erase(x, self.draw, self.task.train.index[rows])

    def losses(self, x: Tensor, label: Tensor) -> Losses:
        """The losses of images, as the method's learner has them, each (B,).

        x: (B, C, H, W). label: int64 (B,).
        """
        with self.autocast:
            losses = self.learner.losses(x, label)
        for part, values in losses._asdict().items():
            if values.shape != label.shape:
                raise UserError(
                    f"algorithm {self.settings.algorithm}: `{part}` of its losses must have one"
                    f" value for each image, {list(label.shape)}, but has the shape"
                    f' {list(values.shape)}. Losses of torch need reduction="none"'
                )
        return losses

    def step(self, batch: int, rows: Tensor, pixels: Tensor) -> None:
        """A step on this process's share of a global batch of `batch` images.

        rows: int64 (b,), the share. pixels: its images, as `augmented` returns them.
        """
        parts = self.losses(self.inputs(rows, pixels), self.task.train.label[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss = parts.total.sum() / batch
        if self.learner.penalizes:
            loss = loss + self.learner.penalty() / self.processes.size
        loss.backward()
        if self.processes.size > 1:
            if self.gradients is None:
                used = [p for p in self.parameters if p.grad is not None]
                self.gradients = SummedGradients(used)
            self.gradients.add_up()
        self.optimizer.step()
        if self.settings.clip:
            self.model.classifier.clip()
        self.totals += torch.stack([part.detach().sum() for part in parts])
        self.first_bad.copy_(
            torch.where(
                self.totals[0].isfinite(), self.first_bad, self.first_bad.clamp(max=self.steps)
            )
        )
        self.steps += 1

    def shares(self, batches: list[Tensor]) -> list[Tensor]:
        """This process's share of each batch."""
        return [b.tensor_split(self.processes.size)[self.processes.rank] for b in batches]

    def augmented(self, shares: list[Tensor], draw: Tensor) -> Iterator[Tensor]:
        """The images of each share, on the device, augmented: uint8 (b, C, H, W).

        The images of several shares are augmented at once, ahead of their steps. On a GPU, most of
        the many kernels of RandAugment would be too small otherwise. With `input: timm`, images
        come as timm leaves them: float32, normalised.

        shares: the rows of each share. draw: the key of the epoch's augmentation. Both are on the
        CPU.
        """
        train, originals = self.task.train, self.task.originals
        index = train.index.cpu()
        if originals:
            yield from originals.batches(draw, [index[rows] for rows in shares], self.device)
            return
        height, width, _ = self.task.dataset["image_shape"]
        at_once = max(1, AUGMENTED[self.device.type] // (height * width * len(shares[0])))
        groups = [shares[i : i + at_once] for i in range(0, len(shares), at_once)]
        rows = [torch.cat(group) for group in groups]
        for group, some, pixels in zip(groups, rows, train.batches(rows), strict=True):
            images = self.augment(pixels, draw, index[some])
            yield from images.split([len(share) for share in group])

    def check_finite(self, epoch: int, rate: float) -> None:
        """Raise UserError if the loss of a step of this epoch, in any process, is not finite."""
        if self.processes.size > 1:
            dist.all_reduce(self.first_bad, dist.ReduceOp.MIN)
        first_bad = self.first_bad.item()
        if first_bad < NEVER:
            raise UserError(
                f"the loss is not finite at epoch {epoch + 1}, step {first_bad + 1},"
                f" learning rate {rate:g}. Use a lower lr."
            )

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch. Returns the row of the history.

        epoch: from 0. The second stage, if there is one, begins by itself. Raises UserError if the
        loss is not finite.
        """
        if epoch == self.first_epochs < self.epochs:
            self.begin_second()
        started, n = time.perf_counter(), len(self.task.train)
        rate = learning_rate(self.settings, epoch - self.started)
        order = shuffled(key(self.seed, len(self.task.sizes), epoch, SHUFFLE), n)
        draw = key(self.seed, len(self.task.sizes), epoch, AUGMENT)
        self.draw.copy_(draw)
        self.draw_from(epoch, LAYERS, self.processes.rank)  # for layers that draw, such as dropout
        for factor, place in self.rates:
            place.fill_(rate * factor)
        self.steps.fill_(0)
        self.first_bad.fill_(NEVER)
        self.totals.fill_(0)
        self.model.train()
        batches = split(order, self.settings.batch_size, self.processes.size)
        on_device = split(order.to(self.device), self.settings.batch_size, self.processes.size)
        images = self.augmented(self.shares(batches), draw)
        steps = zip(map(len, batches), self.shares(on_device), images, strict=True)
        bar = tqdm(
            steps,
            f"epoch {epoch + 1}/{self.epochs}",
            len(batches),
            leave=False,
            unit="step",
            disable=None,
        )
        for number, (size, rows, pixels) in enumerate(bar, 1):
            self.run(size, rows, pixels)
            self.report(number / len(batches))
        self.processes.sum(self.totals)
        self.check_finite(epoch, rate)
        loss, ce, kd, right = (self.totals / n).tolist()
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch + 1,
            "lr": rate,
            "loss": loss,
            "cross_entropy": ce,
            "distillation": kd,
            "train_accuracy": 100 * right,
            "images_per_second": n / seconds,
            "seconds": seconds,
        }

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """The backbone's features of images, prepared as in evaluation: float32 (n, d).

        All processes must call it. Each computes some batches. So none waits for another one longer
        than NCCL allows, which is ten minutes.
        """
        self.model.eval()
        rank, size = self.processes.rank, self.processes.size
        self.processes.share_buffers(self.model)
        height, width, _ = self.task.dataset["image_shape"]
        few = max(1, min(1000, FEATURES // (height * width)))
        features = torch.empty(len(images), self.model.backbone.features, device=self.device)
        parts = features.split(few)
        for part, (x, _) in zip(parts[rank::size], self.prepared(images, few), strict=True):
            part.copy_(self.model.backbone(x))
        self.processes.share(parts)
        return features

    def prepared(self, images: Images, few: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of images, as in evaluation, and their labels, `few` at once.

        They are float32 (b, C, H, W), normalised and not augmented, and int64 (b,). Of the parts
        of `few` images, process r has part r, r + size, and so on.
        """
        mine = torch.arange(len(images)).split(few)[self.processes.rank :: self.processes.size]
        for rows, x in zip(mine, images.batches(mine), strict=True):
            x = center(x, self.augment.size) if self.augment.size else x
            x = normalize(x, self.mean, self.std).contiguous(memory_format=self.memory_format)
            yield x, images.label[rows.to(self.device)]

    @torch.no_grad()
    def accuracy(self, images: Images) -> float:
        """The percentage of images that the model, as it is now, classifies rightly.

        All processes must call it.
        """
        predicted = self.model.classifier(self.features(images)).argmax(dim=1)
        return 100 * (predicted == images.label).double().mean().item()
