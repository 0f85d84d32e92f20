"""The class orders of a study: which class stands at which position, and its name."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from wa.data.packed import IMAGES
from wa.files import read_json
from wa.study.layout import ORDER, RunTable


class ClassOrder(NamedTuple):
    """The classes in the order in which they are learned."""

    classes: np.ndarray  # integers (classes,), the place of each in the data set
    names: list[str]


def read_class_order(study: RunTable, order: str) -> ClassOrder:
    """A class order of a study.

    Raises UserError if order.json is damaged, FileNotFoundError if it does not exist.
    """
    if study.named:
        names = [name for names in study.named for name in names]
        return ClassOrder(np.arange(study.n_classes), names)
    file = Path(study.root, f"order-{order}", ORDER)
    found = read_json(file, {"names": IMAGES["classes"]})
    return ClassOrder(np.array(found["order"]), found["names"])


def names_to_show(orders: list[ClassOrder]) -> list[str]:
    """The class names in the order in which a figure shows them.

    With one class order, that is the order of learning. With several, it is that of the data set.
    """
    classes, names = orders[0]
    return names if len(orders) == 1 else [names[position] for position in np.argsort(classes)]
