"""What a plan knows of an algorithm's file, and what of the file a result depends on."""

import sys
from dataclasses import asdict

import pytest
from helpers import ROOT, small_study

from wa.code import Code
from wa.errors import UserError
from wa.identity import training_code
from wa.methods import algorithm
from wa.methods.learner import Learner
from wa.study.settings import Settings
from wa.study.study import Study

MINE = '''"""Mine."""
import sys

from wa.methods.learner import Learner

OPTIONS = {"strength": 2.0, "name": "a"}
CHOICES = {"memory": 20, "training": {"epochs": 3}}

sys.ran = True


def unused():
    return 1


class Mine(Learner):
    task_0 = ("name",)

    def losses(self, x, label):
        found = super().losses(x, label)
        return found._replace(total=self.options["strength"] * found.total)
'''


@pytest.fixture
def own(tmp_path):
    """A function from the text of a file of one's own to its path."""

    def write(text: str = MINE, name: str = "mine.py") -> str:
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return write


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A function from the choices of a method to the study that has it alone."""
    monkeypatch.chdir(tmp_path)

    def plan(choices: dict, **training: object) -> Study:
        config = small_study()
        config["training"] |= training
        return Study(config | {"methods": {"it": choices}})

    return plan


def test_a_plan_reads_the_facts_and_does_not_run_the_file(own):
    found = algorithm.facts(own())
    assert (found.learner, found.classifier, found.task_0) == ("Mine", "", ("name",))
    assert found.options == {"strength": 2.0, "name": "a"}
    assert not hasattr(sys, "ran")
    assert algorithm.load(own(), "Learner").__name__ == "Mine"
    assert sys.ran
    del sys.ran


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = 1\n", "has no class that extends Learner or FeatureClassifier"),
        ("class A(Learner): pass\nclass B(Learner): pass\n", "two classes of the kind Learner"),
        ("class A(Learner\n", "cannot be read as Python"),
        (
            "OPTIONS = dict(a=1)\nclass A(Learner): pass\n",
            "line 1: OPTIONS, CHOICES",
        ),
        (
            "class A(FeatureClassifier):\n    def fit(self, learned, before):\n        return {}\n",
            "line 1: the class A must define scores",
        ),
    ],
)
def test_a_file_that_is_no_algorithm_is_one_error(own, text, said):
    with pytest.raises(UserError, match=said):
        algorithm.facts(own(text, f"{abs(hash(text))}.py"))


def test_options_are_checked_and_have_defaults(own):
    file = own()
    assert algorithm.with_defaults(file, {"strength": 3}) == {"strength": 3.0, "name": "a"}
    with pytest.raises(UserError, match=r"has no option .margin."):
        algorithm.with_defaults(file, {"margin": 1})
    with pytest.raises(UserError, match=r"'much' must be a number, such as 2\.0"):
        algorithm.with_defaults(file, {"strength": "much"})
    for name, given, said in (
        ("ranpac", {"projections": -5}, "-5 must be 1 or more"),
        ("ranpac", {"projections": 1.5}, "1.5 must be an integer, such as 10000"),
        ("slda", {"shrinkage": -0.1}, "-0.1 must be 0 or more"),
        ("slda", {"shrinkage": float("nan")}, "nan must be 0 or more"),
    ):
        with pytest.raises(UserError, match=said):
            algorithm.with_defaults(name, given)
    assert algorithm.with_defaults(file, {"strength": -3})["strength"] == -3  # its author may
    assert algorithm.with_defaults("der", {"fine_tuning_epochs": 0})["fine_tuning_epochs"] == 0
    words = algorithm.to_words({"strength": 3.0, "name": "a b=c"})
    assert words == ('name="a b=c"', "strength=3.0")
    assert algorithm.from_words(words) == {"strength": 3.0, "name": "a b=c"}


def test_choices_of_the_file_stand_under_those_of_the_config(own, planned):
    file = own()
    study = planned({"algorithm": file, "options": {"strength": 1}}, epochs=7)
    later, base = study.settings("it"), study.settings("it", base=True)
    assert study.config["methods"]["it"]["memory"] == 20
    assert (later.epochs, base.epochs) == (3, 7)
    assert later.options == ('name="a"', "strength=1.0")
    assert base.options == ('name="a"', "strength=2.0")  # strength does not matter in task 0
    assert study.bases == {"it": "-mine"}
    study = planned({"algorithm": file, "memory": 40, "training": {"epochs": 5}})
    assert study.settings("it").epochs == 5 and study.config["methods"]["it"]["memory"] == 40


def test_methods_that_act_after_task_0_share_it(planned):
    study = planned({"algorithm": "simplecil"})
    assert study.bases == {"it": ""} and study.settings("it", base=True).algorithm == "standard"
    assert study.run_table().classifiers == {"it": "fitted"}


def test_a_plan_says_that_it_will_run_a_file(own, planned):
    file = own()
    (note,) = planned({"algorithm": file}).notes
    assert note == f"methods.it.algorithm: the jobs of this method run the Python code of {file}"
    assert planned({"algorithm": "ewc"}).notes == []


def test_an_unknown_algorithm_is_refused_by_its_key(planned):
    with pytest.raises(UserError, match=r"methods\.it\.algorithm: nobody\.py does not exist"):
        planned({"algorithm": "nobody.py"})
    with pytest.raises(UserError, match=r"methods\.it\.options: ewc has no option"):
        planned({"algorithm": "ewc", "options": {"x": 1}})
    with pytest.raises(UserError, match=r"an option of ewc: options: \{strength: 2\}"):
        planned({"algorithm": "ewc", "strength": 2})
    with pytest.raises(UserError, match=r"unknown key 'strength'"):
        planned({"algorithm": [], "strength": 2})


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"algorithm": "lucir"}, "algorithm lucir has a loss of its own.*options distillation"),
        ({"algorithm": "memo"}, "algorithm memo has a loss of its own"),
        ({"start": "scratch"}, "start: scratch has none"),
        ({"algorithm": "ranpac"}, "epochs: 0 trains nothing after task 0"),
    ],
)
def test_distillation_without_effect_is_refused(planned, choices, said):
    with pytest.raises(UserError, match=rf"methods\.it\.distillation: .*{said}"):
        planned(choices | {"distillation": "dynamic", "memory": 20})


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"memory": 20, "temperature": 4}, "temperature: it has no effect without distillation"),
        ({"algorithm": "lucir", "memory": 20, "mix": "convex"}, "mix: it has no effect without"),
        ({"alignment": "unit", "gamma_limit": 1}, "gamma_limit: .* alignment: weight"),
        ({"selection": "random"}, "selection: .* without memory, for instance memory: 2000"),
    ],
)
def test_a_key_without_effect_is_refused(planned, own, choices, said):
    with pytest.raises(UserError, match=rf"methods\.it\.{said}"):
        planned(choices)
    planned(choices | {"algorithm": own()})  # its author may use any key
    planned({"temperature": 2, "selection": "herding", "gamma_limit": None})  # the defaults


OWN_LOSS = """
from wa.methods.learner import Learner

