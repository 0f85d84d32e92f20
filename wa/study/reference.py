"""Write the schema of configs and the page of all keys from the one source of both.

    python -m wa.study.reference

The source is wa/study/settings.py and wa/study/choices.py. Names of losses, alignments, backbones
and so on are read from their tables. Run this after an edit of any of them. A test compares.
"""

import argparse
import textwrap
from pathlib import Path

import yaml

from wa.data.augmentations import KINDS
from wa.errors import program
from wa.study import choices
from wa.study.config import SCHEMA
from wa.study.config_file import Dumper
from wa.study.keys import REQUIRED, Key, allowed
from wa.study.settings import TRAINING_KEYS

PAGE = SCHEMA.parents[2] / "docs" / "config.md"

HEAD = (
    "# Made by `python -m wa.study.reference` from wa/study/settings.py and wa/study/choices.py.\n"
    "# Edit those, not this.\n"
)


def section(meaning: str, properties: dict, **more: object) -> dict:
    """A part of the schema that has keys of its own."""
    return {
        "description": meaning,
        "type": "object",
        "additionalProperties": False,
        **more,
        "properties": properties,
    }


def schema() -> dict:
    """The schema of a config. The settings of a training are written once, under $defs."""
    references = {name: {"$ref": f"#/$defs/{name}"} for name in TRAINING_KEYS}
    defaults = {
        name: references[name] | {"default": key.json_schema()["default"]}
        for name, key in TRAINING_KEYS.items()
    }
    in_base = {n: r for n, r in references.items() if n not in choices.NOT_IN_BASE}
    base = section(choices.BASE_MEANING, in_base)
    method_training = section(
        choices.METHOD_TRAINING_MEANING, references | {"base": base}, default={}
    )
    method = {name: key.json_schema() for name, key in choices.METHOD.items()}
    methods = {
        "description": choices.METHODS_MEANING,
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": choices.NAME},
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "properties": method | {"training": method_training},
        },
    }
    training = section(
        choices.TRAINING_MEANING, defaults | {"base": base | {"default": {}}}, default={}
    )
    top = choices.STUDY | choices.DATA
    properties = {name: key.json_schema() for name, key in top.items()}
    properties |= {"methods": methods, "training": training}
    properties |= {name: key.json_schema() for name, key in choices.SWEEP.items()}
    properties |= {name: key.json_schema() for name, key in choices.RUN.items()}
    look = {name: key.json_schema() for name, key in choices.LOOK.items()}
    properties["figures"] = section(choices.LOOK_MEANING, look, default={})
    required = [name for name, key in top.items() if key.default is REQUIRED]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study",
        **section(
            "Everything that config/*.yaml may say. A key that is left out takes its default.",
            properties,
            required=[*required, "methods"],
        ),
        "$defs": {name: key.json_schema(with_default=False) for name, key in TRAINING_KEYS.items()},
    }


def schema_text() -> str:
    return HEAD + yaml.dump(schema(), Dumper=Dumper, sort_keys=False, width=96, allow_unicode=True)


