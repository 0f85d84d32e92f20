"""The settings of one training: every value that changes its result.

Each setting is written once, here: name, type, default, range, meaning, and an example. From this
`python -m wa.study.reference` makes the schema of configs and docs/config.md. `add_options` makes
the options of `python -m wa.training.train`. The defaults are those of the PyTorch tutorial for
CIFAR-100.
"""

import argparse
import json
import math
import shlex
from dataclasses import asdict, dataclass, field, fields, replace

from wa.data import augmentations
from wa.errors import UserError
from wa.methods import algorithm
from wa.models import names
from wa.study.keys import TYPES, Key

DYNAMIC = "dynamic"


def setting(
    default: object,
    meaning: str,
    example: str,
    *,
    choices: tuple[str, ...] | str = (),
    schema: dict | None = None,
    section: str = "training",
    **limits: object,
) -> object:
    """A field of Settings with its Key. section: where a config has it, `training` or `methods`."""
    if schema is None and not choices:
        schema = {"type": TYPES[type(default)]} | limits
    key = Key(default, meaning, example, choices, schema or {})
    return field(default=default, metadata={"key": key, "section": section})


@dataclass(frozen=True)
class Settings:
    """Equal settings are equal objects: 1 becomes 1.0 where a number is meant, and -0.0 becomes 0.

    Raises UserError for a value of another type. `check` looks at what the values say together.
    """

    backbone: str = setting(
        "resnet32",
        "The network. `resnet8` (for the digits) to `resnet110` are the ResNets for CIFAR. "
        "`resnet18` has a first convolution of 3x3. "
        "`preact_resnet32` is that of WA's authors. `signed_resnet32` has no ReLU at its end, as "
        "LUCIR and PODNet want it. Any model of timm (`timm/resnet18`) or "
        "torchvision (`torchvision/resnet18`) works too, without its classifier. A vision "
        "transformer is made for the size of your images. Weights are drawn anew, and nothing is "
        "downloaded.",
        "timm/vit_tiny_patch16_224",
        choices="wa.models.backbones.BACKBONES",
        schema={"type": "string", "pattern": f"^{names.FOREIGN.pattern}$"},
    )
    pretrained: str = setting(
        "",
        "A file of weights that the backbone begins with: a `.safetensors` file, or a `.pth` file "
        "that holds only tensors. Nothing is downloaded.",
        "weights/resnet18.safetensors",
    )
    bias: bool = setting(True, "Whether the classifier has biases.", "false")
    classifier_init: str = setting(
        "torch",
        "How the rows of new classes are drawn. `torch`: as nn.Linear draws them. `kaiming`: "
        "longer by a factor sqrt(3), with biases of zero, as PyCIL draws them.",
        "kaiming",
        choices=("torch", "kaiming"),
    )
    epochs: int = setting(
        170,
        "How often a training passes over the images of its task and its memory. 0 trains nothing: "
        "for a pretrained backbone that stays as it is.",
        "100",
        minimum=0,
        maximum=1_000_000,
    )
    batch_size: int = setting(
        128,
        "Images in a step, over all processes together. A task with fewer images has one batch. "
        "If the last batch has fewer than 2 images for each process, it joins the one before: 40 "
        "images in batches of 13 become 13, 13 and 14.",
        "256",
        minimum=2,
    )
    lr: float = setting(
        0.1, "The learning rate at the start.", "0.05", exclusiveMinimum=0, maximum=100
    )
    optimizer: str = setting(
        "sgd",
        "What takes the steps. `sgd`: SGD with momentum. `adamw`: AdamW, usual for vision "
        "transformers, with a learning rate such as 0.0003.",
        "adamw",
        choices=("sgd", "adamw"),
    )
    backbone_lr_factor: float = setting(
        1.0,
        "The learning rate of the backbone is that of the classifier times this factor.",
        "0.1",
        exclusiveMinimum=0,
        maximum=100,
    )
    momentum: float = setting(
        0.9,
        "The momentum of SGD. For AdamW it is beta 1, and beta 2 is 0.999.",
        "0.95",
        minimum=0,
        exclusiveMaximum=1,
    )
    weight_decay: float = setting(
        5e-4, "The weight decay of the optimizer, for all parameters.", "0.0002", minimum=0
    )
    divide_weight_decay: bool = setting(
        False,
        "Whether the weight decay of a task is divided by its number, counted from 1.",
        "true",
    )
    schedule: str = setting(
        "cosine",
        "How the learning rate falls, epoch by epoch. `cosine`: along half a cosine, to 0. "
        "`step`: by the factor `lr_decay` at each of the `milestones`. `constant`: not at all.",
        "step",
        choices="wa.training.schedule.SCHEDULES",
    )
    warmup: int = setting(
        0,
        "The learning rate rises linearly to that of the schedule during this many first epochs.",
        "10",
        minimum=0,
        maximum=1_000_000,
    )
    milestones: tuple[int, ...] = setting(
        (),
        "The epochs at which the schedule `step` multiplies the learning rate by `lr_decay`. They "
        "must rise. A milestone beyond the last epoch is allowed and has no effect, so that a "
        "published recipe can be cut short.",
        "[60, 100, 140]",
        items={"type": "integer", "minimum": 1, "maximum": 1_000_000},
        maxItems=1000,
    )
    lr_decay: float = setting(
        0.1,
        "The factor of the learning rate at a milestone.",
        "0.2",
        exclusiveMinimum=0,
        maximum=1,
    )
    redraw_classifier: str = setting(
        "never",
        "When the whole classifier is drawn anew, old classes too. `start`: at the start of each "
        "later task. `after-warmup`: after the epochs of `warmup`, in each task.",
        "start",
        choices=("never", "start", "after-warmup"),
    )
    clip: bool = setting(
        False,
        "Whether the weights of the classifier are kept at 0 or above, by clamping after each step "
        "(Zhao et al.).",
        "true",
    )
    augmentation: tuple[str, ...] = setting(
        ("crop-4", "flip", "rand-m9-mstd0.5-inc1"),
        f"What is done to the images, in order. Known are {augmentations.KNOWN}. "
        "RandAugment and jitter need colour images. A resized crop must be the first, and erasing "
        "the last.",
        "[resized-crop-224, flip, erase-0.25]",
        items={"type": "string", "maxLength": 100},
        maxItems=20,
    )
    input: str = setting(
        "packed",
        "Which images are trained on. `packed`: the packed images, augmented on the device. "
        "`timm`: the original files of a folder of images. timm's create_transform decodes and "
        "augments them in as many DataLoader workers as a training has threads. That is several "
        "times slower, for results comparable with other code.",
        "timm",
        choices=("packed", "timm"),
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing of the cross-entropy.", "0.1", minimum=0, exclusiveMaximum=1
    )
    precision: str = setting(
        "auto",
        "The arithmetic of the convolutions. `auto`: bfloat16 if the GPU has it, or if the CPU has "
        "the instructions avx512_bf16 or amx_bf16. Otherwise float32. `tf32` is for GPUs only.",
        "float32",
        choices=("auto", "float32", "tf32", "bfloat16"),
    )
    deterministic: bool = setting(
        True,
        "Whether only algorithms are used that give the same bits each time.",
        "false",
    )
    cuda_graphs: bool = setting(
        True,
        "Whether a GPU replays each step as a CUDA graph, if a training has one process.",
        "false",
    )
    sync_batch_norm: bool = setting(
        False,
        "Whether batch-norm takes the statistics of all processes of a training together. GPUs "
        "only.",
        "true",
    )
    memory_format: str = setting(
        "channels_last",
        "How images lie in memory. `channels_last` is faster. `contiguous` is more exact on a CPU: "
        "there the batch-norm of torch for channels_last is off by 1e-5 in float32.",
        "contiguous",
        choices=("channels_last", "contiguous"),
    )
    algorithm: str = setting(
        "standard",
        "How the method trains and predicts: a file of wa/methods/algorithms, each with its paper. "
        "`standard`: by the losses that the other choices name. The path of a Python file is an "
        "algorithm of your own, whose code the jobs of this method run. See docs/methods.md.",
        "ewc",
        choices="wa.methods.algorithm.NAMES",
        schema={"type": "string", "pattern": r"^.*\w\.py$"},
        section="methods",
    )
    options: tuple[str, ...] = setting(
        (),
        "The options of the algorithm, by name. Its file has their defaults.",
        "{strength: 100}",
        schema={
            "type": "object",
            "additionalProperties": {"type": ["number", "string", "boolean"]},
        },
        section="methods",
    )
    start: str = setting(
        "previous",
        "What a task starts from. `previous`: the model of the task before. `trained`: the same "
        "before its classifier was aligned, while the aligned model remains the teacher. "
        "`scratch`: new weights, with the settings of task 0.",
        "scratch",
        choices=("previous", "trained", "scratch"),
        section="methods",
    )
    freeze: bool = setting(
        False,
        "Whether the backbone stays as task 0 left it, its batch-norm statistics included.",
        "true",
        section="methods",
    )
    classification_loss: str = setting(
        "softmax",
        "The loss of classification, a name in wa/methods/loss.py. `softmax`: the cross-entropy "
        "over all classes. `separated`: among the old classes for an image of an old class, and "
        "among the new ones for a new class (SS-IL). Without a memory it is the loss of LwF.",
        "separated",
        choices="wa.methods.loss.CLASSIFICATION",
        section="methods",
    )
    distillation: float | str = setting(
        0.0,
        "lambda, the weight of the distillation. `dynamic` is n_old / n_seen. `recipe` takes what "
        "the recipe says, with its `mix`, `temperature` and `temperature_squared`. 0 is no "
        "distillation.",
        "dynamic",
        schema={"anyOf": [{"type": "number", "minimum": 0}, {"enum": [DYNAMIC, "recipe"]}]},
        section="methods",
    )
    distillation_loss: str = setting(
        "softmax",
        "The loss of distillation, a name in wa/methods/loss.py. `softmax`: the divergence over "
        "all old classes. `taskwise`: the sum of the divergences over the classes of each old "
        "task (SS-IL).",
        "taskwise",
        choices="wa.methods.loss.DISTILLATION",
        section="methods",
    )
    temperature: float = setting(
        2.0,
        "The temperature T of the distillation.",
        "1",
        exclusiveMinimum=0,
        section="methods",
    )
    temperature_squared: bool = setting(
        True,
        "Whether the distillation is multiplied by T^2, the temperature squared (Hinton et al., "
        "2015).",
        "false",
        section="methods",
    )
    mix: str = setting(
        "sum",
        "How the two losses are added. `sum`: CE + lambda KD. `convex`: (1 - lambda) CE + lambda "
        "KD. KD is the Kullback-Leibler divergence over the old classes at the temperature.",
        "convex",
        choices=("sum", "convex"),
        section="methods",
    )
    held_out: float = setting(
        0.0,
        "The fraction of the exemplars, and as many images of each new class, that is not trained "
        "on. The alignment `bias` is fitted on them.",
        "0.1",
        minimum=0,
        maximum=0.5,
        section="methods",
    )

    def __post_init__(self):
        for f in fields(self):
            object.__setattr__(self, f.name, canonical_value(f.name, getattr(self, f.name)))

    def check(self) -> None:
        """Raise UserError if the values are not possible together, or name what does not exist.

        The error begins with the key. A schema or the command line has checked each value alone.
        """
        names.check(self.backbone)
        try:
            if self.input == "timm":
                augmentations.parse_for_timm(self.augmentation)
            else:
                augmentations.parse(self.augmentation)
        except UserError as error:
            raise UserError(f"augmentation: {error}") from None
        if self.schedule == "step" and not self.milestones:
            raise UserError(
                "schedule: step needs milestones, for instance milestones: [60, 100, 140]"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise UserError(f"milestones: {list(self.milestones)} do not rise. Put them in order")

    def of_task_0(self) -> "Settings":
        """The same settings for task 0, without those that say nothing there.

        So methods that differ in them only share task 0.
        """
        redraw = "never" if self.redraw_classifier == "start" else self.redraw_classifier
        return replace(self, redraw_classifier=redraw, divide_weight_decay=False)

    def canonical(self) -> str:
        """All values, defaults included, as JSON. Equal settings give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The settings that `canonical` wrote. Raises UserError unless each setting is there."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"settings: {text[:100]!r} is not JSON ({error})") from None
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.keys() != known:
            given = values.keys() if isinstance(values, dict) else set()
            raise UserError(
                f"settings: missing {sorted(known - given)}, unknown {sorted(given - known)}"
            )
        return cls(**values)

    def flags(self) -> str:
        """The command-line options for what differs from the defaults, in the fields' order."""
        words = []
        for f in fields(self):
            value, name = getattr(self, f.name), f.name.replace("_", "-")
            if value == f.default:
                continue
            if isinstance(value, bool):
                words += [f"--{name}" if value else f"--no-{name}"]
            elif isinstance(value, str):
                words += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
            else:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
        return shlex.join(words)


def number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return float(value) + 0.0  # -0.0 becomes 0.0


def exactly(kind: type) -> object:
    def convert(value: object) -> object:
        if type(value) is not kind:
            raise TypeError
        return value

    return convert


def weight(value: object) -> float | str:
    return DYNAMIC if value == DYNAMIC else number(value)


def tuple_of(kind: type) -> object:
    def convert(value: object) -> tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        return tuple(exactly(kind)(item) for item in value)

    return convert


# type of a field -> (what makes a value canonical, or raises TypeError; what a value is)
CANONICAL = {
    bool: (exactly(bool), "true or false"),
    int: (exactly(int), "an integer"),
    float: (number, "a number"),
    str: (exactly(str), "text"),
    float | str: (weight, f"a number or {DYNAMIC}"),
    tuple[int, ...]: (tuple_of(int), "a list of integers"),
    tuple[str, ...]: (tuple_of(str), "a list of names"),
}
TYPE_OF = {f.name: f.type for f in fields(Settings)}

# The keys of a config that are settings, by section.
TRAINING_KEYS = {
    f.name: f.metadata["key"] for f in fields(Settings) if f.metadata["section"] == "training"
}
METHOD_KEYS = {
    f.name: f.metadata["key"] for f in fields(Settings) if f.metadata["section"] == "methods"
}


def canonical_value(name: str, value: object) -> object:
    """The one form of a value of a setting. Raises UserError if it has another type."""
    convert, what = CANONICAL[TYPE_OF[name]]
    if isinstance(value, dict):  # options, as a config has them
        value = algorithm.to_words(value)
    try:
        return convert(value)
    except TypeError:
        raise UserError(f"{name}: {value!r} is not {what}") from None


def parse_weight(text: str) -> float | str:
    """The value of --distillation."""
    return text if text == DYNAMIC else float(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting."""
    group = parser.add_argument_group("settings")
    for f in fields(Settings):
        key = f.metadata["key"]
        option = "--" + f.name.replace("_", "-")
        default = " ".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
        text = f"{key.meaning} (default: {default})".replace("%", "%%")
        if f.type is bool:
            action = argparse.BooleanOptionalAction
            group.add_argument(option, action=action, default=f.default, help=text)
        elif isinstance(f.default, tuple):
            element = int if f.type == tuple[int, ...] else str
            group.add_argument(
                option, nargs="*", type=element, default=f.default, metavar="X", help=text
            )
        elif key.choices and not key.schema:
            group.add_argument(option, choices=key.names(), default=f.default, help=text)
        else:
            kind = parse_weight if f.name == "distillation" else f.type
            group.add_argument(option, type=kind, default=f.default, metavar="X", help=text)


def from_options(args: argparse.Namespace) -> Settings:
    """The settings of a command line, checked."""
    settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings)})
    settings.check()
    return settings