class Mine(Learner):
    def losses(self, x, label):
        return {}
"""


def test_a_loss_of_ones_own_that_uses_no_distillation_refuses_it(own, planned):
    choices = {"distillation": 1, "memory": 20}
    with pytest.raises(UserError, match="has a loss of its own"):
        planned(choices | {"algorithm": own(OWN_LOSS.format("None"))})
    losses = ("super().losses(x, label)", "self.distillation(x, x)", "self.kd_weight * x")
    for number, loss in enumerate(losses):
        planned(choices | {"algorithm": own(OWN_LOSS.format(loss), f"mine{number}.py")})


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"memmory": 20}, "unknown key 'memmory'; did you mean 'memory'"),
        ({"alignment": "wieght"}, "alignment: 'wieght'"),
        ({"training": {"epoch": 3}}, "training: unknown key 'epoch'; did you mean 'epochs'"),
        ({"memory": "lots"}, "memory: 'lots'"),
    ],
)
def test_choices_of_a_file_are_checked_as_those_of_the_config(own, planned, choices, said):
    file = own(f"CHOICES = {choices}\n{OWN_LOSS.format('None')}")
    with pytest.raises(UserError, match=rf"methods\.it\.algorithm: CHOICES of .*mine\.py: {said}"):
        planned({"algorithm": file})


@pytest.mark.parametrize("name", ["ewc", "lucir", "podnet"])
def test_rows_that_an_algorithm_keeps_are_not_drawn_anew(planned, name):
    """EWC would pull them to random rows, and the others would freeze random rows."""
    choices = {"algorithm": name, "memory": 20}
    redraw = {"training": {"redraw_classifier": "start"}}
    said = rf"methods\.it\.training\.redraw_classifier: start draws .*algorithm {name} keeps them"
    with pytest.raises(UserError, match=said):
        planned(choices | redraw)
    with pytest.raises(UserError, match="redraw_classifier: start draws"):
        planned(choices | {"recipe": "authors"})
    planned(choices | {"algorithm": "il2m"} | redraw)
    planned({"algorithm": "ewc", "start": "scratch"} | redraw)
    later = {"training": {"redraw_classifier": "after-warmup"}}
    if name == "ewc":
        planned(choices | later)  # the rows before it are noted by then
    else:
        with pytest.raises(UserError, match="redraw_classifier: after-warmup draws"):
            planned(choices | later)


@pytest.mark.parametrize("name", ["lucir", "podnet"])
@pytest.mark.parametrize("alignment", ["weight", "bias"])
def test_a_classifier_of_cosines_is_not_aligned(planned, name, alignment):
    """`weight` would change nothing, and `bias` failed after the training."""
    choices = {"algorithm": name, "memory": 40, "alignment": alignment, "held_out": 0.1}
    said = f"methods.it.alignment: {alignment} changes the lengths of rows .* algorithm {name} does"
    with pytest.raises(UserError, match=said):
        planned(choices)
    planned(choices | {"algorithm": "il2m"})


@pytest.mark.parametrize("name", ["der", "eeil", "foster", "gdumb", "il2m", "podnet"])
def test_a_method_that_needs_a_memory_is_refused_without_one(planned, name):
    with pytest.raises(UserError, match=rf"methods\.it\.memory: algorithm {name} needs one"):
        planned({"algorithm": name})
    planned({"algorithm": name, "memory": 20})


def test_every_loss_of_an_algorithms_own_says_whether_it_distils():
    for name in set(algorithm.NAMES) - {algorithm.STANDARD}:
        if algorithm.facts(name).learner:
            learner = algorithm.load(name, "Learner")
            assert (learner.losses is not Learner.losses) == (learner.distils is not None), name
            assert learner.distils is algorithm.facts(name).distils


def code_of(file: str) -> str:
    return training_code(Code(ROOT), asdict(Settings(algorithm=file)))


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("import sys\n", "import sys  # a comment\n", True),
        ('"""Mine."""', '"""Another text."""', True),
        ("return 1", "return 2", True),  # the class does not reach it
        ("self.options", "2 * self.options", False),
        ('"memory": 20', '"memory": 30', True),  # the settings have the values
    ],
)
def test_the_code_of_the_class_counts_and_nothing_else(own, old, new, same):
    before = code_of(own())
    changed = MINE.replace(old, new)
    assert changed != MINE
    assert (code_of(own(changed, "moved.py")) == before) == same


def test_the_standard_does_not_depend_on_the_algorithms():
    """So a new algorithm trains nothing again."""
    standard = training_code(Code(ROOT), asdict(Settings()))
    assert code_of("ewc").startswith(standard) and code_of("ewc") != standard


@pytest.mark.parametrize("line", ["import helper", "from helper import x", "from . import helper"])
def test_a_file_that_imports_another_of_ones_own_is_refused(own, line):
    own("x = 1\n", "helper.py")
    with pytest.raises(UserError, match=r"mine.py, line 3: it imports .* a file of yours"):
        algorithm.facts(own(MINE.replace("import sys\n", f"import sys\n{line}\n")))