def inline(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def describe(path: str, key: Key) -> str:
    """The part of the page about one key: heading, meaning, and what it may be."""
    name = path.rpartition(".")[2]
    default = "none, it must be given" if key.default is REQUIRED else None
    if default is None:
        default = f"`{inline(key.json_schema()['default'])}`"
    facts = [
        f"- Default: {default}",
        f"- Allowed: {allowed(key.json_schema())}",
        f"- Example: `{name}: {key.example}`",
    ]
    lines = "\n".join(wrapped(fact, "  ") for fact in facts)
    return f"### {path}\n\n{wrapped(key.meaning)}\n\n{lines}"


def training_keys() -> list[str]:
    """The parts of the page about the settings of a training, with a list of the augmentations."""
    parts = []
    for name, key in TRAINING_KEYS.items():
        parts.append(describe(f"training.{name}", key))
        if name == "augmentation":
            rows = [f"- `{kind.spelling}`: {kind.help}" for kind in KINDS.values()]
            parts.append("\n".join(wrapped(row, "  ") for row in rows))
    return parts


def page() -> str:
    """docs/config.md."""
    return (
        "\n\n".join(
            [
                "# Every key of a config",
                "<!-- Made by python -m wa.study.reference from wa/study/settings.py and\n"
                "wa/study/choices.py. Edit those, not this. -->",
                INTRODUCTION,
                "## The study",
                *(describe(name, key) for name, key in choices.STUDY.items()),
                "## The data",
                *(describe(name, key) for name, key in choices.DATA.items()),
                "## Methods",
                METHODS,
                *(describe(f"methods.NAME.{name}", key) for name, key in choices.METHOD.items()),
                "### methods.NAME.training",
                wrapped(choices.METHOD_TRAINING_MEANING),
                "- Example: `training: {clip: true, base: {epochs: 200}}`",
                "## Training",
                TRAINING,
                *training_keys(),
                "### training.base",
                wrapped(choices.BASE_MEANING),
                "- Example: `base: {epochs: 200, weight_decay: 0.0005}`",
                "## A sweep",
                *(describe(name, key) for name, key in choices.SWEEP.items()),
                "## How it runs",
                wrapped(
                    "These keys say where and how a study runs, not what it is. A change of them"
                    f" reruns nothing: {', '.join(choices.RERUNS_NOTHING)}."
                ),
                *(describe(name, key) for name, key in choices.RUN.items()),
                "## Figures and tables",
                wrapped(choices.LOOK_MEANING),
                "```yaml\nfigures:\n  labels: {wa: WA (ours)}\n  font_size: 8\n```",
                *(describe(f"figures.{name}", key) for name, key in choices.LOOK.items()),
            ]
        )
        + "\n"
    )


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 98 columns. indent: of all lines but the first."""
    return textwrap.fill(
        text, 98, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


INTRODUCTION = """\
A config is a YAML file. This is a whole one:

```yaml
experiment: first
dataset: digits
protocols:
  - {base: 4, increment: 2}
methods:
  replay: {memory: 20}
  wa: {memory: 20, distillation: dynamic, alignment: weight}
training:
  backbone: resnet8
  epochs: 20
  augmentation: [crop-1]
```

Only `experiment`, `dataset`, `methods`, and `protocols` or `tasks` must be given. Every other key
has a default. The study is the product orders x seeds x protocols x methods. Add a value to any of
them and run again: only what is new runs. An unknown key, or a value that is not possible, is
refused before anything runs. The error names the file, the line and the column.

## What YAML is read

A config is YAML 1.2 or JSON, in UTF-8. Every program reads it in the same strict way.

- A plain word is a number, `true`, `false` or `null` as the
  [core schema of YAML 1.2](https://yaml.org/spec/1.2.2/#103-core-schema) says. Any other word is
  text. So `no`, `on`, `yes` and `1:30` are text, and `1e-3` is a number. A switch is `true` or
  `false`.
- A name that looks like a number, `true` or `null` needs quotes: `classes: ["1", "null"]`.
- A key may be there only once, and it must be text.
- A number may not begin with 0, because YAML 1.1 takes `010` for 8 and YAML 1.2 for 10. Write `10`,
  or `"010"` if it is a name.
- Anchors and aliases (`&a`, `*a`) work. The merge `<<` of YAML 1.1 does not.

`--config` puts values over those of the file. Each value is YAML too:

```console
snakemake --cores 2 --config draft=True
snakemake --cores 2 --config training='{epochs: 5}' seeds='[0, 1]'
```

Keys that are not named keep their values. A name that looks like a number needs quotes within
quotes: `--config experiment='"010"'`.

Snakemake itself reads the file first. If the file is missing, is not UTF-8 or is not YAML at all,
Snakemake stops with a message of its own. Then `wa status --config FILE` says in one line what is
wrong and where. A study that is a module of another workflow gets its config from that workflow,
which reads it as YAML 1.1. Put `no`, `on` and `off` in quotes there if they are names."""

METHODS = """\
`methods` gives each method a name and its choices. A choice that is left out does nothing, so
`finetune: {}` is a method. [methods.md](methods.md) has the equation and the source of each choice.

```yaml
methods:
  finetune: {}                                              # no memory: it forgets
  replay: {memory: 2000}
  kd: {memory: 2000, distillation: dynamic}
  wa: {memory: 2000, distillation: dynamic, alignment: weight}
  joint: {memory: all, start: scratch}                      # the upper bound
```"""

TRAINING = """\
These settings hold for every training of the study. A method can have others, under
`methods.NAME.training`. Task 0 can have others, under `base`. The keys are the options of
`python -m wa.training.train` too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=f"Write {SCHEMA.name} and {PAGE.name}.")
    parser.parse_args()
    for file, text in ((SCHEMA, schema_text()), (PAGE, page())):
        Path(file).write_text(text, encoding="utf-8")
        print(f"wrote {file}")


if __name__ == "__main__":
    program(main)
