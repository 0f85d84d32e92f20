"""Config files: what is written is what is read, or an error with file, line and column."""

import json
import math
from pathlib import Path

import pytest
import yaml
from helpers import small_study, snakemake

from wa.errors import UserError
from wa.study.config_file import dump, read_all, read_config, read_option
from wa.study.study import Study


def read(folder: Path, text: str | bytes, name: str = "my study.yaml") -> dict:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(file)


def refused(folder: Path, text: str | bytes, name: str = "my study.yaml") -> str:
    with pytest.raises(UserError) as error:
        Study(read(folder, text, name), str(folder))
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder}/")


WORDS = [
    *((word, word) for word in ("no", "on", "Yes", "y", "1:30", "2020-01-01", "1_000", "1e", "=")),
    *(("null", None), ("~", None), ("", None), ("true", True), ("FALSE", False)),
    *(("10", 10), ("-3", -3), ("0", 0), ("0o17", 15), ("0x1F", 31)),
    *(("1e-3", 0.001), ("5E4", 5e4), ("0.05", 0.05), (".5", 0.5), ("1.", 1.0), (".inf", math.inf)),
    *(("'010'", "010"), ('"null"', "null"), ("!!str 010", "010"), ("&a 7", 7)),
]


@pytest.mark.parametrize("word, value", WORDS)
def test_a_word_is_what_the_core_schema_of_yaml_1_2_says(tmp_path, word, value):
    found = read(tmp_path, f"a: {word}\n")["a"]
    assert found == value and type(found) is type(value)
    assert read(tmp_path, f"a: [{word or '~'}]\n")["a"] == [value]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: {}\na: 2\n", "3:1: the key 'a' is there twice. The first is in line 1"),
        ("m:\n  wa: {b: 1}\n  wa: {}\n", "3:3: the key 'wa' is there twice"),
        ("m: {'x': 1, x: 2}", "1:13: the key 'x' is there twice"),
        ('{"a":\t1,\n\t"a": 2}', "2:2: the key 'a' is there twice"),
        ("m:\n  null: {}\n", "2:3: the key null is null, not text. Put it in quotes"),
        ("m:\n  1: {}\n", "2:3: the key 1 is a number, not text"),
        ("? [1]\n: 2\n", "1:3: a key must be text"),
        ("orders: [010]", "1:10: 010 begins with 0, which not every program reads alike. Write 10"),
        ("a: -00.5", "1:4: -00.5 begins with 0, which not every program reads alike. Write -0.5"),
        ("a: &x {b: 1}\nc: {<<: *x}", "2:5: YAML 1.2 has no merge"),
        ("%YAML 1.1\n---\na: no", "1:1: a config is YAML 1.2"),
        ("a: 1\n---\na: 2", "2:1: this is not valid YAML: expected a single document"),
        ("a: b\n c: d", "2:3: this is not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "2:1: this is not valid YAML"),
        ("a: *x", "1:4: this is not valid YAML: found undefined alias"),
        ("a: b\nc: \x07", "2:4: this is not valid YAML: the character '\\x07' is not allowed"),
        ("a: !!int x", "1:4: the tag tag:yaml.org,2002:int is not possible for 'x'"),
        ("- a", "1:1: this holds no keys"),
        ("", "1:1: this holds no keys"),
        ("a: " + "9" * 5000, "1:4: a number of 5000 digits is not possible"),
        ("a: é\nb: ü".encode("latin-1"), "1:4: the byte 0xe9 is not UTF-8. Save the file as UTF-8"),
        ("a: b".encode("utf-16"), "1:1: the byte 0xff is not UTF-8. It seems to be UTF-16."),
    ],
)
def test_what_could_be_lost_or_mistaken_is_refused_with_its_place(tmp_path, text, message):
    assert refused(tmp_path, text).startswith(f"my study.yaml:{message}")


def test_a_config_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"none.yaml does not exist"):
        read_config(tmp_path / "none.yaml")


CONFIG = """\
experiment: first
dataset: digits
protocols:
  - {base: 4, increment: 2}
methods:
  'no': {memory: 20}
  on: {memory: 20}
training: {backbone: resnet8, augmentation: [crop-1]}
"""


