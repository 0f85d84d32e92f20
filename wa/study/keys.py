"""What a person must know of one key of a config.

The schema, the page docs/config.md, and the help of the command line are made of these. The keys
themselves are in wa/study/settings.py (settings of a training) and wa/study/choices.py (the rest).
"""

from dataclasses import dataclass, field
from importlib import import_module

REQUIRED = object()  # in place of a default: the key must be given

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


@dataclass(frozen=True)
class Key:
    """One key of a config.

    choices: the names that are possible, or the dotted name of the table that holds them
    (`wa.methods.loss.CLASSIFICATION`). The table is imported only when its names are needed,
    because some tables import torch. schema: the type and range, as JSON Schema. With both, a value
    is one of the names or fits the schema. If the default is a list, a value is a list of names.
    """

    default: object
    meaning: str
    example: str  # the value, as YAML
    choices: tuple[str, ...] | str = ()
    schema: dict = field(default_factory=dict)
    reruns: bool = True  # False: it says where and how a study runs, so a change reruns nothing

    def names(self) -> list[str]:
        """The possible values, if they are a list of names."""
        if not isinstance(self.choices, str):
            return list(self.choices)
        module, _, table = self.choices.rpartition(".")
        return list(getattr(import_module(module), table))

    def json_schema(self, with_default: bool = True) -> dict:
        """The key as JSON Schema."""
        values = self.schema
        if self.choices:
            values = {"enum": self.names()}
            if isinstance(self.default, list):
                values = {"type": "array", "uniqueItems": True, "items": values}
            if self.schema:
                values = {"anyOf": [values, self.schema]}
        result = {"description": self.meaning} | values
        if with_default and self.default is not REQUIRED:
            default = self.default
            if isinstance(default, tuple):
                default = {} if self.schema.get("type") == "object" else list(default)
            result["default"] = default
        return result
