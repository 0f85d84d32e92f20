"""A sweep: values of some settings of a method. Each choice of values is a method of its own.

    sweep:
      wa: {distillation: [0.5, 1], training: {lr: [0.05, 0.1]}}       a grid: all combinations
      kd: [{distillation: 0.5}, {distillation: 1, temperature: 1}]    a list

The method wa becomes the four methods wa-distillation-0.5-lr-0.05 to wa-distillation-1-lr-0.1, and
the method kd becomes two. All else follows: folders, sharing of tasks, metrics and figures.
"""

import copy
import itertools
import re
from collections.abc import Iterator

from wa.errors import UserError
from wa.study.choices import METHOD, NAME, NOT_IN_BASE
from wa.study.settings import TRAINING_KEYS

MOST = 1000  # methods of one sweep
Setting = tuple[str, ...]  # its keys, such as ("training", "lr")

# Where a method has settings, and which ones. None: those that its algorithm has.
KNOWN = {
    (): METHOD,
    ("options",): None,
    ("training",): TRAINING_KEYS,
    ("training", "base"): [name for name in TRAINING_KEYS if name not in NOT_IN_BASE],
}


def flat(values: dict, inside: Setting = ()) -> Iterator[tuple[Setting, object]]:
    """The settings of a part of a method. Raises UserError, which begins with the unknown key."""
    for name, value in values.items():
        setting = (*inside, name)
        if setting in KNOWN:
            if not isinstance(value, dict):
                raise UserError(f"{'.'.join(setting)} must hold settings, such as {{lr: [0.1]}}")
            yield from flat(value, setting)
        elif KNOWN[inside] is None or name in KNOWN[inside]:
            yield setting, value
        else:
            known = ", ".join(KNOWN[inside])
            raise UserError(f"{'.'.join(setting)} is not a setting. Known: {known}")


def points(sweep: dict | list) -> list[dict[Setting, object]]:
    """The choices of values: setting -> value. sweep: a grid, or a list. Raises UserError."""
    if isinstance(sweep, list):
        return [dict(flat(point)) for point in sweep]
    settings = dict(flat(sweep))
    number = 1
    for setting, values in settings.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{'.'.join(setting)} must be a list of values, such as [0.5, 1]")
        number *= len(values)
    if number > MOST:
        raise UserError(f"{number} combinations are too many. Sweep at most {MOST} at once")
    combinations = itertools.product(*settings.values())
    return [dict(zip(settings, values, strict=True)) for values in combinations]


def word(setting: Setting, value: object) -> str:
    """A setting and its value, as a part of a method's name: `lr-0.2`, `clip`, `no-clip`."""
    name = "-".join(setting).removeprefix("training-").removeprefix("options-")
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    values = value if isinstance(value, list) else [value]
    return re.sub("[^A-Za-z0-9_.-]+", "-", "-".join([name, *map(spelled, values)]))


def spelled(value: object) -> str:
    """A value as text. 1 and 1.0 are alike, so that either way of writing gives one name."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def with_values(method: dict, point: dict[Setting, object]) -> dict:
    """A method with the values of a point in place of its own."""
    method = copy.deepcopy(method)
    for (*sections, name), value in point.items():
        inner = method
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return method


def generated(name: str, method: dict, sweep: dict | list) -> dict[str, dict]:
    """The methods that a sweep makes of one method, by name. Raises UserError."""
    made = {}
    for point in points(sweep):
        of_point = "-".join([name, *(word(*each) for each in point.items())])
        if not re.fullmatch(NAME, of_point):
            raise UserError(f"the name {of_point} is too long. Sweep fewer settings at once")
        if of_point in made:
            raise UserError(f"it has {of_point.removeprefix(name + '-') or 'no values'} twice")
        made[of_point] = with_values(method, point)
    return made


def swept(config: dict) -> dict[str, dict[str, dict]]:
    """The methods that the sweeps of a config make: method -> name -> method.

    config: it fits the schema. Raises UserError, which names the key, if a sweep is not possible.
    """
    sweeps, methods = config.get("sweep", {}), config["methods"]
    if sweeps and not config.get("validation"):
        raise UserError(
            "config: sweep: the best values are chosen on validation images, so a sweep needs"
            " `validation`, for instance validation: 0.1"
        )
    made = {}
    for name, sweep in sweeps.items():
        if name not in methods:
            raise UserError(
                f"config: sweep.{name}: {name!r} is not one of the methods: {', '.join(methods)}"
            )
        try:
            made[name] = generated(name, methods[name], sweep)
        except UserError as error:
            raise UserError(f"config: sweep.{name}: {error}") from None
        twice = made[name].keys() & (methods.keys() - sweeps.keys())
        if twice:
            raise UserError(f"config: sweep.{name}: {min(twice)} is a method already. Rename it")
    return made


def with_sweeps(config: dict, made: dict[str, dict[str, dict]]) -> dict[str, dict]:
    """The methods of a config, those that its sweeps make in place of the swept ones."""
    methods = {}
    for name, method in config["methods"].items():
        methods |= made.get(name, {name: method})
    return methods
