"""A study: a validated config, and the table of its tasks.

A study is the product of class orders, seeds, protocols and methods. Each run is a chain of tasks; task 0 depends on
the order, the seed and the base only, so it is one task, shared. A task's path says all decisions that led to it:

    results/cifar100/order-1993/seed-0/base-50                       task 0
    results/cifar100/order-1993/seed-0/base-50/inc-10/wa/task-1      task 1 of a run

Methods that train task 0 in another way than the study does share a base named after what differs: base-50-der,
base-50-clip.
"""

import copy
import difflib
import itertools
import json
import re
import reprlib
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from wa import recipe as recipes
from wa.alignment import ALIGNMENTS
from wa.datasets import BUILT_IN, cache_size_of, packed_name, survey
from wa.files import UserError, read_text
from wa.recipe import Recipe
from wa.recipes import RECIPES
from wa.scenario import class_order, read_dataset, task_sizes

LARGEST = {"values": 200_000, "characters": 1_000, "depth": 10}  # of a config
LARGEST_PLAN = 10**7  # tasks, each times the length of its run: so large is a plan

SCHEMA = Path(__file__).parents[1] / "workflow" / "schemas" / "config.schema.yaml"

# JSON Schema takes 2.0 for an integer; neither the programs nor the names of folders do.
INTEGERS = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda checker, value: type(value) is int)
Validator = extend(Draft202012Validator, type_checker=INTEGERS)


def read_config(path: str | Path) -> object:
    """What a config file says; no tag in it makes anything but plain values."""
    try:
        return yaml.safe_load(read_text(path))
    except (OSError, UserError):
        raise
    except Exception as error:  # PyYAML raises a dozen kinds for values that are none
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())[:300]}") from None


def plain(value: object, depth: int = 0, count: Iterator[int] | None = None) -> object:
    """A copy of a config in plain dicts with keys that are text, and plain lists; a UserError if it cannot be one.

    An alias of YAML costs a few bytes and stands for any size, or for what it is itself a part of.
    """
    count = count or itertools.count()
    if depth > LARGEST["depth"] or next(count) > LARGEST["values"]:
        raise UserError(f"config: it has more than {LARGEST['values']} values, or more than {LARGEST['depth']} levels")
    if isinstance(value, dict):
        return {plain(k if isinstance(k, str) else str(k)): plain(v, depth + 1, count) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v, depth + 1, count) for v in value]
    if isinstance(value, str) and (len(value) > LARGEST["characters"] or not value.isprintable()):
        raise UserError(f"config: {reprlib.repr(value)} is longer than {LARGEST['characters']} characters, or cannot be printed")
    if isinstance(value, (int, float)) and not -(10**15) < value < 10**15:
        raise UserError(f"config: {reprlib.repr(value)} is no number that can be meant")
    if not isinstance(value, (str, int, float, type(None))):
        raise UserError(f"config: {reprlib.repr(value)} is a {type(value).__name__} to YAML; put it in quotes if it is a name")
    return value


def set_defaults(value: object, schema: dict) -> None:
    """Fill in the schema's defaults, in place."""
    if not isinstance(value, dict):
        return
    for key, sub in schema.get("properties", {}).items():
        if "default" in sub:
            value.setdefault(key, copy.deepcopy(sub["default"]))
        if key in value:
            set_defaults(value[key], sub)
    if isinstance(sub := schema.get("additionalProperties"), dict):
        for item in value.values():
            set_defaults(item, sub)


def explain(error) -> str:
    """One line for an error of jsonschema: the key, what is wrong, what would be right."""
    where = ".".join(str(p) for p in error.absolute_path) or "at the top"
    known = sorted(error.schema.get("properties", {}))
    if error.validator == "additionalProperties":
        unknown = sorted(error.instance.keys() - set(known))
        close = difflib.get_close_matches(str(unknown[0]), known, 1) or [k for k in known if k.startswith(str(unknown[0]))]
        guess = f"; did you mean {close[0]!r}?" if close else "."
        return f"{where}: unknown key {unknown[0]!r}{guess} Known: {', '.join(known)}"
    if error.validator == "required":
        return f"{where}: {error.message}"
    if error.validator == "type" and error.instance is None:
        return f"{where} is empty: {error.schema.get('description', 'give it a value')}"
    message = error.message
    if error.validator in ("anyOf", "enum", "pattern", "not", "propertyNames"):
        message = f"{error.instance!r} is not possible"
        if "enum" in error.schema:
            message += f"; possible: {', '.join(map(str, error.schema['enum']))}"
    elif isinstance(error.instance, str) and error.validator == "type" and "number" in error.schema["type"]:
        message += " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
    hint = error.schema.get("description", "")
    return f"{where}: {message}. {hint}".strip()


