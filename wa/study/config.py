"""Check a config against the schema, and fill in defaults and recipes.

Every error is one line. It names the key, and says what is wrong and what would be right.
"""

import contextlib
import copy
import itertools
import re
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from wa.errors import UserError, nearest
from wa.methods import algorithm
from wa.study.choices import METHOD, NAME, RENAMED
from wa.study.config_file import LARGEST, NUMBER, TOO_LARGE, Config, word_for
from wa.study.keys import allowed
from wa.study.published import PUBLISHED
from wa.study.sweep import swept, with_sweeps

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"

LARGEST_NUMBER = 10**15


def is_number(value: object) -> bool:
    """Whether it is a number that a key can have. Infinity and nan are none."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and abs(value) < LARGEST_NUMBER


# JSON Schema takes 2.0 for an integer. The programs and the names of folders do not.
NUMBERS = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda checker, value: type(value) is int and is_number(value),
        "number": lambda checker, value: is_number(value),
    }
)
# Keys of a method that have no effect without another one.
NEEDED_BY = {
    "distillation": ("distillation_loss", "temperature", "temperature_squared", "mix"),
    "alignment": ("gamma_norm", "gamma_limit"),
    "memory": ("selection",),
}
Validator = extend(Draft202012Validator, type_checker=NUMBERS)


def plain(
    value: object, key: str = "", depth: int = 0, count: Iterator[int] | None = None
) -> object:
    """A copy of a config in plain dicts and lists.

    key: where the value stands. Raises UserError for what a config cannot hold. A config may come
    from another workflow, so its keys may be anything, and a list may contain itself.
    """
    count = count or itertools.count()
    where = f"config: {key}" if key else "config"
    if depth > LARGEST["depth"] or next(count) > LARGEST["values"]:
        raise UserError(f"config: {TOO_LARGE}")
    inner = f"{key}." if key else ""
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise UserError(
                    f"{where}: the key {name!r} is {word_for(name)}, not text. Put it in quotes"
                    " if it is a name"
                )
        return {plain(k): plain(v, f"{inner}{k}", depth + 1, count) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v, f"{inner}{i}", depth + 1, count) for i, v in enumerate(value)]
    if isinstance(value, str) and (len(value) > LARGEST["characters"] or not value.isprintable()):
        raise UserError(
            f"{where}: {reprlib.repr(value)} is longer than {LARGEST['characters']} characters, or"
            " cannot be printed"
        )
    if isinstance(value, int) and abs(value) >= 10**100:  # Python may refuse to print it
        raise UserError(f"{where}: a number has at most 100 digits")
    if not isinstance(value, (str, int, float, type(None))):
        raise UserError(
            f"{where}: {reprlib.repr(value)} is a {type(value).__name__} to YAML. Put it in quotes"
            " if it is a name"
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
        (missing, *_) = (key for key in error.schema["required"] if key not in error.instance)
        return f"{where}: the key `{missing}` is missing"
    hint = ". ".join(error.schema.get("description", "").split(". ")[:3])
    if error.validator == "type" and error.instance is None:
        if len(error.absolute_path) == 2 and error.absolute_path[0] == "methods":
            hint = f"write `{error.absolute_path[1]}: {{}}` for a method without choices"
        return f"{where} is empty: {hint or 'give it a value'}"
    return f"{where}: {invalid_value(error)}. {hint}".strip()


def first_unknown(error: ValidationError) -> str:
    return min(error.instance.keys() - set(error.schema["properties"]))


def key_of(error: ValidationError) -> str:
    """The key that an error of jsonschema is about, as Config.places has it."""
    parts = [str(part) for part in error.absolute_path]
    if error.validator == "additionalProperties":
        parts.append(first_unknown(error))
    if "propertyNames" in error.absolute_schema_path:
        parts.append(error.instance)
    return ".".join(parts)


def unknown_key(error: ValidationError) -> str:
    """What is wrong with a key that the schema does not know, and which key may be meant."""
    known = sorted(error.schema["properties"])
    unknown = first_unknown(error)
    name = error.instance.get("algorithm", "")
    with contextlib.suppress(UserError, TypeError):  # it may be no algorithm
        if unknown in algorithm.facts(name).options:
            value = error.instance[unknown]
            return f"{unknown!r} is an option of {name}: options: {{{unknown}: {value}}}"
    close = nearest(unknown, known) or next((k for k in known if k.startswith(unknown)), None)
    if RENAMED.get(unknown) in known:
        close = RENAMED[unknown]
    guess = f"; did you mean {close!r}?" if close else "."
    return f"unknown key {unknown!r}{guess} Known: {', '.join(known)}"


def can_be_told(schema: dict) -> bool:
    """Whether words say what is possible. Names are listed, and a pattern says nothing to most."""
    return "title" in schema or {"enum", "pattern"}.isdisjoint(schema)


def invalid_value(error: ValidationError) -> str:
    """What is wrong with a value."""
    value, schema = error.instance, error.schema
    if error.validator == "not":
        return f"{value!r} is reserved. Choose another name"
    if error.validator == "pattern" and schema["pattern"] == NAME:
        return (
            f"{value!r} is not a valid name. It may hold only letters, digits, '.', '_' and '-',"
            " begins with a letter or a digit, and has at most 100 characters"
        )
    if error.validator in ("anyOf", "enum", "pattern"):
        choices = schema.get("anyOf", [schema])
        names = [str(name) for each in choices for name in each.get("enum", [])]
        others = [allowed(each) for each in choices if can_be_told(each)]
        close = nearest(str(value), names)
        guess = f". Did you mean {close}?" if close else "."
        possible = f" Possible: {', '.join(others + names)}" if names or others else ""
        return f"{value!r} is not a valid value{guess}{possible}".removesuffix(".")
    if error.validator != "type":
        return error.message
    wanted, said = schema["type"], f"{value!r:.60} is not {allowed(schema)}"
    is_large = type(value) in (int, float) and abs(value) >= LARGEST_NUMBER
    if is_large and {"maximum", "exclusiveMaximum"}.isdisjoint(schema):
        said += ", below 1e15"
    if isinstance(value, str) and "number" in wanted and re.fullmatch(NUMBER, value):
        return (
            f"{said}. Write it without quotes. (Another workflow reads its config as YAML"
            " 1.1, for which 1e-3 is text and 1.0e-3 a number)"
        )
    if isinstance(value, str) and wanted == "boolean":
        return f"{said}. YAML 1.2 knows only true and false"
    if wanted == "array":
        return f"{value!r:.60} is no list. Write it in brackets: [{spelled(value)}]"
    if wanted == "object" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        is_method = schema.get("additionalProperties", {}).get("type") == "object"
        keys = ", ".join(f"{name}: {{}}" if is_method else f"{name}: ..." for name in value)
        return f"{value!r:.60} is a list. Write the names as keys: {{{keys:.60}}}"
    if wanted == "object":
        return f"{value!r:.60} has no keys. Write {{key: value}}"
    if "string" in wanted and (isinstance(value, bool) or is_number(value)):
        word = str(value).lower() if isinstance(value, bool) else value
        return f'{word} is not a name, but {word_for(value)}. Put it in quotes: "{word}"'
    return said


def spelled(value: object) -> str:
    """A value as YAML on one line, if it is short."""
    text = yaml.safe_dump(value, default_flow_style=True, width=LARGEST["characters"])
    text = text.removesuffix("...\n").strip()
    return text if len(text) < 60 else "..."


def first_error(config: dict, schema: dict) -> ValidationError | None:
    """What is wrong with a config, or None. Of several errors, it is one near the top."""
    errors = Validator(schema).iter_errors(config)
    return min(errors, key=lambda e: (len(e.absolute_path), str(e.path)), default=None)


def check_figures(section: dict) -> None:
    """Raise UserError if a section `figures` of a config would be refused."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    properties = {"figures": schema["properties"]["figures"]}
    if error := first_error(
        {"figures": section}, schema | {"properties": properties, "required": []}
    ):
        raise UserError(explain(error))


