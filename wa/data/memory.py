"""A memory: which images of the old classes a method keeps.

    Memory.parse(2000)          2000 exemplars in total, shared equally by the classes seen so far
    Memory.parse("20/class")    20 exemplars of each class
    Memory.parse("all")         every image
    Memory.parse(0)             none

`str(memory)` is the canonical text. A command line and the header of a checkpoint hold that text.
"""

import re
from dataclasses import dataclass

from wa.errors import UserError

KNOWN = "use a total such as 2000, a number for each class such as 20/class, all, or 0 for none"


@dataclass(frozen=True)
class Memory:
    """At most one of the three is set. If none is set, there is no memory.

    total: exemplars in all. each: exemplars of each class. is_all: every image is kept.
    """

    total: int = 0
    each: int = 0
    is_all: bool = False

    @classmethod
    def parse(cls, value: int | str | None) -> "Memory":
        """A memory as a config or a command line gives it. Raises UserError."""
        if value is None:
            return cls()
        if value == "all":
            return cls(is_all=True)
        text = str(value)
        if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,10}", text):
            return cls(total=int(text))
        if match := re.fullmatch(r"([1-9][0-9]{0,8})/class", text):
            return cls(each=int(match[1]))
        raise UserError(f"memory: {value!r} is not a memory: {KNOWN}")

    @property
    def is_none(self) -> bool:
        return self == Memory()

    @property
    def keeps(self) -> bool:
        """Whether any image of an old class is kept."""
        return not self.is_none

    @property
    def needs_ranking(self) -> bool:
        """Whether a ranking says which images are kept. `all` keeps every image without one."""
        return self.keeps and not self.is_all

    def per_class(self, n_classes: int) -> int | None:
        """How many exemplars each of `n_classes` classes has. None: all its images."""
        if self.is_all:
            return None
        return self.each or self.total // n_classes

    def __str__(self) -> str:
        if self.is_all:
            return "all"
        return f"{self.each}/class" if self.each else str(self.total)
