"""Class orders as the field draws them, and tasks as continuum's ClassIncremental makes them."""

import numpy as np
import pytest

from wa.data.scenario import class_order, spelled, task_sizes
from wa.errors import UserError


def test_the_fields_order():
    np.random.seed(1993)
    assert class_order("1993", 100) == np.random.permutation(100).tolist()
    # As printed in the repositories of iCaRL and many others.
    assert class_order("1993", 100)[:5] == [68, 56, 78, 8, 23]
    assert class_order("natural", 4) == [0, 1, 2, 3]
    assert class_order("mine", 3, {"mine": [2, 0, 1]}) == [2, 0, 1]


@pytest.mark.parametrize(
    "sizes",
    [
        (10, 4, 2),
        (10, 2, 2),
        (10, 10, 1),
        (10, 5, 3),
        (100, 50, 10),
        (100, 0, 20),
        (100, 40, 7),
        (10, 4, "1-2-3"),
    ],
)
def test_tasks_are_those_of_continuum(sizes):
    from continuum.datasets import InMemoryDataset
    from continuum.scenarios import ClassIncremental

    n, base, increment = sizes
    ours = task_sizes(n, base, increment)
    assert sum(ours) == n and min(ours) > 0
    labels = np.repeat(np.arange(n), 3)
    order = class_order("1993", n)
    # continuum makes a smaller last task only from a list of increments.
    data = InMemoryDataset(np.zeros((3 * n, 1)), labels)
    scenario = ClassIncremental(data, increment=ours, class_order=order)
    assert len(scenario) == len(ours)
    position = np.argsort(order)
    stop = 0
    for task, size in enumerate(ours):
        start, stop = stop, stop + size
        _, theirs, _ = scenario[task].get_raw_samples()  # the labels are positions, as ours
        assert sorted(set(theirs)) == list(range(start, stop))
        assert position[order[start:stop]].tolist() == list(range(start, stop))


@pytest.mark.parametrize(
    "sizes, protocol",
    [
        ([4, 1, 2, 3], (4, "1-2-3")),
        ([4, 2, 2, 2], (4, 2)),  # one name for equal tasks, however they are written
        ([4, 3, 3], (4, 3)),
        ([5, 3, 2], (5, 3)),
        ([5, 2, 3], (5, "2-3")),
        ([10], (10, 10)),
    ],
)
def test_sizes_of_tasks_have_one_spelling(sizes, protocol):
    assert spelled(sizes, 10) == protocol
    assert task_sizes(10, *protocol) == sizes


def test_sizes_that_do_not_add_up():
    with pytest.raises(UserError, match="add up to 9, but there are 10 classes"):
        spelled([4, 5], 10)


@pytest.mark.parametrize("base, increment", [(11, 1), (8, 3), (4, 0), (-1, 2), (0, 11)])
def test_protocols_that_do_not_fit(base, increment):
    with pytest.raises(UserError, match="do not fit 10 classes"):
        task_sizes(10, base, increment)


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], [0, 1, 3], [0, 1, 2, 3]])
def test_an_order_that_is_no_permutation(order):
    with pytest.raises(
        UserError, match=r"class_orders.mine must hold each of the 3 classes 0 to 2"
    ):
        class_order("mine", 3, {"mine": order})


def test_an_order_of_an_unknown_name():
    with pytest.raises(UserError, match="'natural1' is neither a seed"):
        class_order("natural1", 3)