def validate(written: dict) -> dict:
    """The config with all defaults, or a UserError that names the key.

    The methods that a sweep makes are among its methods, and `sweep` has their names.
    """
    config = plain(written)
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    error = first_error(config, schema)
    if error:
        place = written.place(key_of(error)) if isinstance(written, Config) else "config"
        raise UserError(f"{place}: {explain(error)}")
    made = swept(config)
    if made:
        config["methods"] = with_sweeps(config, made)
        if error := first_error(config, schema):
            raise UserError(f"config: sweep: {explain(error)}")
    config["sweep"] = {name: list(methods) for name, methods in made.items()}
    apply_recipes(config, schema)
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


def apply_recipes(config: dict, schema: dict) -> None:
    """Put the settings of the recipes that a config names under the config's own settings."""
    study, own = config.get("recipe", "none"), config.get("training", {})
    for name, method in config["methods"].items():
        recipe = PUBLISHED[study if method.get("recipe", "study") == "study" else method["recipe"]]
        keys, written = list(method), method.get("training", {})
        method["training"] = merged([recipe["training"], own, written])
        try:
            check_choices(method.get("algorithm", algorithm.STANDARD), schema)
            apply_algorithm(method, written)
            check_effects(method, keys)
        except UserError as error:
            raise UserError(f"config: methods.{name}.{error}") from None
        if method.get("distillation") == "recipe":
            if "distillation" not in recipe["method"]:
                raise UserError(
                    f"config: methods.{name}.distillation: `recipe` needs a recipe, for instance"
                    " recipe: pycil"
                )
            del method["distillation"]
            method |= recipe["method"] | method
    config["training"] = merged([PUBLISHED[study]["training"], own])


