"""The recipe of a training: every setting that changes the result, with its default and what it means.

The same fields are the options of `python -m wa.training.train`, and keys of the config (workflow/schemas/config.schema.yaml
describes them there; tests/test_study.py keeps the two in step). The defaults are the PyTorch tutorial's for CIFAR-100.
"""

import argparse
import shlex
from dataclasses import MISSING, asdict, dataclass, field, fields


def setting(default: object, help: str, choices: tuple | None = None) -> object:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    backbone: str = setting(
        "resnet32",
        "resnet8 (for the digits), resnet20, resnet32, resnet44, resnet56, resnet110, resnet18, timm/NAME, torchvision/NAME",
    )
    pretrained: str = setting(
        "", "file of weights that the backbone begins with (.safetensors, or torch's)"
    )
    bias: bool = setting(True, "whether the classifier has biases")
    classifier_init: str = setting(
        "torch",
        "how new rows of the classifier are drawn; torch: as nn.Linear; kaiming: sqrt(3) longer, biases zero (PyCIL)",
        ("torch", "kaiming"),
    )
    epochs: int = setting(170, "passes over the images of the task and the memory")
    batch_size: int = setting(128, "images a step, over all processes together")
    lr: float = setting(0.1, "learning rate of SGD")
    momentum: float = setting(0.9, "momentum of SGD")
    weight_decay: float = setting(5e-4, "weight decay of all parameters")
    schedule: str = setting(
        "cosine", "how the learning rate falls, epoch by epoch", ("cosine", "step", "constant")
    )
    warmup: int = setting(
        0, "epochs at the start in which the learning rate rises to the schedule's, linearly"
    )
    milestones: tuple[int, ...] = setting(
        (), "epochs at which the schedule `step` multiplies the learning rate by lr_decay"
    )
    lr_decay: float = setting(0.1, "factor at a milestone")
    redraw_classifier: bool = setting(
        False, "whether the classifier is drawn anew after the warm-up"
    )
    clip: bool = setting(
        False,
        "whether the classifier's weights are kept >= 0, by clamping after each step (Zhao et al.)",
    )
    augmentation: tuple[str, ...] = setting(
        ("crop-4", "flip", "rand-m9-mstd0.5-inc1"), "what is done to images, in order"
    )
    input: str = setting(
        "packed",
        "what is trained on: the packed images, or the original files through timm's transforms",
        ("packed", "timm"),
    )
    label_smoothing: float = setting(0.0, "label smoothing of the cross-entropy")
    start: str = setting(
        "previous", "where a task starts: the previous model, or scratch", ("previous", "scratch")
    )
    freeze: bool = setting(False, "whether the backbone stays as task 0 left it")
    classification: str = setting(
        "softmax", "loss of classification, in wa.loss.CLASSIFICATION", ("softmax", "separated")
    )
    distillation: str = setting(
        "0", "lambda, the weight of the distillation: a number, or `dynamic` = n_old / n_seen"
    )
    form: str = setting(
        "softmax", "loss of distillation, in wa.loss.DISTILLATION", ("softmax", "taskwise")
    )
    temperature: float = setting(2.0, "temperature T of the distillation")
    temperature_squared: bool = setting(
        True, "whether the distillation is multiplied by T^2 (Hinton et al., 2015)"
    )
    mix: str = setting(
        "sum", "sum: CE + lambda KD; convex: (1 - lambda) CE + lambda KD", ("sum", "convex")
    )
    held_out: float = setting(
        0.0,
        "fraction of the exemplars, and as many new images, kept from the training to fit a bias",
    )
    precision: str = setting(
        "auto",
        "arithmetic of the convolutions; auto: bfloat16 where it is faster",
        ("auto", "float32", "tf32", "bfloat16"),
    )
    deterministic: bool = setting(
        True, "whether only algorithms are used that give the same bits each time"
    )
    cuda_graphs: bool = setting(
        True, "whether a GPU replays the step as a CUDA graph (one process only)"
    )
    sync_batch_norm: bool = setting(
        False, "whether batch-norm takes the statistics of all processes together (GPUs only)"
    )

    def flags(self) -> str:
        """The command-line options for the settings that differ from the defaults, in the order of the fields."""
        words = []
        for f in fields(self):
            value, name = getattr(self, f.name), f.name.replace("_", "-")
            if value == f.default:
                continue
            if isinstance(value, bool):
                words += [f"--{name}" if value else f"--no-{name}"]
            else:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
        return shlex.join(words)


def from_config(settings: dict) -> Settings:
    """A recipe from keys of a config: lists become tuples, numbers take the field's type."""
    types = {f.name: type(f.default) for f in fields(Settings)}
    return Settings(**{name: types[name](value) for name, value in settings.items()})


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting."""
    group = parser.add_argument_group("recipe")
    for f in fields(Settings):
        name, kind = "--" + f.name.replace("_", "-"), type(f.default)
        assert f.default is not MISSING
        text = f"{f.metadata['help']} (default: {f.default})".replace("%", "%%")
        if kind is bool:
            group.add_argument(
                name, action=argparse.BooleanOptionalAction, default=f.default, help=text
            )
        elif kind is tuple:
            element = int if f.name == "milestones" else str
            group.add_argument(
                name, nargs="*", type=element, default=f.default, metavar="X", help=text
            )
        else:
            choices = f.metadata["choices"]
            group.add_argument(
                name,
                type=kind,
                choices=choices,
                default=f.default,
                metavar=None if choices else "X",
                help=text,
            )


def from_options(args: argparse.Namespace) -> Settings:
    return from_config({f.name: getattr(args, f.name) for f in fields(Settings)})


def as_dict(settings: Settings) -> dict:
    return asdict(settings)