def validate(config: dict) -> dict:
    """The config with all defaults, or a UserError that names the key."""
    config = plain(config)
    schema = yaml.safe_load(SCHEMA.read_text())
    training, method = schema["properties"]["training"]["properties"], schema["properties"]["methods"]["additionalProperties"]
    method["properties"]["alignment"]["enum"] = list(ALIGNMENTS)
    for f in fields(Recipe):  # the names of losses stand in one place
        if f.name in ("classification", "form"):
            method["properties"][f.name]["enum"] = list(f.metadata["choices"])
    for section, without in (
        (training["base"], ("base", "backbone", "bias", "pretrained")),
        (method["properties"]["training"], ("base",)),
    ):
        section["additionalProperties"] = False  # the keys of training once more, but without defaults
        section["properties"] = {
            k: {w: x for w, x in v.items() if w != "default"} for k, v in training.items() if k not in without
        }
    method["properties"]["training"]["properties"]["base"] = training["base"]
    errors = sorted(Validator(schema).iter_errors(config), key=lambda e: (len(e.absolute_path), str(e.path)))
    if errors:
        raise UserError("config: " + explain(errors[0]))
    apply_recipes(config)
    set_defaults(config, schema)
    return config


def merged(sections: Iterable[dict]) -> dict:
    """Sections `training`, the later over the earlier. `base` becomes all settings of task 0; what a section says holds for
    task 0 too, unless its own `base` says otherwise."""
    later, base = {}, {}
    for section in sections:
        settings = {k: v for k, v in section.items() if k != "base"}
        later |= settings
        base |= settings | section.get("base", {})
    return later | {"base": base}


def apply_recipes(config: dict) -> None:
    """Put the settings of the recipes that a config names under the config's own, for the study and for each method."""
    study, own = config.get("recipe", "none"), config.get("training", {})
    for name, method in config["methods"].items():
        recipe = RECIPES[study if method.get("recipe", "study") == "study" else method["recipe"]]
        method["training"] = merged([recipe["training"], own, method.get("training", {})])
        if method.get("distillation") == "recipe":
            if "distillation" not in recipe["method"]:
                raise UserError(f"config: methods.{name}.distillation: `recipe` needs a recipe, for instance recipe: pycil")
            del method["distillation"]
            method |= recipe["method"] | method
    config["training"] = merged([RECIPES[study]["training"], own])


@dataclass(frozen=True)
class Task:
    """One task of a run, or the shared task 0 (method None)."""

    path: str
    order: str
    seed: int
    method: str | None
    recipe: Recipe
    sizes: list[int]  # the classes of each task up to this one
    learned: str  # where the checkpoint lies: path, but for task 0 of a run
    previous: str | None  # where the checkpoint of the task before lies