def check_choices(name: str, schema: dict) -> None:
    """Raise UserError if CHOICES of an algorithm are none that a method can have."""
    facts = algorithm.facts(name)
    methods = {"$defs": schema.get("$defs", {}), **schema["properties"]["methods"]}
    if facts.choices and (error := first_error({"it": facts.choices}, methods)):
        said = explain(error).removeprefix("it").lstrip(".: ")
        raise UserError(f"algorithm: CHOICES of {facts.file}: {said}")


def check_effects(method: dict, written: list[str]) -> None:
    """Raise UserError if the config writes a key of a method that would have no effect.

    written: the keys that the config itself writes. A file of the user may use any of them.
    """
    if algorithm.is_own(method.get("algorithm", "")):
        return
    for needed, keys in NEEDED_BY.items():
        value = method.get(needed, METHOD[needed].default)
        there = value not in (0, "none", "unit", "bias")  # the last two have no gamma
        for key in () if there else keys:
            if key in written and method[key] != METHOD[key].default:
                raise UserError(
                    f"{key}: it has no effect without {needed}, for instance"
                    f" {needed}: {METHOD[needed].example}"
                )


def apply_algorithm(method: dict, written: dict) -> None:
    """Put the choices of a method's algorithm under those that the config makes itself.

    What its file says of `training` holds for the tasks after task 0, and goes over the study's.
    written: the method's own `training`. Raises UserError if there is no such algorithm, or if it
    has no such options.
    """
    chosen = method.get("algorithm", algorithm.STANDARD)
    choices = algorithm.facts(chosen).choices
    method["options"] = algorithm.with_defaults(chosen, method.get("options", {}))
    training = choices.get("training", {})
    method["training"] |= {key: value for key, value in training.items() if key not in written}
    for key, value in choices.items():
        method.setdefault(key, value)
