"""A memory: parsed once, one canonical text."""

import pytest

from wa.data.memory import Memory
from wa.errors import UserError


@pytest.mark.parametrize(
    "value, text, per_class, keeps, needs_ranking",
    [
        (2000, "2000", 200, True, True),
        ("2000", "2000", 200, True, True),
        ("20/class", "20/class", 20, True, True),
        ("all", "all", None, True, False),
        (0, "0", 0, False, False),
        ("0", "0", 0, False, False),
        (None, "0", 0, False, False),
        (9, "9", 0, True, True),
    ],
)
def test_what_a_memory_is(value, text, per_class, keeps, needs_ranking):
    memory = Memory.parse(value)
    assert str(memory) == text and Memory.parse(text) == memory
    assert memory.per_class(10) == per_class
    assert (memory.keeps, memory.needs_ranking) == (keeps, needs_ranking)
    assert memory.is_none == (not keeps)


@pytest.mark.parametrize("value", ["lots", "0/class", "-1", -1, True, 1.5, "20/classes", "", "٣"])
def test_what_is_not_a_memory(value):
    with pytest.raises(UserError, match="is not a memory: use a total such as 2000"):
        Memory.parse(value)
