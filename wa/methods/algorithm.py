"""An algorithm: one Python file that says how a method trains, how it predicts, or both.

    algorithm: ewc         a file of wa/methods/algorithms
    algorithm: mine.py     a file of your own
    algorithm: standard    no file: the losses that the method's other choices name

A file may define one subclass of Learner (wa/methods/learner.py), which trains with torch. It may
define one subclass of FeatureClassifier (wa/methods/feature_classifier.py), which is fitted to
features with numpy. Two plain values may stand beside them:

    OPTIONS = {"strength": 1.0}                      the options of the algorithm, with defaults
    CHOICES = {"freeze": True, "training": {...}}    what a method has unless the config says else

A plan reads these facts from the syntax of the file. It never runs the file.
"""

import ast
import importlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path

from wa.code import Code
from wa.errors import UserError, nearest

STANDARD = "standard"
PACKAGE = "wa.methods.algorithms"
FOLDER = Path(__file__).with_name("algorithms")
OWN = "own"  # in headers, in place of the path of a user's file
KINDS = ("Learner", "FeatureClassifier")


# The algorithms of this program. A new file in the folder is a new algorithm.
NAMES = (STANDARD, *sorted(file.stem for file in FOLDER.glob("[a-z]*.py")))


def is_own(name: str) -> bool:
    """Whether it names a user's file."""
    return name.endswith(".py")


@dataclass(frozen=True)
class Facts:
    """What a plan must know of an algorithm.

    learner, classifier: the names of its classes, or "". task_0: the options that matter for task
    0, if it trains that in a way of its own. None: it shares task 0 with other methods. distils: as
    in Learner. needs_memory: whether one of the classes says so.
    """

    file: Path | None = None
    learner: str = ""
    classifier: str = ""
    task_0: tuple[str, ...] | None = None
    distils: bool | None = None
    needs_memory: bool = False
    options: dict = field(default_factory=dict)
    choices: dict = field(default_factory=dict)


def literal(node: ast.expr, file: Path) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        names = "OPTIONS, CHOICES, task_0, distils and needs_memory"
        raise UserError(
            f"algorithm: {file}, line {node.lineno}: {names} are read without running"
            " the file, so write the values themselves, such as 1.0"
        ) from None


def assignments(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """The values of names that are assigned in a module or a class."""
    found = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


# What a class must define, if it extends nothing else.
NEEDED = {"Learner": set(), "FeatureClassifier": {"fit", "scores"}}


def functions(node: ast.ClassDef) -> set[str]:
    """The names of the functions that a class defines."""
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef)}


def has_own_loss(node: ast.ClassDef) -> bool:
    """Whether a Learner defines its loss, and uses nothing of the loss that it extends."""
    used = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    used |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return "losses" in functions(node) and not used & {"super", "kd_weight", "distillation"}


