"""A study: a validated config, and the table of its tasks.

A study is the product of class orders, seeds, protocols and methods. Each run is a chain of tasks; task 0 depends on
the order, the seed and the base only, so it is one task, shared. A task's path says all decisions that led to it:

    results/cifar100/order-1993/seed-0/base-50                       task 0
    results/cifar100/order-1993/seed-0/base-50/inc-10/wa/task-1      task 1 of a run
"""

import copy
import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from wa import recipe as recipes
from wa.datasets import survey
from wa.files import UserError, read_json
from wa.recipe import Recipe
from wa.scenario import class_order, task_sizes

SCHEMA = Path(__file__).parents[1] / "workflow" / "schemas" / "config.schema.yaml"


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
    where = ".".join(str(p) for p in error.absolute_path) or "the config"
    known = sorted(error.schema.get("properties", {}))
    if error.validator == "additionalProperties":
        unknown = sorted(error.instance.keys() - set(known))
        close = difflib.get_close_matches(str(unknown[0]), known, 1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
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
    config = json.loads(json.dumps(config))  # plain dicts and lists of our own
    schema = yaml.safe_load(SCHEMA.read_text())
    training = schema["properties"]["training"]
    training["properties"]["base"]["properties"] = {  # the keys of training once more, but without defaults
        k: {w: x for w, x in v.items() if w != "default"}
        for k, v in training["properties"].items()
        if k not in ("base", "backbone", "bias")
    }
    training["properties"]["base"]["additionalProperties"] = False
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda e: (len(e.absolute_path), str(e.path)))
    if errors:
        raise UserError("config: " + explain(errors[0]))
    set_defaults(config, schema)
    return config


@dataclass(frozen=True)
class Task:
    """One task of a run, or the shared task 0 (method None)."""

    path: str
    order: str
    seed: int
    method: str | None
    sizes: list[int]  # the classes of each task up to this one
    learned: str  # where the checkpoint lies: path, but for task 0 of a run
    previous: str | None  # where the checkpoint of the task before lies


class Study:
    def __init__(self, config: dict, results: str = "results"):
        self.config = config = validate(config)
        self.root = f"{results}/{config['experiment']}"
        self.data = f"{results}/data/{config['dataset']}"
        self.orders = {str(o): None for o in config["orders"]}
        if len(self.orders) < len(config["orders"]):
            raise UserError(f"config: orders: {config['orders']} names a class order twice")
        packed = Path(self.data, "dataset.json")
        if packed.exists():
            counts = read_json(packed)["train_counts"]
            self.n_classes, self.least = len(counts), min(counts)
        else:
            self.n_classes, self.least = survey(config["dataset"], config["path"])
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
        self.check_memory_and_batches()
        self.tasks = {task.path: task for run in self.runs() for task in run} | {t.path: t for t in self.base_tasks()}

    def check_memory_and_batches(self) -> None:
        for name, method in self.config["methods"].items():
            memory = method["memory"]
            if memory not in (0, "all") and memory < self.n_classes:
                raise UserError(
                    f"config: methods.{name}.memory: {memory} exemplars are fewer than the {self.n_classes} classes;"
                    f" use at least {self.n_classes}, or 0 for none"
                )
        for base, increment in self.protocols:
            for number, size in enumerate(task_sizes(self.n_classes, base, increment)[:]):
                batch = self.recipe(None if number == 0 else next(iter(self.config["methods"]))).batch_size
                if size * self.least < batch:
                    raise UserError(
                        f"config: training.batch_size: {batch} is more than the {size * self.least} images of task {number}"
                        f" (base {base}, increment {increment}); use a smaller batch"
                    )

    def recipe(self, method: str | None) -> Recipe:
        """The recipe of task 0 (None), or of a method's later tasks."""
        training = dict(self.config["training"])
        base = training.pop("base")
        choices = dict(self.config["methods"][method]) if method else {"start": "previous"}
        choices.pop("memory", None), choices.pop("alignment", None)
        if method is None or choices["start"] == "scratch":
            training |= base
        return recipes.from_config(training | choices)

    def base_path(self, order: str, seed: int, base: int) -> str:
        return f"{self.root}/order-{order}/seed-{seed}/base-{base}"

    def base_tasks(self) -> Iterator[Task]:
        bases = dict.fromkeys(base for base, _ in self.protocols)
        for order, seed, base in product(self.orders, self.config["seeds"], bases):
            path = self.base_path(order, seed, base)
            yield Task(path, order, seed, None, [base], path, None)

    def runs(self) -> Iterator[list[Task]]:
        """The tasks of each run, from task 0."""
        for order, seed, (base, inc), method in product(
            self.orders, self.config["seeds"], self.protocols, self.config["methods"]
        ):
            shared = self.base_path(order, seed, base)
            chain, previous = [], None
            sizes = task_sizes(self.n_classes, base, inc)
            for number in range(len(sizes)):
                path = f"{shared}/inc-{inc}/{method}/task-{number}"
                learned = path if number else shared
                chain.append(Task(path, order, seed, method, sizes[: number + 1], learned, previous))
                previous = learned
            yield chain

    def table(self, protocol: tuple[int, int] | None = None) -> str:
        """What finds every run (of one protocol), as a short string: the product's factors, not the product."""
        return json.dumps(
            {
                "root": self.root,
                "experiment": self.config["experiment"],
                "orders": list(self.orders),
                "seeds": self.config["seeds"],
                "protocols": [protocol] if protocol else self.protocols,
                "methods": list(self.config["methods"]),
                "n_classes": self.n_classes,
            }
        )