class Study:
    def __init__(self, config: dict, results: str = "results"):
        self.written, self.config = config, validate(config)
        config = self.config
        self.root = f"{results}/{config['experiment']}"
        self.data = f"{results}/data/{packed_name(config['dataset'], config['cache_size'])}"
        self.orders = {str(o): None for o in config["orders"]}
        if len(self.orders) < len(config["orders"]):
            raise UserError(f"config: orders: {reprlib.repr(config['orders'])} names a class order twice")
        if len(set(config["seeds"])) < len(config["seeds"]):
            raise UserError(f"config: seeds: {reprlib.repr(config['seeds'])} names a seed twice")
        if config["dataset"] in BUILT_IN and (config["cache_size"] or config["classes"]):
            raise UserError(
                f"config: dataset {config['dataset']!r}: cache_size and classes are for folders of images of your own"
            )
        packed = Path(self.data, "dataset.json")
        if packed.exists():
            facts = read_dataset(packed)
            if config["classes"] != (facts["classes"] if facts.get("chosen") else []):
                raise UserError(
                    f"config: classes: {self.data} was packed from another list of classes; name the dataset otherwise, or delete"
                    " that folder if no study needs it"
                )
            counts = facts["train_counts"]
            self.n_classes, self.least = len(counts), min(counts)
        else:
            self.n_classes, self.least = survey(config["dataset"], config["path"], config["classes"])
        for name in self.orders:  # explicit lists are handed on as such, and named after their key
            order = class_order(name, self.n_classes, config["class_orders"])
            self.orders[name] = ",".join(map(str, order)) if name in config["class_orders"] else name
        self.protocols = []
        for p in config["protocols"]:
            task_sizes(self.n_classes, p["base"], p["increment"])
            protocol = (p["base"] or p["increment"], p["increment"])
            if protocol in self.protocols:
                raise UserError(f"config: protocols: base {protocol[0]}, increment {protocol[1]} is there twice")
            self.protocols.append(protocol)
        runs = len(self.orders) * len(config["seeds"]) * len(config["methods"])
        if runs * sum(len(task_sizes(self.n_classes, *p)) ** 2 for p in self.protocols) > LARGEST_PLAN:
            raise UserError(
                f"config: {runs * len(self.protocols)} runs of up to {self.n_classes} tasks are too many to plan at once; make"
                " several studies of them"
            )
        self.check_methods()
        self.check_training()
        self.bases = {method: self.base_name(method) for method in config["methods"]}
        self.tasks = {task.path: task for run in self.runs() for task in run} | {t.path: t for t in self.base_tasks()}

    def check_methods(self) -> None:
        """Refuse choices that cannot be, alone or together."""

        def refuse(what: str) -> None:
            raise UserError(f"config: methods.{name}.{what}")

        for name, method in self.config["methods"].items():
            weight = method["distillation"]
            if method["mix"] == "convex" and weight != "dynamic" and weight >= 1:
                refuse(
                    f"mix: convex weights the cross-entropy by 1 - distillation = {1 - weight:g}, so no class would be learned;"
                    " use mix: sum, or a distillation below 1"
                )
            memory, least = method["memory"], 2 * self.n_classes if method["held_out"] else self.n_classes
            if isinstance(memory, int) and 0 < memory < least:
                refuse(
                    f"memory: {memory} exemplars are fewer than the {self.n_classes} classes; use at least {least}, or 0 for none"
                    if memory < self.n_classes
                    else f"memory: {memory} exemplars are too few to hold some of each class out; use at least {least}"
                )
            if memory == "1/class" and method["held_out"]:
                refuse("memory: 1/class leaves none to hold out; use at least 2/class")
            if method["classifier"] == "nme" and memory == 0:
                refuse("classifier: nme is the nearest mean of exemplars, so it needs a memory")
            if method["held_out"] and memory == 0:
                refuse("held_out is a fraction of the exemplars, so it needs a memory")
            if method["alignment"] == "bias" and not method["held_out"]:
                refuse("alignment: bias is fitted on held-out images, so it needs held_out, for instance 0.1")
            if method["alignment"] == "bias" and not self.recipe(name).bias:
                refuse("alignment: bias needs a classifier with biases (training.bias: true)")

    def check_training(self) -> None:
        bases, later = {self.recipe(None)}, {self.recipe(m) for m in self.config["methods"]}
        bases |= {self.recipe(m, base=True) for m in self.config["methods"]}
        for file in {recipe.pretrained for recipe in bases | later} - {""}:
            if not Path(file).is_file():
                raise UserError(f"config: training.pretrained: {file} is not there")
        cache = cache_size_of(self.config["dataset"], self.config["cache_size"])
        for name in {name for recipe in bases | later for name in recipe.augmentation}:
            if cache and (crop := re.fullmatch(r"resized-crop-(\d+)", name)) and int(crop[1]) > cache:
                raise UserError(f"config: training.augmentation: {name} is more than cache_size: {cache} keeps")
        for base, increment in self.protocols:
            for number, size in enumerate(task_sizes(self.n_classes, base, increment)):
                batch = max(recipe.batch_size for recipe in (later if number else bases))
                if size * self.least < batch:
                    raise UserError(
                        f"config: training.batch_size: {batch} is more than the {size * self.least} images of task {number}"
                        f" (base {base}, increment {increment}); use a smaller batch"
                    )

    def recipe(self, method: str | None, base: bool = False) -> Recipe:
        """The recipe of a method's tasks, or with `base` of the task 0 that it starts from; method None: the study's task 0."""
        choices = self.config["methods"][method] if method else {"training": self.config["training"]}
        training = dict(choices["training"])
        settings = training.pop("base")
        if method and not base:
            if choices["start"] == "previous":
                settings = training
            settings = settings | {f.name: choices[f.name] for f in fields(Recipe) if f.name in choices}
        return recipes.from_config(training | settings)

    def base_name(self, method: str) -> str:
        """Of the base that a method starts from: "" for the study's own, else what differs from it or, where that is less to
        say, from the base of a published recipe. Equal recipes have equal names."""
        wanted, names = asdict(self.recipe(method, base=True)), {"": asdict(self.recipe(None))}
        for name in RECIPES.keys() - {"none"}:
            base = merged([RECIPES[name]["training"], self.written.get("training", {})])["base"]
            names[f"-{name}"] = asdict(recipes.from_config(base))
        differing = {name: [k for k in wanted if wanted[k] != theirs[k]] for name, theirs in names.items()}
        name = min(differing, key=lambda name: (len(differing[name]), name))
        words = [name]
        for key in differing[name]:
            if isinstance(wanted[key], bool):
                words += [key if wanted[key] else f"no-{key}"]
            else:
                words += [key, *map(str, wanted[key] if isinstance(wanted[key], tuple) else [wanted[key]])]
        return "-".join(words).replace("/", "-")

    def base_path(self, order: str, seed: int, base: int, method: str) -> str:
        return f"{self.root}/order-{order}/seed-{seed}/base-{base}{self.bases[method]}"

    def base_tasks(self) -> Iterator[Task]:
        bases = dict.fromkeys(base for base, _ in self.protocols)
        methods = {name: method for method, name in self.bases.items()}  # one of each base
        for order, seed, base, method in product(self.orders, self.config["seeds"], bases, methods.values()):
            path = self.base_path(order, seed, base, method)
            yield Task(path, order, seed, None, self.recipe(method, base=True), [base], path, None)

    def runs(self) -> Iterator[list[Task]]:
        """The tasks of each run, from task 0."""
        later = {method: self.recipe(method) for method in self.config["methods"]}
        for order, seed, (base, inc), method in product(
            self.orders, self.config["seeds"], self.protocols, self.config["methods"]
        ):
            shared = self.base_path(order, seed, base, method)
            chain, previous = [], None
            sizes = task_sizes(self.n_classes, base, inc)
            for number in range(len(sizes)):
                path = f"{shared}/inc-{inc}/{method}/task-{number}"
                learned = path if number else shared
                chain.append(Task(path, order, seed, method, later[method], sizes[: number + 1], learned, previous))
                previous = learned
            yield chain

    def packing(self) -> str:
        """The options of wa.datasets that differ from the defaults."""
        size, classes = cache_size_of(self.config["dataset"], self.config["cache_size"]), self.config["classes"]
        return shlex.join(([f"--cache-size={size}"] if size else []) + (["--classes", *classes] if classes else []))

    def settings(self) -> str:
        """What the config says of how it trains, in its own words, as JSON."""
        keys = ("orders", "seeds", "recipe", "training", "methods")
        return json.dumps({key: self.written[key] for key in keys if key in self.written})

    def table(self, protocol: tuple[int, int] | None = None, within: str = "") -> str:
        """What finds every run (of one protocol) in a folder, as a short string: the product's factors, not the product."""
        methods = self.config["methods"]
        more = {
            "bases": {method: name for method, name in self.bases.items() if name},
            "classifiers": {name: m["classifier"] for name, m in methods.items() if m["classifier"] != "linear"},
        }
        return json.dumps(
            {
                "root": within + self.root,
                "experiment": self.config["experiment"],
                "orders": list(self.orders),
                "seeds": self.config["seeds"],
                "protocols": [protocol] if protocol else self.protocols,
                "methods": list(methods),
                "n_classes": self.n_classes,
            }
            | {key: value for key, value in more.items() if value}  # what differs from the defaults
        )
