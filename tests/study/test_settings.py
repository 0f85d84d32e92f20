"""Settings: one canonical form for equal values, and one source for everything said about them."""

import argparse
import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import yaml
from helpers import ROOT

from wa.errors import UserError
from wa.methods.loss import CLASSIFICATION, DISTILLATION
from wa.models.backbones import BACKBONES
from wa.study import choices, reference
from wa.study.config import SCHEMA, validate
from wa.study.settings import METHOD_KEYS, TRAINING_KEYS, Settings, add_options, from_options
from wa.study.study import Study

SCHEMA_NOW = reference.schema()


def parsed(*options: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return from_options(parser.parse_args(options))


def test_equal_settings_are_equal_and_have_one_text():
    whole = Settings(distillation=1, lr=1, weight_decay=-0.0, milestones=[3, 5], temperature=2)
    broken = Settings(distillation=1.0, lr=1.0, weight_decay=0, milestones=(3, 5), temperature=2.0)
    assert whole == broken and hash(whole) == hash(broken)
    assert whole.canonical() == broken.canonical() and whole.flags() == broken.flags()
    assert Settings(distillation=0.0) == Settings(distillation=-0.0) == Settings()
    assert not Settings(distillation=0.0).distillation  # no teacher is loaded
    assert parsed("--distillation", "1") == parsed("--distillation", "1.0")
    assert parsed("--distillation", "dynamic").distillation == "dynamic"


def test_the_canonical_text_has_all_values_and_comes_back():
    settings = Settings(milestones=(3,), clip=True, distillation="dynamic")
    values = json.loads(settings.canonical())
    assert list(values) == sorted(f.name for f in fields(Settings))
    assert values["momentum"] == 0.9 and values["milestones"] == [3]
    assert Settings.from_json(settings.canonical()) == settings
    assert Settings.from_json(json.dumps(values | {"lr": 1})).lr == 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lr": "0.1"}, "lr: '0.1' is not a number"),
        ({"lr": float("nan")}, "lr: nan is not a number"),
        ({"epochs": 1.0}, "epochs: 1.0 is not an integer"),
        ({"bias": 1}, "bias: 1 is not true or false"),
        ({"distillation": "recipe"}, "distillation: 'recipe' is not a number or dynamic"),
        ({"milestones": [1.5]}, r"milestones: \[1.5\] is not a list of integers"),
        ({"new": 1}, r"settings: missing \[\], unknown \['new'\]"),
    ],
)
def test_a_text_that_is_wrong_is_refused(change, message):
    values = json.loads(Settings().canonical())
    with pytest.raises(UserError, match=message):
        Settings.from_json(json.dumps(values | change))


def test_a_text_that_leaves_a_value_out_is_refused():
    values = json.loads(Settings().canonical())
    del values["lr"]
    for text, message in ((json.dumps(values), r"missing \['lr'\]"), ("{", "is not JSON")):
        with pytest.raises(UserError, match=message):
            Settings.from_json(text)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--schedule", "step"], "schedule: step needs milestones"),
        (["--augmentation", "erase-1", "flip"], "augmentation: 'erase-1' stands before 'flip'"),
        (["--input", "timm", "--augmentation", "flip"], "augmentation: flip: `input: timm` takes"),
        (["--backbone", "timm/resnt18"], "backbone: timm has no model 'resnt18'"),
    ],
)
def test_the_command_line_is_checked_as_a_config_is(options, message):
    with pytest.raises(UserError, match=message):
        parsed(*options)


def test_what_is_generated_is_what_is_committed():
    """If this fails, run python -m wa.study.reference."""
    assert SCHEMA.read_text() == reference.schema_text()
    assert reference.PAGE.read_text() == reference.page()


def test_the_config_at_the_top_of_the_page_is_valid(tmp_path):
    example = reference.INTRODUCTION.split("```yaml\n")[1].split("```")[0]
    Study(yaml.safe_load(example), str(tmp_path))


def test_names_come_from_their_tables():
    method = SCHEMA_NOW["properties"]["methods"]["additionalProperties"]["properties"]
    assert method["classification_loss"]["enum"] == list(CLASSIFICATION)
    assert method["distillation_loss"]["enum"] == list(DISTILLATION)
    assert SCHEMA_NOW["$defs"]["backbone"]["anyOf"][0]["enum"] == list(BACKBONES)


