"""Read a config from a file, exactly as it is written: YAML 1.2 or JSON, in UTF-8.

    config = read_config("mine.yaml")
    config["methods"]["wa"]               {"memory": 20, ...}
    config.places["methods.wa.memory"]    "mine.yaml:7:9"

A plain word is a number, true, false or null as the core schema of YAML 1.2 says
(https://yaml.org/spec/1.2.2/#103-core-schema). Any other word is text. So `no`, `on`, `1:30` and
`2020-01-01` are text, and 1e-3 is a number. What could be lost or mistaken is refused: a key that
is there twice, a key that is not text, a number that begins with 0, a merge (`<<`).

PyYAML parses the text. Its own constructor is not used: it follows YAML 1.1 and drops keys.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from wa.errors import UserError
from wa.files import LARGEST_TEXT

LARGEST = {"values": 200_000, "characters": 1_000, "depth": 10}  # of a config
TOO_LARGE = f"it has more than {LARGEST['values']} values, or more than {LARGEST['depth']} levels"

PREFIX = "tag:yaml.org,2002:"
PLAIN = f"{PREFIX}plain"  # the tag of a word that stands without quotes and without a tag
NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
LEADING_ZERO = re.compile(r"([-+]?)0+(?=[0-9])")
# The core schema: the name of a tag, the words that have it, and what makes a value of a word.
CORE = (
    ("null", r"null|Null|NULL|~|", lambda word: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true"),
    ("int", r"[-+]?[0-9]+", int),
    ("int", r"0o[0-7]+", lambda word: int(word[2:], 8)),
    ("int", r"0x[0-9a-fA-F]+", lambda word: int(word[2:], 16)),
    ("float", NUMBER, float),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda word: float(word.replace(".", ""))),
    ("str", r"(?s).*", str),
)


class Config(dict):
    """A config as written, and where its values stand.

    places: the key in words ("methods.wa.memory", "seeds.0") -> "file:line:column". The key "" is
    the start of the file.
    """

    def __init__(self, values: dict, places: dict[str, str]):
        super().__init__(values)
        self.places = places

    def place(self, key: str) -> str:
        """Where a key stands, or else the nearest key that holds it."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places[key]

    def over(self, other: "Config") -> "Config":
        """Both in one. The values of this one go over those of the other, key by key."""
        return Config(put_over(other, self), other.places | self.places)


def put_over(below: object, above: object) -> object:
    """Dicts are joined. Anything else takes the place of what is below."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: put_over(below.get(key), value) for key, value in above.items()}


class Loader(yaml.SafeLoader):
    """PyYAML's parser. It leaves open what a plain word is."""

    def resolve(self, kind: type, value: str, implicit: object) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return PLAIN
        return super().resolve(kind, value, (False, True))


