"""The keys of a config that are not settings of a training.

They are here in the order of docs/config.md: the study, the data, the methods, a sweep, how it
runs. The settings of a training are in wa/study/settings.py.
"""

from wa.study.keys import REQUIRED, Key
from wa.study.published import PUBLISHED
from wa.study.settings import METHOD_KEYS

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
LARGEST_SEED = 2**32 - 1  # of numpy

# Keys that were renamed: old -> new.
RENAMED = {"form": "distillation_loss", "classification": "classification_loss"}

FORMATS = ("png", "pdf", "tiff")  # of figures, beside svg

COUNT = {"type": "integer", "minimum": 1, "maximum": 1024}  # of processes, machines, trainings

# Settings of the network itself. Task 0 cannot have others than the tasks that go on from it.
NOT_IN_BASE = ("backbone", "bias", "pretrained")

STUDY = {
    "experiment": Key(
        REQUIRED,
        "The name of the study. Its results are in `results/<experiment>/`. Two configs need two "
        "names, or each takes the results of the other for its own. A config with other classes "
        "than those results is refused. The name `data` is reserved.",
        "cifar100-b50",
        schema={"type": "string", "pattern": NAME, "not": {"const": "data"}},
    ),
    "protocols": Key(
        [],
        "How a benchmark is cut into tasks. A list of `{base, increment}`: the number of classes "
        "of task 0, and of each later task. The last task may be smaller. Base 0 is the field's "
        "B0: all tasks have the same size. Tasks of unequal sizes are `{sizes: [4, 1, 2, 3]}`, "
        "which must add up to all classes. A study has either `protocols` or `tasks`.",
        "[{base: 50, increment: 10}, {base: 0, increment: 20}]",
        schema={
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "base": {"description": "Classes of task 0.", "type": "integer", "minimum": 0},
                    "increment": {
                        "description": "Classes of each later task.",
                        "type": "integer",
                        "minimum": 1,
                    },
                    "sizes": {
                        "description": "Classes of each task.",
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "integer", "minimum": 1},
                    },
                },
            },
        },
    ),
    "tasks": Key(
        [],
        "The tasks by the names of their classes, in place of `protocols` and `orders`. It is for "
        "a folder of images that grows: add a line when new classes come, and run again. Only the "
        "new task is packed and learned. Earlier lines stay as they are. See docs/growing.md.",
        "[[cat, dog, horse], [duck, goose]]",
        schema={
            "type": "array",
            "items": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string"},
            },
        },
    ),
    "orders": Key(
        [1993],
        "The class orders. A number is a seed: `numpy.random.seed(1993)`, then a permutation (1993 "
        "is the field's). `natural` is 0, 1, 2, ... Any other name is a key of `class_orders`.",
        "[1993, natural]",
        schema={"type": "array", "minItems": 1, "items": {"type": ["integer", "string"]}},
    ),
    "class_orders": Key(
        {},
        "Class orders of your own. Each has a name and a list that holds every class number once.",
        "{mine: [3, 0, 2, 1, 4, 5, 6, 7, 8, 9]}",
        schema={
            "type": "object",
            "propertyNames": {
                "description": "A name begins with a letter; letters, digits, _ and - follow.",
                "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,99}$",
            },
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        },
    ),
    "seeds": Key(
        [0],
        "The seeds of the weights, of the order of images, and of the augmentation.",
        "[0, 1, 2]",
        schema={
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED},
        },
    ),
    "recipe": Key(
        "none",
        "A published variant of WA (wa/study/published.py). Its settings are taken, and the keys "
        "of `training` and of the methods go over them, key by key. `paper`: Zhao et al. "
        "`authors`: their code. `pycil`: PyCIL. `tutorial`: the PyTorch tutorial. `der`: WA in the "
        "code of DER. `none`: the defaults.",
        "pycil",
        choices="wa.study.published.PUBLISHED",
    ),
}

DATA = {
    "dataset": Key(
        REQUIRED,
        "`digits`, `cifar10`, `cifar100`, `imagenet100` (the first hundred classes), "
        "`imagenet100-1993` (the hundred of PyCIL), `imagenet1000`, or any name of yours for "
        "the folder of images at `path`. The packed arrays are in `results/data/<dataset>/`, or "
        "in `results/data/<dataset>-<cache_size>/`. All studies with the same dataset and "
        "cache_size share them. So another folder of images needs another name. `digits` is always "
        "scikit-learn's. A folder named `cifar10` or `cifar100` must hold as many classes and "
        "images as CIFAR.",
        "cifar100",
        schema={"type": "string", "pattern": NAME},
    ),
    "path": Key(
        "data",
        "The folder of the raw data set. If it holds `train/CLASS/*` and `test/CLASS/*` (or "
        "`val/CLASS/*`), it is read as a folder of images. Once packed, it may move, and it may be "
        "deleted. A folder with other files is refused. Otherwise CIFAR is looked for in it, "
        "as `cifar-100-python/` or `cifar-10-batches-py/`, and downloaded into it when it is "
        "absent. For ImageNet it holds `train/WNID/*.JPEG` and `val/WNID/*.JPEG`.",
        "/data/pets",
        schema={"type": "string"},
        reruns=False,
    ),
    "cache_size": Key(
        None,
        "The side, in pixels, of the square that is kept of each image of a folder. The shorter "
        "side is resized to it, and the centre is cut out. Photographs of several sizes need it. "
        "By default images stay as they are, but those of ImageNet become 256.",
        "256",
        schema={"type": ["integer", "null"], "minimum": 8, "maximum": 4096},
    ),
    "classes": Key(
        [],
        "The classes to read from a folder of images, in this order, by the names of their "
        "folders. By default all, in the order of their names. For `imagenet100` the first "
        "hundred in the folder of ImageNet. A study with another list needs another name for its "
        "dataset.",
        "[cat, dog]",
        schema={"type": "array", "uniqueItems": True, "items": {"type": "string"}},
    ),
    "validation": Key(
        0,
        "The share of each class's training images that takes the place of the test images, at "
        "least one image of each class. The study trains on the others, and never opens the test "
        "images. Use it to choose settings. All methods, orders and seeds share one split. A study "
        "with `validation` needs a name of its own. 0: the test images.",
        "0.1",
        schema={"type": "number", "minimum": 0, "maximum": 0.5},
    ),
}

