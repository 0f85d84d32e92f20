"""Read a config, check it against the schema, and fill in defaults and recipes.

Every error is one line. It names the key, and says what is wrong and what would be right.
"""

import copy
import difflib
import itertools
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from wa.errors import UserError
from wa.files import read_text
from wa.study.choices import NAME, RENAMED
from wa.study.published import PUBLISHED

LARGEST = {"values": 200_000, "characters": 1_000, "depth": 10}  # of a config

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"

# JSON Schema takes 2.0 for an integer. The programs and the names of folders do not.
INTEGERS = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda checker, value: type(value) is int
)
Validator = extend(Draft202012Validator, type_checker=INTEGERS)


def read_config(path: str | Path) -> object:
    """What a config file says. No tag in it can make anything but plain values."""
    try:
        return yaml.safe_load(read_text(path))
    except (OSError, UserError):
        raise
    except Exception as error:  # PyYAML raises a dozen kinds of errors
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None


def plain(value: object, depth: int = 0, count: Iterator[int] | None = None) -> object:
    """A copy of a config in plain dicts, whose keys are text, and plain lists.

    Raises UserError if that is not possible. An alias of YAML costs a few bytes, but it can stand
    for any amount of data, or for something that contains the alias itself.
    """
    count = count or itertools.count()
    if depth > LARGEST["depth"] or next(count) > LARGEST["values"]:
        raise UserError(
            f"config: it has more than {LARGEST['values']} values, or more than"
            f" {LARGEST['depth']} levels"
        )
    if isinstance(value, dict):
        return {
            plain(k if isinstance(k, str) else str(k)): plain(v, depth + 1, count)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [plain(v, depth + 1, count) for v in value]
    if isinstance(value, str) and (len(value) > LARGEST["characters"] or not value.isprintable()):
        raise UserError(
            f"config: {reprlib.repr(value)} is longer than {LARGEST['characters']} characters, or"
            " cannot be printed"
        )
    if isinstance(value, (int, float)) and not -(10**15) < value < 10**15:
        raise UserError(
            f"config: {reprlib.repr(value)} is not a possible number (allowed: -1e15 to 1e15)"
        )
    if not isinstance(value, (str, int, float, type(None))):
        raise UserError(
            f"config: {reprlib.repr(value)} is a {type(value).__name__} to YAML. Put it in quotes"
            " if it is a name."
        )
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


def explain(error: ValidationError) -> str:
    """One line for an error of jsonschema: the key, what is wrong, what would be right."""
    where = ".".join(str(p) for p in error.absolute_path) or "at the top"
    if error.validator == "additionalProperties":
        return f"{where}: {unknown_key(error)}"
    if error.validator == "required":
        return f"{where}: {error.message}"
    hint = ". ".join(error.schema.get("description", "").split(". ")[:3])
    if error.validator == "type" and error.instance is None:
        return f"{where} is empty: {hint or 'give it a value'}"
    return f"{where}: {invalid_value(error)}. {hint}".strip()


def unknown_key(error: ValidationError) -> str:
    """What is wrong with a key that the schema does not know, and which key may be meant."""
    known = sorted(error.schema["properties"])
    unknown = min(error.instance.keys() - set(known))
    close = difflib.get_close_matches(unknown, known, 1)
    close += [key for key in known if key.startswith(unknown)]
    if RENAMED.get(unknown) in known:
        close = [RENAMED[unknown]]
    guess = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown key {unknown!r}{guess} Known: {', '.join(known)}"


def invalid_value(error: ValidationError) -> str:
    """What is wrong with a value."""
    value, schema = error.instance, error.schema
    if error.validator == "not":
        return f"{value!r} is reserved. Choose another name"
    if error.validator == "pattern" and schema["pattern"] == NAME:
        return f"{value!r} is not a valid name. It may hold only letters, digits, '.', '_' and '-'"
    if error.validator in ("anyOf", "enum", "pattern"):
        possible = schema.get("enum", [])
        for each in schema.get("anyOf", []):
            possible = possible + each.get("enum", [])
        names = f"; possible: {', '.join(map(str, possible))}" if possible else ""
        return f"{value!r} is not a valid value{names}"
    if error.validator == "type" and isinstance(value, str) and "number" in schema["type"]:
        return f"{error.message} (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
    return error.message


def validate(config: dict) -> dict:
    """The config with all defaults, or a UserError that names the key."""
    config = plain(config)
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    errors = sorted(
        Validator(schema).iter_errors(config), key=lambda e: (len(e.absolute_path), str(e.path))
    )
    if errors:
        raise UserError("config: " + explain(errors[0]))
    apply_recipes(config)
    set_defaults(config, schema)
    return config


def merged(sections: Iterable[dict]) -> dict:
    """Sections `training`, each over the one before.

    `base` becomes all settings of task 0. What a section says holds for task 0 too, unless its own
    `base` says otherwise.
    """
    later, base = {}, {}
    for section in sections:
        settings = {k: v for k, v in section.items() if k != "base"}
        later |= settings
        base |= settings | section.get("base", {})
    return later | {"base": base}


def apply_recipes(config: dict) -> None:
    """Put the settings of the recipes that a config names under the config's own settings."""
    study, own = config.get("recipe", "none"), config.get("training", {})
    for name, method in config["methods"].items():
        recipe = PUBLISHED[study if method.get("recipe", "study") == "study" else method["recipe"]]
        method["training"] = merged([recipe["training"], own, method.get("training", {})])
        if method.get("distillation") == "recipe":
            if "distillation" not in recipe["method"]:
                raise UserError(
                    f"config: methods.{name}.distillation: `recipe` needs a recipe, for instance"
                    " recipe: pycil"
                )
            del method["distillation"]
            method |= recipe["method"] | method
    config["training"] = merged([PUBLISHED[study]["training"], own])
