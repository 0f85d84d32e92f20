"""How figures and tables look: what the section `figures` of a config says."""

import json
from typing import NamedTuple

from wa.study.choices import LOOK


class Look(NamedTuple):
    """The keys are explained in wa/study/choices.py and in docs/config.md."""

    labels: dict[str, str] = LOOK["labels"].default
    colors: dict[str, str] = LOOK["colors"].default
    columns: int = LOOK["columns"].default
    font_size: float = LOOK["font_size"].default
    first_task: str = LOOK["first_task"].default

    def label(self, method: str) -> str:
        """What figures and tables call a method."""
        return self.labels.get(method, method)

    @classmethod
    def of(cls, section: dict) -> "Look":
        """The look that the section `figures` of a config describes."""
        return cls(**{name: section[name] for name in cls._fields if name in section})

    @classmethod
    def from_json(cls, text: str) -> "Look":
        return cls.of(json.loads(text))