# What is done to the classifier after a training.
ALIGNING = {
    "alignment": Key(
        "none",
        "What is done to the classifier after training, a name in wa/methods/alignment.py. "
        "`none`: nothing. `weight`: weight aligning. `weight-clipped`: the same after negative "
        "weights are set to 0. `unit`: rows of length 1. `bias`: BiC's correction, which needs "
        "`held_out`.",
        "weight",
        choices="wa.methods.alignment.ALIGNMENTS",
    ),
    "gamma_norm": Key(
        2,
        "The norm of a row in gamma, the factor of the alignments `weight` and `weight-clipped`. "
        "1: the sum of its absolute values, as in the authors' code. 2: the Euclidean norm.",
        "1",
        schema={"enum": [1, 2]},
    ),
    "gamma_limit": Key(
        None,
        "The largest gamma. The authors' code limits it to 1. By default there is no limit.",
        "1",
        schema={"type": ["number", "null"], "exclusiveMinimum": 0},
    ),
}

METHOD = {
    "memory": Key(
        0,
        "The exemplars that are kept of old classes. A number such as `2000` is a total, shared "
        "equally by the classes seen so far. `20/class` is a number for each class. `0` keeps "
        "none, and `all` keeps every image.",
        "2000",
        schema={
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 1_000_000_000},
                {
                    "title": "`N/class` such as `20/class`, or `all`",
                    "type": "string",
                    "pattern": "^(all|[1-9][0-9]{0,8}/class)$",
                },
            ]
        },
    ),
    "selection": Key(
        "herding",
        "How exemplars are chosen. `herding`: iCaRL's algorithm 4. `random`: at random. "
        "`closest`: those closest to the mean of their class.",
        "random",
        choices="wa.methods.selection.RANKINGS",
    ),
    **METHOD_KEYS,
    **ALIGNING,
    "classifier": Key(
        "linear",
        "The method's own classifier, in figures and tables, in `wa predict` and in `wa export`. "
        "`linear`: the one that was trained, after aligning. `nme`: the nearest mean of exemplars, "
        "which needs a memory. Every classifier is evaluated anyway.",
        "nme",
        choices="wa.methods.nearest_mean.CLASSIFIERS",
    ),
    "recipe": Key(
        "study",
        "The recipe of this method, if it is another than the study's.",
        "tutorial",
        choices=("study", *PUBLISHED),
    ),
}

SWEEP = {
    "sweep": Key(
        {},
        "Values to choose from, on the validation images. For each method that it names, either a "
        "grid, with a list of values for each setting, or a list of choices. Each choice becomes a "
        "method of its own, such as `wa-distillation-0.5`. The figure and the table `sweep` "
        "compare them. `best.yaml` in the folder of the study is the config that runs the best "
        "ones on the test images. It needs `validation`.",
        "{wa: {distillation: [0.5, 1], training: {lr: [0.05, 0.1]}}}",
        schema={
            "type": "object",
            "additionalProperties": {
                "description": "A method, and lists of values for its settings, such as "
                "`wa: {distillation: [0.5, 1]}`.",
                "anyOf": [
                    {"type": "object", "minProperties": 1},
                    {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "object", "minProperties": 1},
                    },
                ],
            },
        },
    ),
}