def check_imports(tree: ast.Module, file: Path) -> None:
    """Refuse a user's file that imports a file beside it: an edit of that one would not count."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            module = file.parent / name.partition(".")[0]
            own = module.name != "wa" and any(
                beside.exists() for beside in (module.with_suffix(".py"), module / "__init__.py")
            )
            if own or (isinstance(node, ast.ImportFrom) and node.level):
                raise UserError(
                    f"algorithm: {file}, line {node.lineno}: it imports {name or '.'}, a file of"
                    " yours. Write what it needs into this file"
                )


@cache
def facts(name: str) -> Facts:
    """The facts of an algorithm. Raises UserError if there is no such file, or it defines nothing.

    name: as in a config.
    """
    if name == STANDARD:
        return Facts()
    file = Path(name) if is_own(name) else FOLDER / f"{name}.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        raise UserError(f"algorithm: {name} does not exist. Known: {', '.join(NAMES)}") from None
    except (SyntaxError, ValueError, OSError) as error:
        raise UserError(f"algorithm: {file} cannot be read as Python: {error}") from None
    if is_own(name):
        check_imports(tree, file)
    classes = {}
    for node in tree.body:
        bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
        for kind in KINDS:
            if kind in bases:
                if kind in classes:
                    raise UserError(f"algorithm: {file} has two classes of the kind {kind}")
                if len(bases) == 1 and (missing := NEEDED[kind] - functions(node)):
                    raise UserError(
                        f"algorithm: {file}, line {node.lineno}: the class {node.name} must define"
                        f" {' and '.join(sorted(missing))}. See docs/methods.md"
                    )
                classes[kind] = node
    if not classes:
        raise UserError(
            f"algorithm: {file} has no class that extends Learner or FeatureClassifier. See"
            " docs/methods.md"
        )
    values = assignments(tree.body)
    learner = classes.get("Learner")
    own = assignments(learner.body) if learner else {}
    found = [assignments(each.body).get("needs_memory") for each in classes.values()]
    distils = False if learner and has_own_loss(learner) else None
    return Facts(
        file=file,
        learner=learner.name if learner else "",
        classifier=classes["FeatureClassifier"].name if "FeatureClassifier" in classes else "",
        task_0=literal(own["task_0"], file) if "task_0" in own else None,
        distils=literal(own["distils"], file) if "distils" in own else distils,
        needs_memory=any(literal(each, file) for each in found if each),
        options=literal(values["OPTIONS"], file) if "OPTIONS" in values else {},
        choices=literal(values["CHOICES"], file) if "CHOICES" in values else {},
    )


WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false"}


def with_defaults(name: str, given: dict) -> dict:
    """All options of an algorithm. given: those of a config. Raises UserError for a wrong one."""
    defaults = facts(name).options
    options = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            close = nearest(key, defaults)
            guess = f"; did you mean {close!r}?" if close else "."
            raise UserError(f"options: {name} has no option {key!r}{guess} It has {known}")
        default = defaults[key]
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            kind = WORDS.get(type(default), type(default).__name__)
            raise UserError(f"options.{key}: {value!r} must be {kind}, such as {default!r}")
        # What is counted, but for epochs, is 1 at least. A file of a user may think otherwise.
        least = int(type(value) is int and not key.endswith("_epochs"))
        if not is_own(name) and type(value) in (int, float) and not least <= value < inf:
            raise UserError(f"options.{key}: {value!r} must be {least} or more")
        options[key] = value
    return options


def of_task_0(name: str, options: dict) -> dict:
    """The options of an algorithm for task 0. The others have their defaults."""
    found = facts(name)
    return found.options | {key: options[key] for key in found.task_0}


def to_words(options: dict) -> tuple[str, ...]:
    """Options as the settings hold them: `strength=1.0`, in the order of the names."""
    return tuple(f"{key}={json.dumps(options[key])}" for key in sorted(options))


def from_words(words: tuple[str, ...]) -> dict:
    """What `to_words` wrote. Raises UserError."""
    options = {}
    for word in words:
        key, _, text = word.partition("=")
        try:
            options[key] = json.loads(text)
        except ValueError:
            raise UserError(f"options: {word!r} is not NAME=VALUE") from None
    return options


def load(name: str, kind: str) -> type:
    """The class of an algorithm. kind: one of KINDS. This runs the file."""
    found = facts(name)
    cls = found.learner if kind == "Learner" else found.classifier
    if is_own(name):
        spec = importlib.util.spec_from_file_location(OWN, found.file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    return getattr(module, cls)


@cache
def code_with(root: Path, file: Path, changed: int) -> Code:
    """The code of a checkout and of a user's file. It is read once for each change of the file."""
    return Code(root, {OWN: file})


def digest(code: Code, name: str, kind: str, choices: Iterable[str] = ()) -> str:
    """The digest of the class of an algorithm, and of all that it reaches. "" if it has none.

    choices: the names that it may look up in tables (wa/code.py).
    """
    found = facts(name)
    cls = found.learner if kind == "Learner" else found.classifier
    if not cls:
        return ""
    if is_own(name):
        code = code_with(code.root, found.file, found.file.stat().st_mtime_ns)
    return code.digest(OWN if is_own(name) else f"{PACKAGE}.{name}", choices, function=cls)
