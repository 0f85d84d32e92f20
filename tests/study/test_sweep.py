"""A sweep becomes methods. A wrong one is refused in one line."""

import pytest

from wa.errors import UserError
from wa.study.study import Study


@pytest.fixture
def swept(config) -> dict:
    return config | {"validation": 0.1}


def names(config: dict, folder) -> list[str]:
    return list(Study(config, str(folder)).config["methods"])


def test_a_grid_becomes_all_combinations_in_place_of_the_method(swept, tmp_path):
    swept["sweep"] = {"wa": {"distillation": [0.5, 1], "training": {"clip": [True, False]}}}
    study = Study(swept, str(tmp_path))
    made = [
        "wa-distillation-0.5-clip",
        "wa-distillation-0.5-no-clip",
        "wa-distillation-1-clip",
        "wa-distillation-1-no-clip",
    ]
    assert list(study.config["methods"]) == ["finetune", *made, "joint"]
    assert study.run_table().sweeps == {"wa": made}
    settings = study.settings("wa-distillation-0.5-clip")
    assert settings.clip and settings.distillation == 0.5
    assert study.memory_of("wa-distillation-1-clip").total == 20  # what is not swept stays
    # Task 0 of no-clip is that of the study, which the others share too.
    assert study.bases["wa-distillation-1-no-clip"] == study.bases["finetune"] == ""
    assert study.bases["wa-distillation-1-clip"] == "-clip"


def test_a_list_becomes_one_method_for_each_entry(swept, tmp_path):
    points = [{"memory": "3/class"}, {"training": {"augmentation": ["crop-1", "flip"]}}]
    points.append({"gamma_limit": 1, "training": {"base": {"epochs": 2}}})
    swept["sweep"] = {"wa": points}
    assert names(swept, tmp_path)[1:4] == [
        "wa-memory-3-class",
        "wa-augmentation-crop-1-flip",
        "wa-gamma_limit-1-base-epochs-2",
    ]


def test_options_of_an_algorithm(swept, tmp_path):
    swept["methods"] = {"ewc": {"algorithm": "ewc", "options": {"decay": 0.9}}}
    swept["sweep"] = {"ewc": {"options": {"strength": [10, 100]}}}
    study = Study(swept, str(tmp_path))
    assert list(study.config["methods"]) == ["ewc-strength-10", "ewc-strength-100"]
    options = study.config["methods"]["ewc-strength-10"]["options"]
    assert options["strength"] == 10 and options["decay"] == 0.9
    swept["sweep"] = {"ewc": {"options": {"strenght": [10, 100]}}}
    with pytest.raises(UserError, match="strenght"):
        Study(swept, str(tmp_path))


def test_a_value_more_leaves_the_other_names_as_they_were(swept, tmp_path):
    swept["sweep"] = {"wa": {"temperature": [1, 4]}}
    before = names(swept, tmp_path)
    swept["sweep"]["wa"]["temperature"] = [1, 2, 4]
    assert set(before) < set(names(swept, tmp_path))


def test_whole_numbers_have_one_name(swept, tmp_path):
    swept["sweep"] = {"wa": {"distillation": [1.0, 0.5]}}
    assert names(swept, tmp_path)[1:3] == ["wa-distillation-1", "wa-distillation-0.5"]


BAD = [
    ({"wb": {"memory": [20]}}, "sweep.wb: 'wb' is not one of the methods: finetune, wa, joint"),
    ({"wa": {"distilation": [1]}}, "sweep.wa: distilation is not a setting. Known: memory,"),
    ({"wa": {"training": {"lrr": [1]}}}, "sweep.wa: training.lrr is not a setting. Known: backb"),
    ({"wa": {"training": {"base": {"bias": [True]}}}}, "training.base.bias is not a setting"),
    ({"wa": {"training": [1]}}, "sweep.wa: training must hold settings, such as {lr: [0.1]}"),
    ({"wa": {"temperature": 2}}, "sweep.wa: temperature must be a list of values, such as"),
    ({"wa": {"temperature": []}}, "sweep.wa: temperature must be a list of values, such as"),
    ({"wa": {"temperature": [1, 1]}}, "sweep.wa: it has temperature-1 twice"),
    ({"wa": {"temperature": [0]}}, "sweep: methods.wa-temperature-0.temperature: 0 is less than"),
    (
        {"wa": {"alignment": ["weigth"]}},
        "'weigth' is not a valid value. Did you mean weight? Possible: none, weight,",
    ),
    ({"wa": {"temperature": list(range(1, 1002))}}, "sweep.wa: 1001 combinations are too many"),
    ({"wa": {"training": {"milestones": [list(range(1, 99))]}}}, "is too long. Sweep fewer"),
    ({"wa": []}, "sweep.wa: "),
    ({"wa": 3}, "sweep.wa: 3 is not a valid value"),
    ({"wa": {"memory": [9]}}, "methods.wa-memory-9.memory: 9 exemplars are fewer than"),
]


@pytest.mark.parametrize("sweep, message", BAD)
def test_bad_sweeps_are_one_line(swept, tmp_path, sweep, message):
    with pytest.raises(UserError) as error:
        Study(swept | {"sweep": sweep}, str(tmp_path))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_is_a_method_already(swept, tmp_path):
    swept["methods"]["wa-temperature-1"] = {}
    swept["sweep"] = {"wa": {"temperature": [1]}}
    with pytest.raises(UserError, match=r"sweep\.wa: wa-temperature-1 is a method already"):
        Study(swept, str(tmp_path))


def test_a_sweep_needs_validation(config, tmp_path):
    config["sweep"] = {"wa": {"temperature": [1, 2]}}
    with pytest.raises(UserError, match="so a sweep needs `validation`, for instance"):
        Study(config, str(tmp_path))