RUN = {
    "device": Key(
        "auto",
        "Where to train. `auto` takes a GPU if there is one. `wa doctor` shows it.",
        "cpu",
        choices=("auto", "cpu", "cuda"),
        reruns=False,
    ),
    "processes": Key(
        1,
        "The processes that share a training, on each node. torchrun starts them.",
        "4",
        schema=COUNT,
        reruns=False,
    ),
    "nodes": Key(
        1,
        "The machines that share a training. More than one needs Slurm (`profiles/slurm`).",
        "2",
        schema=COUNT,
        reruns=False,
    ),
    "runs_per_gpu": Key(
        1,
        "The trainings that may share a GPU of this machine. A small network does not fill one."
        " `benchmarks/gpu_speed.py` finds the best number.",
        "4",
        schema=COUNT,
        reruns=False,
    ),
    "test_every": Key(
        0,
        "Every this many epochs, a training measures the accuracy on the test images. It is in the "
        "log, in `history.csv` and in the figure `curves`. 0: never. Nothing is chosen by it.",
        "10",
        schema={"type": "integer", "minimum": 0, "maximum": 1_000_000},
        reruns=False,
    ),
    "tensorboard": Key(
        False,
        "Whether each training writes the columns of `history.csv` as event files of TensorBoard "
        "too, epoch by epoch, into its folder `tensorboard/`. See them with `tensorboard --logdir "
        "results/<experiment>`. It needs the package tensorboard. Trainings that are finished have "
        "no such files.",
        "true",
        schema={"type": "boolean"},
        reruns=False,
    ),
    "wandb": Key(
        False,
        "As `tensorboard`, for Weights & Biases in its offline mode, into the folder `wandb/` of "
        "each training. Nothing is sent. `wandb sync FOLDER` uploads a run: its project is the "
        "study, and its group the run of the study. It needs the package wandb.",
        "true",
        schema={"type": "boolean"},
        reruns=False,
    ),
    "reference": Key(
        None,
        "The method that the table `differences` and the figure `paired` compare the others with. "
        "By default the first one. A change of it only draws again.",
        "wa",
        schema={"type": ["string", "null"]},
    ),
    "show": Key(
        [],
        "The methods that figures and tables show, in this order. By default all, in the order of "
        "`methods`. A change of it only draws again: metrics.csv lists every method anyway. Take a "
        "method out of `methods` only when its results shall leave metrics.csv too.",
        "[replay, wa]",
        schema={"type": "array", "uniqueItems": True, "items": {"type": "string"}},
    ),
    "draft": Key(
        False,
        "Whether to draw what exists of a study that is not finished, into "
        "`results/<experiment>/draft/`, and to run nothing else: `snakemake --cores 2 --config "
        "draft=True`.",
        "true",
        schema={"type": "boolean"},
        reruns=False,
    ),
}

LOOK = {
    "draw": Key(
        [],
        "The figures to draw, by the names of their files. By default all of them.",
        "[accuracy, comparison, paired]",
        choices="wa.analysis.figures.catalog.FIGURES",
    ),
    "labels": Key(
        {},
        "What figures and tables call a method, if not by its name.",
        "{wa: WA (ours), joint: upper bound}",
        schema={
            "type": "object",
            "additionalProperties": {
                "description": "A label. It does not begin with a space or with _.",
                "type": "string",
                "pattern": r"^[^_\s].{0,99}$",
            },
        },
    ),
    "colors": Key(
        {},
        "The colours of methods, as red, green and blue in hexadecimal. The other methods keep "
        "the colours of their places.",
        '{wa: "#d55e00"}',
        schema={
            "type": "object",
            "additionalProperties": {
                "description": 'A colour in quotes, such as "#d55e00".',
                "type": "string",
                "pattern": "^#[0-9a-fA-F]{6}$",
            },
        },
    ),
    "columns": Key(
        1,
        "The width of a figure: one column of a paper (3.3 inches), or both (6.9 inches). Figures "
        "of many panels always take both.",
        "2",
        schema={"type": "integer", "minimum": 1, "maximum": 2},
    ),
    "font_size": Key(
        7,
        "The size of all text in figures, in points. Figures become higher with it.",
        "8",
        schema={"type": "number", "minimum": 4, "maximum": 24},
    ),
    "formats": Key(
        ["png", "pdf"],
        "The formats of figures beside svg, which the report shows.",
        "[pdf]",
        choices=FORMATS,
    ),
    "first_task": Key(
        "both",
        "Whether tables count the first task. `both`: they show the average incremental accuracy "
        "with it and without it. `with` and `without`: only one of the two. `without` also leaves "
        "the first task out of the table of all tasks.",
        "without",
        choices=("both", "with", "without"),
    ),
}

# Sections, whose keys are above and in wa/study/settings.py.
LOOK_MEANING = (
    "How figures and tables look. A change draws them again, and trains nothing. `show` says which "
    "methods they have, and in which order."
)
METHODS_MEANING = (
    "The methods by name, and the choices of each. A choice left out does nothing. Some that would "
    "do nothing beside the others are refused, such as a `temperature` without `distillation`."
)
TRAINING_MEANING = "How to train: the settings of every training of the study."
BASE_MEANING = (
    "The settings that differ for task 0, and for trainings from scratch. Its keys are those of "
    f"`training` without {', '.join(NOT_IN_BASE[:-1])} and {NOT_IN_BASE[-1]}."
)
METHOD_TRAINING_MEANING = (
    "The settings of `training` that differ for this method. A method whose task 0 differs from "
    "the study's has a folder of its own for it, named after the difference."
)

# The keys that say where and how a study runs, not what it is. A change of them reruns nothing.
RERUNS_NOTHING = tuple(name for name, key in (STUDY | DATA | SWEEP | RUN).items() if not key.reruns)
