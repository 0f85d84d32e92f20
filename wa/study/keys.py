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


def limits(values: dict) -> str:
    """The range of a number in words, for instance ` from 1 to 1024`."""
    low, high = values.get("minimum"), values.get("maximum")
    above, below = values.get("exclusiveMinimum"), values.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [
        f"{word} {limit}"
        for word, limit in (
            ("at least", low),
            ("above", above),
            ("at most", high),
            ("below", below),
        )
        if limit is not None
    ]
    return " " + ", ".join(parts) if parts else ""


def allowed(values: dict) -> str:
    """What JSON Schema allows, in words."""
    if "title" in values:
        return values["title"]
    if "enum" in values:
        return " or ".join(f"`{value}`" for value in values["enum"])
    if "anyOf" in values:
        return ", or ".join(allowed(each) for each in values["anyOf"])
    kind = values["type"]
    if isinstance(kind, list):
        return " or ".join(allowed(values | {"type": each}) for each in kind)
    if kind == "array":
        return f"a list. Each item is {allowed(values['items'])}"
    if kind in ("integer", "number"):
        return ("an integer" if kind == "integer" else "a number") + limits(values)
    if kind == "object":
        if "properties" in values:
            return "`{base, increment}` or `{sizes}`"
        return "names, each with a value"
    if "pattern" in values:
        return f"text that fits `{values['pattern']}`"
    return {"boolean": "`true` or `false`", "string": "text", "null": "`null`"}[kind]
