"""Configs: a wrong one is refused in one line before anything runs. A right one becomes tasks."""

import numpy as np
import pytest
import yaml
from data.test_datasets import write_noise
from helpers import small_study

from wa.data.memory import Memory
from wa.errors import UserError
from wa.study.config import SCHEMA
from wa.study.study import Study, task_images


def changed(config, where, value):
    keys = where.split(".")
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return config


BAD = [
    ("epoch", 3, "unknown key 'epoch'"),
    ("training.epoch", 3, "training: unknown key 'epoch'; did you mean 'epochs'?"),
    ("training.base", {"epoch": 3}, "training.base: unknown key 'epoch'; did you mean 'epochs'?"),
    (
        "methods.wa.aligment",
        "weight",
        "methods.wa: unknown key 'aligment'; did you mean 'alignment'?",
    ),
    (
        "methods.wa.alignment",
        "weigth",
        "methods.wa.alignment: 'weigth' is not a valid value. Did you mean weight? Possible: none,",
    ),
    ("methods.lucir", None, "methods.lucir is empty: write `lucir: {}` for a method without"),
    ("methods.wa.memory", 9, "methods.wa.memory: 9 exemplars are fewer than the 10 classes"),
    ("methods.wa.memory", "lots", "methods.wa.memory: 'lots' is not a valid value"),
    (
        "methods.wa.memory",
        "20/clas",
        "'20/clas' is not a valid value. Possible: an integer from 0 to 1000000000, `N/class` such"
        " as `20/class`, or `all`. The exemplars",
    ),
    ("methods.wa.memory", -20, "Possible: an integer from 0 to 1000000000, `N/class` such as"),
    ("protocols", [{"base": 8, "increment": 3}], "base 8 + increment 3 do not fit 10 classes"),
    ("protocols", [{"base": 11, "increment": 1}], "base 11 + increment 1 do not fit 10 classes"),
    (
        "protocols",
        [{"base": 0, "increment": 2}, {"base": 2, "increment": 2}],
        "base 2, increment 2 is there twice",
    ),
    ("protocols", [], "a study needs `protocols`, for instance protocols: [{base: 50,"),
    ("protocols", [{"base": 4}], "protocols.0: a protocol is {base: 50, increment: 10} or"),
    ("protocols", [{"sizes": [4, 6], "base": 4}], "protocols.0: a protocol is"),
    ("protocols", [{"sizes": [4, 5]}], "the sizes [4, 5] add up to 9, but there are 10"),
    ("protocols", [{"sizes": [4, 2, 2, 2]}, {"base": 4, "increment": 2}], "is there twice"),
    ("orders", ["mine"], "'mine' is neither a seed"),
    ("class_orders.mine", [0, 1, 2], None),  # not used by this study: no error
    ("training.lr", -0.1, "training.lr: -0.1 is less than or equal to the minimum of 0"),
    ("training.lr", "1e-3", "'1e-3' is not a number above 0, at most 100. Write it without quotes"),
    ("training.lr", 1000, "training.lr: 1000 is greater than the maximum of 100"),
    ("seeds", 0, "seeds: 0 is no list. Write it in brackets: [0]. The seeds of"),
    ("tasks", ["cat, dog"], "tasks.0: 'cat, dog' is no list. Write it in brackets: [cat, dog]"),
    ("protocols", {"base": 4, "increment": 2}, "in brackets: [{base: 4, increment: 2}]. How a"),
    ("seeds", "x" * 900, "is no list. Write it in brackets: [...]."),
    ("methods.wa.algorithm", "LUCIR", "'LUCIR' is not a valid value. Did you mean lucir?"),
    ("methods.wa", {"Memory": 20}, "methods.wa: unknown key 'Memory'; did you mean 'memory'?"),
    ("methods.wa.options", ["strength"], "Write the names as keys: {strength: ...}."),
    ("dataset", "CIFAR-100", "did you mean 'cifar100'?), and path"),
    ("methods", ["wa", "kd"], "is a list. Write the names as keys: {wa: {}, kd: {}}. The methods"),
    ("methods.wa", 20, "methods.wa: 20 has no keys. Write {key: value}."),
    ("training.batch_size", 0, "training.batch_size: 0 is less than the minimum of 2"),
    ("training.batch_size", 64.5, "training.batch_size: 64.5 is not an integer at least 2"),
    (
        "training.batch_size",
        5000,  # a task with fewer images has one batch
        None,
    ),
    ("processes", 40, "training.batch_size: 64 is too few for 40 processes"),
    (
        "training.backbone",
        "resnet19",
        "'resnet19' is not a valid value. Did you mean resnet18? Possible: resnet8, resnet20",
    ),
    ("methods.wa.memory", "0/class", "methods.wa.memory: '0/class' is not a valid value"),
    (
        "methods.wa.distillation_loss",
        "kl",
        "methods.wa.distillation_loss: 'kl' is not a valid value. Possible: softmax, taskwise",
    ),
    ("methods.wa.form", "taskwise", "unknown key 'form'; did you mean 'distillation_loss'?"),
    (
        "methods.wa.classification",
        "separated",
        "unknown key 'classification'; did you mean 'classification_loss'?",
    ),
    (
        "training.augmentation",
        ["erase-0.5", "flip"],
        "training.augmentation: 'erase-0.5' stands before 'flip': erase must be the last",
    ),
    ("training.augmentation", ["flip", "resized-crop-8"], "'resized-crop-8' must be the first"),
    ("training.augmentation", ["rand-m9-w0"], "'rand-m9-w0': unknown section 'w0'"),
    ("training.augmentation", ["rand-m9-p1.5"], "p is 1.5, but a probability is at most 1"),
    (
        "training.augmentation",
        ["rand-m9"],
        "rand-m9 needs colour images (3 channels), but these have 1",
    ),
    ("training.augmentation", ["jitter-1-1-1"], "jitter-1-1-1 needs colour images"),
    (
        "training.augmentation",
        ["resized-crop-16"],
        "training.augmentation: resized-crop-16 is larger than the images, 8 x 8 pixels",
    ),
    ("training.augmentation", ["crop-8"], "crop-8 pads by as much as the images are large"),
    (
        "methods.wa.training",
        {"augmentation": ["erase-2"]},
        "methods.wa.training.augmentation: 'erase-2': 2 is not a probability",
    ),
    ("training.schedule", "step", "training.schedule: step needs milestones"),
    ("training.milestones", [3, 2], "training.milestones: [3, 2] do not rise"),
    ("training.milestones", [2, 2], "training.milestones: [2, 2] do not rise"),
    ("training.milestones", [1000], None),  # beyond the last epoch: allowed, without effect
    ("training.base", {"schedule": "step"}, "training.base.schedule: step needs milestones"),
    (
        "training.backbone",
        "timm/resnt18",
        "timm has no model 'resnt18'; did you mean timm/resnet18",
    ),
    ("training.backbone", "torchvision/resnet19", "did you mean torchvision/resnet"),
    ("training.backbone", "timm/resnet18.a1_in1k", None),
    ("training.pretrained", "none.pth", "training.pretrained: none.pth does not exist"),
    (
        "methods.wa.training",
        {"epoch": 3},
        "methods.wa.training: unknown key 'epoch'; did you mean 'epochs'?",
    ),
    (
        "methods.wa.training",
        {"base": {"bias": False}},
        "methods.wa.training.base: unknown key 'bias'",
    ),
    (
        "methods.wa.recipe",
        "pycyl",
        "methods.wa.recipe: 'pycyl' is not a valid value. Did you mean pycil? Possible: study,",
    ),
    ("methods.wa.distillation", "recipe", "methods.wa.distillation: `recipe` needs a recipe"),
    (
        "methods.wa.alignment",
        "bias",
        "methods.wa.alignment: bias is fitted on held-out images, so it needs held_out",
    ),
    (
        "methods.bic",
        {"memory": 19, "held_out": 0.1},
        "methods.bic.memory: 19 exemplars are too few to hold some of each class out",
    ),
    (
        "methods.bic",
        {"memory": "1/class", "held_out": 0.1},
        "methods.bic.memory: 1/class leaves none to hold out",
    ),
    (
        "methods.bic",
        {"held_out": 0.1},
        "methods.bic.held_out is a fraction of the exemplars, so it needs a memory",
    ),
    (
        "methods.icarl",
        {"classifier": "nme"},
        "methods.icarl.classifier: nme is the nearest mean of exemplars",
    ),
    ("reference", "war", "reference: 'war' is not one of the methods: finetune,"),
    ("training.augmentation", ["crop-1", "mixup"], "mixup"),
    ("show", ["wa", "was"], "show: 'was' is not a method of this config. Its methods are finetune"),
    ("show", ["wa", "wa"], "show: ['wa', 'wa'] has non-unique elements"),
    ("figures", {"labels": {"was": "WA"}}, "figures.labels: 'was' is not a method of this config."),
    ("figures", {"labels": {"wa": "_"}}, "figures.labels.wa: '_' is not a valid value. A label"),
    (
        "figures",
        {"colors": {"wa": "red"}},
        "figures.colors.wa: 'red' is not a valid value. A",
    ),
    (
        "figures",
        {"draw": ["acuracy"]},
        "figures.draw.0: 'acuracy' is not a valid value. Did you mean accuracy? Possible:",
    ),
    ("figures", {"columns": 3}, "figures.columns: 3 is greater than the maximum of 2"),
    ("seeds", [-1], "seeds.0: -1 is less than the minimum of 0"),
    ("seeds", [0, 0], "seeds: [0, 0] names a seed twice"),
    (
        "experiment",
        "../elsewhere",
        "'../elsewhere' is not a valid name. It may hold only letters, digits",
    ),
    ("experiment", "data", "experiment: 'data' is reserved. Choose another name"),
    ("dataset", "cifar1000", "(digits, cifar10, cifar100; did you mean 'cifar100'?), and path"),
    ("dataset", "pets", "dataset 'pets' is not built in (digits, cifar10, cifar100), and path"),
]