def test_every_setting_is_a_key_of_the_config_and_every_key_has_a_default():
    assert TRAINING_KEYS.keys() | METHOD_KEYS.keys() == {f.name for f in fields(Settings)}
    training = SCHEMA_NOW["properties"]["training"]["properties"]
    assert training.keys() == {*TRAINING_KEYS, "base"}
    own = SCHEMA_NOW["properties"]["methods"]["additionalProperties"]["properties"]["training"]
    assert own["properties"].keys() == {*TRAINING_KEYS, "base"}
    assert not {"backbone", "bias", "pretrained"} & own["properties"]["base"]["properties"].keys()


EXAMPLES = [
    *(((name,), key) for name, key in (choices.STUDY | choices.DATA | choices.RUN).items()),
    *(((name,), key) for name, key in choices.SWEEP.items()),
    *((("methods", "wa", name), key) for name, key in choices.METHOD.items()),
    *((("training", name), key) for name, key in TRAINING_KEYS.items()),
]


@pytest.mark.parametrize("path, key", EXAMPLES, ids=[".".join(path) for path, _ in EXAMPLES])
def test_each_example_is_a_config_and_says_something(path, key, config):
    value = yaml.safe_load(key.example)
    assert key.example and value != key.json_schema().get("default"), "the example is the default"
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    if path == ("sweep",):
        config["validation"] = 0.1
    if path[-1] == "options":
        inner["algorithm"] = "ewc"
    validate(config)


def test_keys_that_rerun_nothing():
    assert choices.RERUNS_NOTHING == (
        "path", "device", "processes", "nodes", "runs_per_gpu", "test_every", "tensorboard",
        "wandb", "draft",
    )  # fmt: skip


def test_a_config_with_a_network_of_ours_is_checked_without_torch(tmp_path):
    code = (
        "import sys, yaml; from wa.study.study import Study;"
        " Study(yaml.safe_load(open('config/cifar100.yaml')));"
        " print(*({'torch', 'timm', 'torchvision'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and not run.stdout.split(), run.stdout + run.stderr


# The folder of task 0, for a method that trains task 0 in another way.


def bases(config: dict, folder, **methods: dict) -> dict[str, str]:
    return Study(config | {"methods": methods}, str(folder)).bases


def test_a_preset_that_the_study_does_not_use_renames_nothing(config, tmp_path, monkeypatch):
    own = {"training": {"clip": True, "lr": 0.2}}
    before = bases(config, tmp_path, own=own, der={"recipe": "der"})
    assert before == {"own": "-lr-0.2-clip", "der": "-der"}
    mine = {"training": {"clip": True, "lr": 0.2}, "method": {}}
    monkeypatch.setitem(choices.PUBLISHED, "mine", mine)
    assert bases(config, tmp_path, own=own, der={"recipe": "der"}) == before


def test_equal_bases_have_one_name_whatever_the_words_and_the_order(config, tmp_path):
    der = Study(config | {"methods": {"m": {"recipe": "der"}}}, str(tmp_path)).settings("m", True)
    differing = {
        name: getattr(der, name)
        for name in TRAINING_KEYS
        if getattr(der, name) != getattr(Settings(), name) and name not in config["training"]
    }
    words = {k: list(v) if isinstance(v, tuple) else v for k, v in differing.items()}
    methods = {"spelt": {"training": words}, "named": {"recipe": "der"}}
    expected = dict.fromkeys(methods, "-der")
    assert bases(config, tmp_path, **methods) == expected
    assert bases(config, tmp_path, **dict(reversed(methods.items()))) == expected
    assert bases(config, tmp_path, spelt=methods["spelt"])["spelt"].startswith("-no-bias-")


def test_different_bases_have_different_names(config, tmp_path):
    for file in ("w", "w-lr-0.2"):
        (tmp_path / file).touch()
    a, b = f"{tmp_path}/w", f"{tmp_path}/w-lr-0.2"
    names = bases(
        config,
        tmp_path,
        one={"training": {"pretrained": a, "lr": 0.2}},
        two={"training": {"pretrained": b}},
        three={"training": {"backbone": "timm/resnet18"}},
    )
    assert len(set(names.values())) == 3
    assert names["one"].startswith("-lr-0.2-pretrained-+") and "/" not in "".join(names.values())
    assert names["three"] == "-backbone-timm+resnet18"


def test_a_name_that_is_too_long_is_refused(config, tmp_path):
    training = {"schedule": "step", "milestones": list(range(1, 200))}
    with pytest.raises(UserError, match=r"methods.m.training: its task 0 differs .* in too many"):
        bases(config, tmp_path, m={"training": training})


def test_a_changed_default_shows_in_the_text():
    assert replace(Settings(), momentum=0.5).canonical() != Settings().canonical()
