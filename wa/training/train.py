"""Train one task: the training loop, for one process or many.

    python -m wa.training.train --data results/data/digits --order order.json --tasks 4 \
        --output base-4 --backbone resnet8 --epochs 30
    torchrun --standalone --nproc-per-node 2 -m wa.training.train ...        (the same options)

`--tasks 4 2 2` trains task 2 of 4 + 2 + 2 classes. From task 1 on, --model and --ranking name the
previous task's model.safetensors and herding.npz. Writes to --output:

    trained.safetensors   the model as training leaves it
    features.npz          its features: of the task's training images, of the exemplars, and of the
                          test images of all classes seen
    history.csv           one row for each epoch

While it runs, its state and the history so far are in .resume/. After a kill the same command goes
on from there, and ends with the same bits. On another GPU, or with another number of threads, its
last bits may differ. The log says so, and the checkpoint names both engines.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

# For deterministic matrix products. CUDA reads it at its first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# For huge pages in a CPU's large tensors. Filling new ones then takes a third of the time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
from torch import Tensor

from wa.checkpoint import STATE, read_checkpoint, state_of, write_checkpoint
from wa.data.augmentations import output_size
from wa.data.packed import check_same_data
from wa.data.scenario import LEAST
from wa.data.task import Task
from wa.errors import UserError, program
from wa.files import content_sha256, write_arrays
from wa.locks import die_with_parent
from wa.methods import algorithm
from wa.methods.learner import Learner
from wa.models.model import CilModel, build_model, growth
from wa.randomness import INITIALIZE, REDRAW, key
from wa.study import layout
from wa.study.settings import Settings
from wa.training import resume
from wa.training.cores import Cores
from wa.training.engine import Processes, Trainer
from wa.training.failures import in_words
from wa.training.history import write_history
from wa.training.live import Live
from wa.training.options import parse, wanted
from wa.training.progress import seconds_left
from wa.training.trackers import trackers


def input_size(task: Task, settings: Settings) -> list[int]:
    """Height and width of the images that the backbone takes."""
    size = output_size(settings.augmentation)
    return [size, size] if size else task.dataset["image_shape"][:2]


def learner_of(settings: Settings) -> type[Learner]:
    """The class that says how the method trains."""
    has_own = algorithm.facts(settings.algorithm).learner
    return algorithm.load(settings.algorithm, "Learner") if has_own else Learner


def build(
    args: argparse.Namespace, task: Task, settings: Settings, learner: type[Learner]
) -> tuple[CilModel, CilModel | None, dict[str, Tensor]]:
    """The model to train, its frozen teacher if the method needs one, and the algorithm's state.

    All are on the CPU. The state is what the algorithm handed on at the end of the task before.
    Raises UserError if the previous task's model does not fit this task.
    """
    initialize = key(args.seed, len(task.sizes), INITIALIZE).item()
    torch.manual_seed(initialize)
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
            learner.classifier,
        )
        return model, None, {}
    file = args.model
    if settings.start == "trained":
        file = args.unaligned
        if not file:
            raise UserError(
                "--start trained needs --unaligned, the previous task's trained.safetensors"
            )
    tensors, header = read_checkpoint(file)
    model = build_model(tensors, header, file, learner.classifier)
    check_same_data(file, header, task.dataset, args.data[-1])
    want = {
        "backbone": settings.backbone,
        "in_channels": channels,
        "task_sizes": task.sizes[:-1],
        "bias": settings.bias,
        "input_size": size,
        "classes": task.names[: task.n_old],
    }
    for name, value in want.items():
        if header.get(name) != value:
            raise UserError(
                f"{file} was trained with {name} {header.get(name)}, but this task needs {value}"
            )
    teacher = None
    if settings.distillation or learner.distils:
        teacher = build_model(*read_checkpoint(args.model), args.model, learner.classifier)
        teacher.requires_grad_(False).eval()
    torch.manual_seed(initialize)  # building the models has drawn, and the teacher's only if needed
    model.classifier.init = settings.classifier_init
    model.classifier.grow(task.sizes[-1])
    if settings.redraw_classifier == "start":
        model.classifier.redraw()
    model.backbone.requires_grad_(not settings.freeze)
    state = {name: torch.from_numpy(array) for name, array in state_of(tensors).items()}
    return model, teacher, state


def describe(task: Task, settings: Settings) -> dict:
    """The entries of the checkpoint's header that a user of the model needs."""
    return {
        "dataset": task.dataset["dataset"],
        "backbone": settings.backbone,
        "bias": settings.bias,
        "in_channels": task.dataset["image_shape"][2],
        "image_shape": task.dataset["image_shape"],
        "input_size": input_size(task, settings),
        "cache_size": task.dataset.get("cache_size"),
        "mean": task.dataset["mean"],
        "std": task.dataset["std"],
        **({"removed": task.removed} if task.removed else {}),
    }


def prepare(args: argparse.Namespace, settings: Settings) -> Trainer:
    """A trainer before its first epoch. Raises UserError if the task has too few images."""
    # Before the processes meet: NCCL decides then whether to add up in a fixed order.
    torch.use_deterministic_algorithms(settings.deterministic)
    # Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False
    processes = Processes(args.device)
    task = Task(args, processes.device)
    least = LEAST * processes.size
    for number, what in (
        (len(task.train), "images to train on"),
        (settings.batch_size, "images in a batch"),
    ):
        if number < least:
            raise UserError(
                f"{number} {what} are too few: each of {processes.size} processes needs {LEAST}."
                " Use more images, a larger batch_size, or fewer processes."
            )
    learner = learner_of(settings)
    model, teacher, state = build(args, task, settings, learner)
    options = algorithm.from_words(settings.options)
    return Trainer(model, teacher, task, settings, processes, args.seed, learner, options, state)