def test_names_stay_as_they_are(tmp_path):
    """`no` and `on` are truth values in YAML 1.1."""
    study = Study(read(tmp_path, "\ufeff" + CONFIG), str(tmp_path))
    assert list(study.config["methods"]) == ["no", "on"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("on:", "wa.b: {memory: 3}\n  on:", "7:10: methods.wa.b.memory: 3 exemplars are fewer"),
        ("on: {memory: 20}", "on: {memry: 20}", "7:8: methods.on: unknown key 'memry'; did you"),
        ("  on:", "  'a b':", "7:3: methods: 'a b' is not a valid name. It may hold only letters"),
        ("experiment: first", "experiment: my study", "1:1: experiment: 'my study' is not a valid"),
        ("experiment: first", "experiment: 5", "1:1: experiment: 5 is not a name, but a number. P"),
        ("dataset: digits\n", "", "1:1: at the top: the key `dataset` is missing"),
        ("- {base: 4", "- {base: 9", "3:1: protocols: base 9 + increment 2 do not fit 10 classes"),
        ("methods:", "seeds: [0, 1, 0]\nmethods:", "5:1: seeds: [0, 1, 0] names a seed twice"),
        (
            "methods:",
            "seeds: [0, 1:30]\nmethods:",
            "5:12: seeds.1: '1:30' is not an integer",
        ),
        ("methods:", "orders: [its]\nmethods:", "5:1: orders: 'its' is neither a seed"),
        ("methods:", "draft: no\nmethods:", "5:1: draft: 'no' is not `true` or `false`. YAML 1.2"),
        ("methods:", "classes: [true]\nmethods:", "5:11: classes.0: true is not a name, but true"),
        ("training: {", "training: {lr: .nan, ", "8:12: training.lr: nan is not a number"),
        ("dataset: digits", "dataset: pets", "2:1: dataset 'pets' is not built in"),
    ],
)
def test_every_error_says_where_the_key_stands(tmp_path, old, new, message):
    text = CONFIG.replace(old, new, 1)
    assert refused(tmp_path, text + f"path: {tmp_path}\n").startswith(f"my study.yaml:{message}")


def test_a_key_without_a_place_of_its_own_has_that_of_what_holds_it(tmp_path):
    config = read(tmp_path, CONFIG)
    assert config.place("methods.on.training.lr") == f"{tmp_path}/my study.yaml:7:3"
    assert config.place("seeds") == f"{tmp_path}/my study.yaml:1:1"


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read_as_json(tmp_path, indent):
    config = small_study() | {"class_orders": {"mine": list(range(10))}}
    config["training"]["lr"] = 1e-05
    assert read(tmp_path, json.dumps(config, indent=indent)) == config


def test_files_and_options_go_over_each_other(tmp_path):
    first = tmp_path / "first.yaml"
    second = tmp_path / "second.json"
    first.write_text("a: {b: 1, c: [1, 2]}\nd: 1\n")
    second.write_text('{"a": {"c": [3]}}')
    config = read_all([first, second], ["d={e: 1e-3}", "f=no", "g=True"])
    assert config == {"a": {"b": 1, "c": [3]}, "d": {"e": 0.001}, "f": "no", "g": True}
    assert config.place("a.b") == f"{first}:1:5" and config.place("a.c") == f"{second}:1:8"
    assert config.place("d.e") == "--config d:1:2"


@pytest.mark.parametrize(
    "option, message",
    [
        ("path=/x #1", "--config path: '#1' would be lost"),
        ("seeds=[0, 010]", "--config seeds:1:5: 010 begins with 0"),
        ("training={epochs: 1, epochs: 2}", "--config training:1:13: the key 'epochs' is there tw"),
    ],
)
def test_an_option_is_read_as_strictly(option, message):
    with pytest.raises(UserError) as error:
        read_option(option)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "word", ["no", "1:30", "1e3", "0o7", "010", "null", "5", "2020-01-01", "~", ".inf", "0x1", "a"]
)
def test_what_is_written_is_the_same_to_yaml_1_1_and_1_2(tmp_path, word):
    value = {"words": [word, {word: word}], "numbers": [1e-5, 2.0, 3, None, True]}
    assert read(tmp_path, dump(value)) == yaml.safe_load(dump(value)) == value


@pytest.fixture
def plan(tmp_path):
    """What Snakemake says of a config file in a dry run, and whether it accepts it."""

    def run(name: str, text: str, *options: str) -> tuple[bool, str]:
        file = tmp_path / name
        file.write_text(text)
        files = ("--configfile", str(file))
        run = snakemake(tmp_path, "-n", "--quiet", "rules", *files, *options)
        return run.returncode == 0, run.stdout

    return run


def test_snakemake_reads_what_the_programs_read(plan, tmp_path):
    right, said = plan("a.yaml", CONFIG.replace("  on:", "  'no': {}\n  on:"))
    assert not right and f"{tmp_path}/a.yaml:7:3: the key 'no' is there twice" in said
    assert "Traceback" not in said
    right, said = plan("a.yaml", CONFIG, "--config", "training={lr: 1e-1}")
    assert right, said
    right, said = plan("a.yaml", CONFIG, "--config", "training={epoch: 5}")
    assert not right and "--config training:1:2: training: unknown key 'epoch'" in said


def test_a_config_in_json_works_everywhere(plan, tmp_path):
    text = json.dumps(small_study() | {"seeds": [0]}, indent="\t").replace("0.05", "5e-2")
    right, said = plan("a.json", text)
    assert right, said
    study = Study(read_config(tmp_path / "a.json"), str(tmp_path))
    assert study.config["training"]["lr"] == 0.05