@pytest.mark.parametrize("where, value, message", BAD)
def test_bad_configs(config, tmp_path, where, value, message):
    config = {"class_orders": {}, **config, "path": str(tmp_path)}
    config = changed(config, where, value)
    if message is None:
        Study(config, str(tmp_path))
        return
    with pytest.raises(UserError) as error:
        Study(config, str(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_an_order_that_is_no_permutation(config, tmp_path):
    config |= {"orders": ["mine"], "class_orders": {"mine": [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]}}
    with pytest.raises(
        UserError,
        match=r"class_orders.mine must hold each of the 10 classes 0 to 9 once. Missing: \[9\]",
    ):
        Study(config, str(tmp_path))


@pytest.mark.parametrize(
    "order, said",
    [
        ([0, 1, 2], "Missing: [3, 4, 5, 6, 7, 8, 9]"),
        ([*range(10), 3], "Repeated or out of range: [3]"),
        ([*range(9), 12], "Missing: [9]. Repeated or out of range: [12]"),
    ],
)
def test_what_is_wrong_with_an_order(config, tmp_path, order, said):
    config |= {"orders": ["mine"], "class_orders": {"mine": order}}
    with pytest.raises(UserError) as error:
        Study(config, str(tmp_path))
    assert str(error.value).endswith(f"0 to 9 once. {said}")


def test_every_key_has_a_description_and_a_default_or_is_required():
    """The keys of `training` are described once, under $defs. Sections over it have no defaults."""
    schema = yaml.safe_load(SCHEMA.read_text())

    def walk(section, path):
        for key, sub in section.get("properties", {}).items():
            definition = schema["$defs"][key] if "$ref" in sub else sub
            assert definition.get("description"), f"{path}{key}"
            # Of a method, of task 0, or of one of two kinds of protocols.
            over = path.endswith((".training.", ".base.")) or path == "protocols.*."
            assert over or "default" in sub or key in section.get("required", []), f"{path}{key}"
            walk(sub, f"{path}{key}.")
        for sub in (section.get("additionalProperties"), section.get("items")):
            if isinstance(sub, dict):
                walk(sub, f"{path}*.")

    walk(schema, "")


def test_the_table_shares_what_runs_share(config, tmp_path):
    config |= {
        "orders": [1993, "natural"],
        "seeds": [0, 1],
        "protocols": [{"base": 4, "increment": i} for i in (1, 2, 4)],
    }
    study = Study(config, str(tmp_path))
    runs = list(study.runs())
    assert len(runs) == 2 * 2 * 3 * 3
    assert len({run[0].learned for run in runs}) == 4  # bases
    assert {len(run) for run in runs} == {7, 4, 3}  # base 4, increment 4: 4 + 4 + 2 classes
    for run in runs:
        assert [len(t.sizes) for t in run] == list(range(1, len(run) + 1)) and sum(
            run[-1].sizes
        ) == 10
        assert [t.previous for t in run[1:]] == [t.learned for t in run[:-1]]
        assert all(study.tasks[t.path] == t for t in run)


def test_equal_bases_are_shared_and_others_named_after_what_differs(config, tmp_path):
    config["methods"] |= {
        "clipped": {"training": {"clip": True}},
        "clipped-wa": {"memory": 20, "alignment": "weight", "training": {"clip": True}},
        "not": {"training": {"clip": False}},
        "der": {"recipe": "der"},
        "der-unclipped": {"recipe": "der", "training": {"clip": False}},
        "bic": {
            "memory": 20,
            "alignment": "bias",
            "held_out": 0.1,
            "freeze": True,
            "classification_loss": "separated",
        },
    }
    study = Study(config, str(tmp_path))
    assert study.bases == {
        **dict.fromkeys(("finetune", "wa", "joint", "not", "bic"), ""),
        **dict.fromkeys(("clipped", "clipped-wa"), "-clip"),
        "der": "-der",
        "der-unclipped": "-der-no-clip",
    }
    bases = {t.path.split("/")[-1]: t.settings for t in study.base_tasks()}
    assert list(bases) == ["base-6", "base-6-clip", "base-6-der", "base-6-der-no-clip"]
    assert (
        bases["base-6-clip"].clip
        and not bases["base-6"].clip
        and bases["base-6-der"].redraw_classifier
    )
    for run in study.runs():
        assert run[0].learned.split("/")[-1] == "base-6" + study.bases[run[0].method]
    assert '"bases": {"clipped": "-clip", ' in study.run_table().to_json()


def test_what_is_default_is_not_passed_on(config, tmp_path):
    """Otherwise a new key would run everything again."""
    plain = Study(config, str(tmp_path))
    config["methods"]["wa"] |= {
        "selection": "herding",
        "held_out": 0,
        "classifier": "linear",
        "recipe": "study",
        "training": {},
    }
    config |= {"recipe": "none"}
    spelt_out = Study(config, str(tmp_path))
    assert plain.run_table() == spelt_out.run_table()
    assert [t.settings.flags() for t in plain.tasks.values()] == [
        t.settings.flags() for t in spelt_out.tasks.values()
    ]


def test_recipes_of_base_and_increments(config, tmp_path):
    config["training"] |= {"base": {"epochs": 7, "weight_decay": 1e-3}}
    study = Study(config, str(tmp_path))
    assert (
        study.settings(None).epochs,
        study.settings("wa").epochs,
        study.settings("joint").epochs,
    ) == (
        7,
        1,
        7,
    )
    assert study.settings("wa").distillation == "dynamic" and study.settings(None).distillation == 0
    assert study.settings(None).flags() == (
        "--backbone resnet8 --epochs 7 --batch-size 64 --lr 0.05 --weight-decay 0.001"
        " --augmentation crop-1"
    )


def test_methods_that_differ_after_task_0_only_share_it(tmp_path):
    alone = {"redraw_classifier": "start", "divide_weight_decay": True}
    methods = {"plain": {}, "other": {"training": alone}, "both": {"start": "trained"}}
    methods["warm"] = {"training": {"warmup": 1, "redraw_classifier": "after-warmup"}}
    config = small_study() | {"methods": methods}
    made = Study(config, str(tmp_path))
    assert made.bases["plain"] == made.bases["other"] == made.bases["both"] == ""
    assert made.bases["warm"] == "-warmup-1-redraw_classifier-after-warmup"
    assert made.settings("other").divide_weight_decay


def test_the_number_of_images_of_each_task():
    counts, ends = np.array([100, 60, 30, 12, 4, 1]), [2, 4, 6]
    for memory, expected in (
        (0, [160, 42, 5]),
        (20, [160, 42 + 20, 5 + 20]),  # 10 exemplars of each old class, then 5
        ("20/class", [160, 42 + 40, 5 + 20 + 20 + 20 + 12]),
        ("all", [160, 202, 207]),
    ):
        assert task_images(counts, ends, Memory.parse(memory), 0) == expected
    # 8 exemplars of each old class, and 4 of each class held out
    assert task_images(counts[:4], [2, 4], Memory.parse(16), 0.5) == [160, 42 + 16 - 4 * 4]


def unequal(path, counts):
    for c, count in enumerate(counts):
        write_noise(path / "train" / f"c{c}", count)
        write_noise(path / "test" / f"c{c}", 1)


def test_classes_of_unequal_size(config, tmp_path):
    unequal(tmp_path / "data", [9, 6, 3, 1])
    config |= {"dataset": "tail", "path": str(tmp_path / "data"), "orders": ["natural"]}
    config["protocols"] = [{"base": 2, "increment": 2}]
    config["methods"] = {"wa": {"memory": 4}, "joint": {"memory": "all"}, "finetune": {}}
    config["training"]["batch_size"] = 16
    Study(config, str(tmp_path))
    config["protocols"] = [{"base": 3, "increment": 1}]
    with pytest.raises(UserError, match=r"methods.finetune: task 1 .* has 1 images to train on"):
        Study(config, str(tmp_path))
    config["methods"] = {"bic": {"memory": 8, "held_out": 0.1, "alignment": "bias"}}
    with pytest.raises(UserError, match="of a new class that has 1"):
        Study(config, str(tmp_path))
    config |= {"orders": ["last"], "class_orders": {"last": [3, 0, 1, 2]}}
    with pytest.raises(UserError, match="an old class has 1 exemplars after task 0"):
        Study(config, str(tmp_path))