class Reader:
    """Makes plain values of the nodes of a YAML document, and notes where each stands."""

    def __init__(self, name: str):
        self.name = name
        self.places: dict[str, str] = {}
        self.count = 0

    def place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def refuse(self, node: yaml.Node, why: str) -> None:
        raise UserError(f"{self.place(node)}: {why}")

    def value(self, node: yaml.Node, key: str = "", depth: int = 0) -> object:
        """The value of a node. key: its place in the config."""
        self.count += 1
        if depth > LARGEST["depth"] or self.count > LARGEST["values"]:
            self.refuse(node, TOO_LARGE)
        self.places.setdefault(key, self.place(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != PREFIX + kind:
            self.refuse(node, f"the tag {node.tag} is not possible in a config")
        if kind == "map":
            return self.mapping(node, key, depth)
        inner = f"{key}." if key else ""
        return [self.value(item, f"{inner}{i}", depth + 1) for i, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict:
        result, first = {}, {}
        for name_node, value_node in node.value:
            name = self.name_of(name_node)
            if name in result:
                self.refuse(
                    name_node,
                    f"the key {name!r} is there twice. The first is in line {first[name]}. Remove"
                    " or rename one of them",
                )
            first[name] = name_node.start_mark.line + 1
            inner = f"{key}.{name}" if key else name
            self.places[inner] = self.place(name_node)
            result[name] = self.value(value_node, inner, depth + 1)
        return result

    def name_of(self, node: yaml.Node) -> str:
        """The text of a key."""
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, "a key must be text")
        if node.value == "<<" and node.style is None:
            self.refuse(node, "YAML 1.2 has no merge `<<`. Write out the keys that it stands for")
        name = self.scalar(node)
        if not isinstance(name, str):
            self.refuse(
                node,
                f"the key {node.value or '(empty)'} is {word_for(name)}, not text. Put it in quotes"
                f' if it is a name: "{node.value}"',
            )
        return name

    def scalar(self, node: yaml.ScalarNode) -> object:
        """The value of a word, by the core schema of YAML 1.2."""
        tag, word = node.tag, node.value
        for name, pattern, make in CORE:
            if tag not in (PLAIN, PREFIX + name) or not re.fullmatch(pattern, word):
                continue
            if name in ("int", "float") and LEADING_ZERO.match(word):
                number = LEADING_ZERO.sub(r"\1", word)
                self.refuse(
                    node,
                    f"{word} begins with 0, which not every program reads alike. Write {number} if"
                    f' it is a number, or "{word}" if it is a name',
                )
            try:
                return make(word)
            except ValueError:  # more than 4300 digits
                self.refuse(node, f"a number of {len(word)} digits is not possible")
        return self.refuse(node, f"the tag {tag} is not possible for {word[:50]!r}")


def word_for(value: object) -> str:
    """What a value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "text")


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def parse(text: str, name: str) -> tuple[object, dict[str, str], str]:
    """The value of a YAML or JSON text, its places, and the text that follows it.

    name: of the file, for errors. Raises UserError, with line and column.
    """
    if is_json(text):
        text = text.replace("\t", " ")  # YAML does not allow all the tabs that JSON allows
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if loader.yaml_version == (1, 1):
            raise UserError(f"{name}:1:1: a config is YAML 1.2. Remove the line %YAML 1.1")
        reader = Reader(name)
        value = reader.value(node) if node else None
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{where}: this is not valid YAML: {one_line(said)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise UserError(
            f"{name}:{line}:{column}: this is not valid YAML: the character"
            f" {chr(error.character)!a} is not allowed"
        ) from None
    except (ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{name}: this is not valid YAML: {one_line(error)}") from None
    finally:
        if loader:
            loader.dispose()
    return value, reader.places, text[node.end_mark.index :] if node else ""


def one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]


def read_utf8(path: str | Path) -> str:
    """The text of a file. Raises UserError, with the place, if it is not UTF-8."""
    data = Path(path).read_bytes() if Path(path).stat().st_size <= LARGEST_TEXT else None
    if data is None:
        raise UserError(
            f"{path}:1:1: it is larger than {LARGEST_TEXT >> 20} MiB, so it is no config"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        seems = " It seems to be UTF-16." if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(
            f"{path}:{line}:{column}: the byte 0x{data[error.start]:02x} is not UTF-8.{seems} Save"
            " the file as UTF-8, in your editor or with iconv"
        ) from None


def read_config(path: str | Path) -> Config:
    """What a config file says. Raises UserError, with file, line and column."""
    try:
        text = read_utf8(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist. Give the path of a config") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    value, places, _ = parse(text, str(path))
    if not isinstance(value, dict):
        raise UserError(
            f"{path}:1:1: this holds no keys. A config is keys and values, such as"
            " `experiment: mine`"
        )
    return Config(value, places)


def read_option(option: str) -> Config:
    """What an option of the command line says: `training={epochs: 5}`, `draft=True`."""
    key, _, text = option.partition("=")
    name = f"--config {key}"
    value, places, rest = parse(text, name)
    if rest.strip():
        raise UserError(f"{name}: {one_line(rest)!r} would be lost. Put the value in quotes twice")
    return Config({key: value}, {f"{key}.{k}" if k else key: v for k, v in places.items()})


def read_all(files: Iterable[str | Path], options: Iterable[str] = ()) -> Config:
    """The config of a study: its files, each over the one before, and the options over them."""
    configs = [read_config(file) for file in files]
    configs += [read_option(option) for option in options]
    return functools.reduce(lambda below, above: above.over(below), configs)


def with_places(init: Callable) -> Callable:
    """For the constructor of Study: an error that names a key says where the key stands."""

    @functools.wraps(init)
    def constructor(self: object, config: dict, *more: object, **named: object) -> None:
        try:
            init(self, config, *more, **named)
        except UserError as error:
            raise UserError(located(str(error), config)) from None

    return constructor


def located(message: str, config: dict) -> str:
    """An error with the place of the key that it names at the start.

    `config: seeds: ...` becomes `mine.yaml:3:1: seeds: ...`.
    """
    if not isinstance(config, Config):
        return message
    said = message.removeprefix("config: ")
    place = config.place(re.match(r"[^\s:]*", said)[0])
    if place == config.places[""] and said == message:
        return message  # of a file of images, for instance
    return f"{place}: {said}"


class Dumper(yaml.SafeDumper):
    """Writes YAML that a reader of YAML 1.1 and one of YAML 1.2 read alike.

    Text that either of them would take for something else gets quotes. A value that occurs twice
    is written twice.
    """

    def ignore_aliases(self, data: object) -> bool:
        return True


for _name, _pattern, _ in CORE[:-1]:
    Dumper.add_implicit_resolver(PREFIX + _name, re.compile(f"^(?:{_pattern})$"), None)


def dump(values: dict) -> str:
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)
