"""Which classes a task holds: class orders and protocols.

    python -m wa.data.scenario --order 1993 --dataset dataset.json --output order.json

The tasks are those of continuum's ClassIncremental: tests/data/test_scenario.py compares the two.
They are computed here, because continuum takes 7 s to import.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from wa.data.packed import are_names, are_numbers, read_dataset
from wa.errors import UserError, program
from wa.files import read_json, write_json

LEAST = 2  # images of a process in a batch: batch norm has no statistics of a single value


def read_order(path: str | Path, classes: list[str]) -> dict:
    """order.json of a data set with these classes. Raises UserError if it is of another one.

    Returns `order`, position -> class, and `names`, position -> name.
    """

    def is_order(value: object) -> bool:
        whole = are_numbers(value, -1) and all(type(c) is int for c in value)
        return whole and sorted(value) == list(range(len(classes)))

    rules = {
        "order": (is_order, "each class of the data set once"),
        "names": (are_names, "a list of names"),
    }
    order = read_json(path, rules)
    if order["names"] != [classes[c] for c in order["order"]]:
        raise UserError(
            f"{path} is of another data set: its classes have other names. Delete it, and run again"
        )
    return order


def class_order(name: str, n_classes: int, named: dict[str, list[int]] | None = None) -> list[int]:
    """The classes in the order in which they are learned: position -> class.

    `natural` is 0, 1, 2, ... A number n is the usual order: numpy.random.seed(n), then a
    permutation. 1993 is iCaRL's. Any other name is a key of `named`, which holds explicit lists.
    Raises UserError for an unknown name, and for a list that is not a permutation.
    """
    if named and name in named:
        order = list(named[name])
        if sorted(order) != list(range(n_classes)):
            missing = sorted(set(range(n_classes)) - set(order))
            wrong = sorted({c for c in order if order.count(c) > 1 or c not in range(n_classes)})
            said = f"Missing: {missing[:10]}" if missing else ""
            if wrong:
                said += f"{'. ' if said else ''}Repeated or out of range: {wrong[:10]}"
            raise UserError(
                f"class_orders.{name} must hold each of the {n_classes} classes 0 to"
                f" {n_classes - 1} once. {said}"
            )
        return order
    if name == "natural":
        return list(range(n_classes))
    if not re.fullmatch("[0-9]{1,10}", name) or int(name) >= 2**32:
        raise UserError(
            f"orders: {name!r} is neither a seed (0 to 2^32 - 1), nor `natural`, nor named in"
            " class_orders"
        )
    return np.random.RandomState(int(name)).permutation(n_classes).tolist()


def task_sizes(n_classes: int, base: int, increment: int | str) -> list[int]:
    """The number of classes of each task. The last task may be smaller.

        task_sizes(10, 4, 2)          # [4, 2, 2, 2]
        task_sizes(10, 0, 5)          # [5, 5]
        task_sizes(10, 4, "1-2-3")    # [4, 1, 2, 3]

    A base of 0 means that task 0 is like the others (the usual name is B0). Tasks of unequal sizes
    have their sizes as text, as spelled() writes it.
    Raises UserError if they do not fit the number of classes.
    """
    if isinstance(increment, str):
        return [base, *map(int, increment.split("-"))]
    base = base or increment
    if not 1 <= base <= n_classes or increment < 1 or (base < n_classes < base + increment):
        raise UserError(
            f"protocols: base {base} + increment {increment} do not fit {n_classes} classes. The"
            f" base must be 0 to {n_classes}. Unless it is {n_classes}, base + increment must be"
            f" at most {n_classes}"
        )
    full, rest = divmod(n_classes - base, increment)
    return [base] + [increment] * full + [rest] * (rest > 0)


def spelled(sizes: list[int], n_classes: int) -> tuple[int, int | str]:
    """The base and the increment of a protocol whose tasks have these sizes.

        spelled([4, 2, 2, 2], 10)    # (4, 2)
        spelled([4, 1, 2, 3], 10)    # (4, "1-2-3")

    Raises UserError if the sizes do not add up to the number of classes.
    """
    if sum(sizes) != n_classes:
        raise UserError(
            f"protocols: the sizes {sizes} add up to {sum(sizes)}, but there are {n_classes}"
            " classes. Each class must be in one task"
        )
    base, later = sizes[0], sizes[1:]
    if not later:
        return base, base
    if task_sizes(n_classes, base, later[0])[1:] == later:
        return base, later[0]
    return base, "-".join(map(str, later))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write a class order: the class at each position, and its name."
    )
    parser.add_argument(
        "--order", required=True, help="a seed of numpy, `natural`, or the classes with commas"
    )
    parser.add_argument("--dataset", required=True, help="dataset.json of the packed data set")
    parser.add_argument("--output", required=True, help="the file order.json to write")
    args = parser.parse_args()
    classes = read_dataset(args.dataset)["classes"]
    named = {args.order: [int(c) for c in args.order.split(",")]} if "," in args.order else None
    order = class_order(args.order, len(classes), named)
    write_json(args.output, {"order": order, "names": [classes[c] for c in order]})


if __name__ == "__main__":
    program(main)