def die_with_torchrun() -> None:
    """End this worker when torchrun ends, even if torchrun is killed.

    Without this, the worker would wait for the others for ever.
    """
    die_with_parent()
    if os.environ.get("WA_LAUNCHER", str(os.getppid())) != str(os.getppid()):
        sys.exit("torchrun is gone")


def cannot_be_interrupted() -> None:
    """From here on, finish. Snakemake deletes the results of a job that a signal has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def line(row: dict, epochs: int) -> str:
    """The line of the log about an epoch. row: its row of the history."""
    test = "" if row["test_accuracy"] is None else f"  test {row['test_accuracy']:.2f} %"
    return (
        f"epoch {row['epoch']}/{epochs}  lr {row['lr']:.4g}  loss {row['loss']:.4f}"
        f"  ce {row['cross_entropy']:.4f}  kd {row['distillation']:.4f}"
        f"  train {row['train_accuracy']:.2f} %{test}  {row['images_per_second']:.0f} images/s"
        f"  {seconds_left(row, epochs):.0f} s left"
    )


def write(
    output: Path,
    trainer: Trainer,
    features: tuple[Tensor, Tensor],
    state: dict[str, Tensor],
    history: list[dict],
    header: dict,
) -> None:
    """Write the results of a training. The checkpoint comes last, so it marks a finished one.

    features: float32 (n, d), those of the task's images, and those of the test images. state: what
    the algorithm hands to the next task.
    """
    images, test = trainer.task.images, trainer.task.test
    tensors = trainer.model.tensors()
    tensors |= {f"{STATE}{name}": tensor.cpu().numpy() for name, tensor in state.items()}
    made_from = {"from_trained": content_sha256(tensors), "data_sha256": header["data_sha256"]}
    if trainer.task.removed:
        made_from["removed"] = trainer.task.removed
    write_arrays(
        output / layout.FEATURES,
        made_from,
        index=images.index.cpu().numpy(),
        label=images.label.cpu().numpy(),
        features=features[0].cpu().numpy(),
        test_index=test.index.cpu().numpy(),
        test_label=test.label.cpu().numpy(),
        test_features=features[1].cpu().numpy(),
        **({"held_out": trainer.task.held_out} if trainer.settings.held_out else {}),
    )
    write_history(output / layout.HISTORY, history)
    write_checkpoint(output / layout.TRAINED, tensors, header)


def differing(before: dict, now: dict) -> list[str]:
    """The entries in which two engines differ."""
    return [name for name in now if before.get(name) != now[name]]


def announce(trainer: Trainer, history: list[dict], engines: list[dict]) -> None:
    """Print the task, the engine, and the epochs of an earlier start."""
    task = trainer.task
    classes = f"{task.n_seen} classes ({task.n_old} old)"
    print(f"task {len(task.sizes) - 1}: {len(task.train)} images, {classes}")
    print(", ".join(f"{k} {v}" for k, v in engines[-1].items()))
    for row in history:
        print(line(row, trainer.epochs))
    if history:
        print(f"going on after epoch {len(history)}")
    if len(engines) > 1:
        names = (f"{name} {engines[-2].get(name)}" for name in differing(*engines[-2:]))
        print(f"an earlier part ran with {', '.join(names)}: the last bits may differ")
    sys.stdout.flush()


def last_features(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """The features of the task's images, and of the test images: float32 (n, d).

    Raises UserError if they are not finite: the last step may have spoiled the weights, and no loss
    has seen them since.
    """
    features = trainer.features(trainer.task.images), trainer.features(trainer.task.test)
    if not all(each.isfinite().all() for each in features):
        raise UserError("the features of the trained network are not finite. Use a lower lr.")
    return features


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Train, from the saved state if there is one, and write the results."""
    if "RANK" in os.environ:
        die_with_torchrun()
    header = wanted(args, settings)
    saved = resume.Saved(args.output / layout.RESUME, header)
    trainer = prepare(args, settings)
    task, first = trainer.task, trainer.processes.rank == 0
    engine = trainer.engine()
    history, engines = saved.load(trainer, engine)
    if first:
        announce(trainer, history, engines)
        more = trackers(args, settings)
        live = Live(saved.folder, history, trainer.epochs, len(task.train), more)
        trainer.report = live.within_epoch
    cores = Cores()
    for epoch in range(len(history), trainer.epochs):
        if settings.redraw_classifier == "after-warmup" and epoch == settings.warmup:
            torch.manual_seed(key(args.seed, len(task.sizes), REDRAW).item())
            trainer.model.classifier.redraw()
        row = trainer.epoch(epoch)
        test_now = args.test_every and (epoch + 1) % args.test_every == 0
        history.append(row | {"test_accuracy": trainer.accuracy(task.test) if test_now else None})
        if first:
            print(line(history[-1], trainer.epochs), flush=True)
            if warning := cores.warning():
                print(warning, flush=True)
            live.after_epoch(history[-1])
            if epoch + 1 < trainer.epochs:
                saved.save_if_due(trainer, history)
    trainer.model.auxiliary = torch.nn.Identity()
    # By all processes.
    state = trainer.learner.end()
    features = last_features(trainer)
    if first:
        header |= describe(task, settings) | growth(trainer.model) | {"engine": engine}
        if len(engines) > 1:
            header["earlier_engines"] = engines[:-1]
        cannot_be_interrupted()
        write(args.output, trainer, features, state, history, header)
        live.close()
    trainer.processes.close()


def main() -> None:
    args, settings = parse()
    with in_words(settings):
        run(args, settings)


if __name__ == "__main__":
    program(main)
