"""The published variants of WA against their sources, written down here a second time."""

import pytest
import yaml

from wa.errors import UserError
from wa.study.config import SCHEMA
from wa.study.published import PUBLISHED
from wa.study.settings import Settings
from wa.study.study import Study
from wa.training import train
from wa.training.schedule import learning_rate

NAMES = [name for name in PUBLISHED if name != "none"]


def study(recipe: str, folder, **more) -> Study:
    methods = {
        "wa": {"memory": 2000, "distillation": "recipe", "alignment": "weight"},
        "finetune": {},
    }
    config = {
        "experiment": "x",
        "dataset": "cifar100",
        "recipe": recipe,
        "protocols": [{"base": 50, "increment": 10}],
    }
    return Study(config | {"methods": methods} | more, str(folder))


# epoch -> learning rate just before and from there on; the ends are the first and the last epoch
STEPS = {
    ("paper", True): (250, {100: (0.1, 0.01), 150: (0.01, 0.001), 200: (0.001, 0.0001)}),
    ("paper", False): (250, {100: (0.1, 0.01), 150: (0.01, 0.001), 200: (0.001, 0.0001)}),
    ("pycil", True): (200, {60: (0.1, 0.01), 120: (0.01, 0.001), 170: (0.001, 0.0001)}),
    ("authors", False): (250, {100: (0.1, 0.01), 150: (0.01, 0.001), 200: (0.001, 0.0001)}),
    ("pycil", False): (170, {60: (0.1, 0.01), 100: (0.01, 0.001), 140: (0.001, 0.0001)}),
    ("der", False): (170, {10: (0.1, 0.1), 10 + 100: (0.1, 0.01), 10 + 120: (0.01, 0.001)}),
}


@pytest.mark.parametrize("name, base", STEPS)
def test_schedules(name, base, tmp_path):
    recipe = study(name, tmp_path).settings("wa", base)
    epochs, changes = STEPS[name, base]
    assert recipe.epochs == epochs
    for epoch, (before, after) in changes.items():
        assert learning_rate(recipe, epoch - 1) == pytest.approx(before)
        assert learning_rate(recipe, epoch) == pytest.approx(after)
    if name == "der":
        assert [learning_rate(recipe, e) for e in range(10)] == pytest.approx(
            [0.01 * (e + 1) for e in range(10)]
        )
        assert recipe.redraw_classifier == "after-warmup" and study(name, tmp_path).settings(
            "wa", True
        ) == study(name, tmp_path).settings(None)


def test_what_distinguishes_them(tmp_path):
    """The table of differences between the recipes.

    Its columns: lambda, mix, T^2, clipping, weight decay (task 0, later), backbone, and the last
    augmentation.
    """
    told = {}
    for name in NAMES:
        one = study(name, tmp_path)
        base, later = one.settings("wa", base=True), one.settings("wa")
        assert later.batch_size == (32 if name == "authors" else 128)
        assert later.temperature == 2 and later.momentum == 0.9 and base.clip == later.clip
        assert later.divide_weight_decay == (name == "authors")
        decay = (base.weight_decay, later.weight_decay)
        told[name] = (
            later.distillation,
            later.mix,
            later.temperature_squared,
            later.clip,
            decay,
            later.backbone,
        )
        assert (
            one.settings("finetune").distillation == 0
            and one.config["methods"]["wa"]["alignment"] == "weight"
        )
    assert told == {
        "paper": ("dynamic", "convex", False, True, (2e-4, 2e-4), "resnet32"),
        "authors": ("dynamic", "convex", False, True, (1e-4, 1e-4), "preact_resnet32"),
        "pycil": ("dynamic", "convex", False, False, (5e-4, 2e-4), "resnet32"),
        "tutorial": (0.5, "sum", True, False, (5e-4, 5e-4), "resnet32"),
        "der": ("dynamic", "convex", False, True, (5e-4, 5e-4), "resnet18"),
    }
    assert float(
        study("pycil", tmp_path).settings("wa").augmentation[-1].split("-")[1]
    ) == pytest.approx(63 / 255, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_known_and_reach_the_training(name, tmp_path):
    schema = yaml.safe_load(SCHEMA.read_text())["properties"]
    assert PUBLISHED[name]["training"].keys() <= schema["training"]["properties"].keys()
    assert (
        PUBLISHED[name]["method"].keys()
        <= schema["methods"]["additionalProperties"]["properties"].keys()
    )
    recipe = study(name, tmp_path).settings("wa")
    required = ["--data", "d", "--order", "o", "--tasks", "50", "10", "--output", "x"]
    assert train.parse([*required, *recipe.flags().split()])[1] == recipe
    assert set(schema["recipe"]["enum"]) == set(PUBLISHED)


def test_a_config_goes_over_the_recipe_key_by_key(tmp_path):
    plain = study("pycil", tmp_path)
    changed = study("pycil", tmp_path, training={"lr": 0.2, "base": {"epochs": 3}})
    assert (changed.settings(None).lr, changed.settings("wa").lr) == (0.2, 0.2)
    assert (changed.settings(None).epochs, changed.settings("wa").epochs) == (3, 170)
    assert changed.settings(None).milestones == plain.settings(None).milestones == (60, 120, 170)
    everywhere = study("pycil", tmp_path, training={"epochs": 4})
    assert (everywhere.settings(None).epochs, everywhere.settings("wa").epochs) == (4, 4)
    methods = {
        "a": {"memory": 2000, "distillation": "recipe", "mix": "sum", "temperature_squared": True},
        "b": {
            "memory": 2000,
            "distillation": "recipe",
            "recipe": "tutorial",
            "training": {"lr": 0.3},
        },
    }
    own = study("pycil", tmp_path, methods=methods, training={"momentum": 0.8})
    assert (
        own.settings("a").mix,
        own.settings("a").distillation,
        own.settings("a").temperature_squared,
    ) == ("sum", "dynamic", True)
    b = own.settings("b")
    assert (b.mix, b.distillation, b.lr, b.momentum, b.schedule) == (
        "sum",
        0.5,
        0.3,
        0.8,
        "cosine",
    )
    assert own.bases == {"a": "", "b": "-tutorial-lr-0.3"}
    assert Settings().flags() == ""


def test_a_recipe_leaves_a_method_with_a_distillation_of_its_own_alone(tmp_path):
    """Otherwise a convex recipe would weight the cross-entropy of some methods by -2 or 0.

    These are lwf (-2), icarl and ss-il (0) of docs/methods.md.
    """
    methods = {
        "lwf": {
            "distillation": 3,
            "temperature_squared": False,
            "classification_loss": "separated",
        },
        "icarl": {"memory": 2000, "distillation": 1, "classifier": "nme"},
        "kd": {"memory": 2000, "distillation": "dynamic"},
        "replay": {"memory": 2000},
    }
    for name in NAMES:
        one = study(name, tmp_path, methods=methods)
        assert {one.settings(m).mix for m in methods} == {"sum"}
        assert (
            one.settings("icarl").temperature_squared
            and not one.settings("lwf").temperature_squared
        )


@pytest.mark.parametrize("weight", [1, 3])
def test_a_cross_entropy_without_weight_is_refused(weight, tmp_path):
    with pytest.raises(
        UserError,
        match=f"methods.m.mix: convex weights the cross-entropy by 1 - distillation = {1 - weight}",
    ):
        study("none", tmp_path, methods={"m": {"distillation": weight, "mix": "convex"}})
