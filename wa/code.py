"""The code that a result depends on, as a digest.

    Code(root).digest("wa.methods.alignment", ["weight"])

A result must be computed again when the code that made it does something else, and only then. So
the digest covers each definition that a program reaches from its `main`. It finds them by following
names and imports from one module of the checkout to the next. Each definition counts as its syntax
tree. The tree leaves out what cannot change a result: comments, docstrings, annotations, help
texts, and the texts of errors and messages.

A table of functions is a module's dict from names to functions. Only those of its entries count
that the job uses. So a new loss beside the old ones changes no digest. A job uses an entry if the
key is one of its choices, or if the code looks the entry up by a constant, as in TABLE["key"]. If
the job uses no entry, all count.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

# Modules that no result depends on, although every program reaches them.
WITHOUT_EFFECT = {
    "wa.errors": "how a program fails",
    "wa.locks": "who waits for whom",
    "wa.stopping": "who ends with whom",
    "wa.code": "this digest",
    "wa.identity": "what results say about themselves",
    "wa.methods.algorithm": "which file has the code of a method: its digest counts by itself",
    "wa.study.layout": "names of files and folders",
    "wa.study.choices": "names and defaults: each job gets the values as options",
    "wa.study.settings": "names and defaults: each result has the values in its header",
    "wa.training.options": "how a training gets those values",
    "wa.training.live": "what the screen shows",
    "wa.training.trackers": "what other programs show",
    "wa.training.progress": "what the screen shows",
    "wa.training.gpus": "which GPUs there are",
    "wa.training.cores": "what the log warns of",
    "wa.training.failures": "how a training fails",
}
# Calls that take texts for people, and the names of these arguments.
TAKE_TEXTS = {"ArgumentParser", "add_argument", "add", "Kind"}  # `add = parser.add_argument`
TEXTS = {"help", "description", "epilog", "metavar"}


class Definition(NamedTuple):
    """A name in a module. An empty name stands for what the module does on import."""

    module: str  # dotted
    name: str


class Part(NamedTuple):
    """What the digest needs to know about a definition."""

    tree: list
    named: set[Definition]  # the definitions that it names
    keys: set[str]  # the constant keys that it looks up
    table: dict[str, tuple[list, set[Definition]]] | None  # its entries: key -> tree, named


class Strip(ast.NodeTransformer):
    """Remove from a syntax tree what cannot change a result."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node

    def without_docstring(self, node):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
        return self.generic_visit(node)

    visit_Module = visit_ClassDef = without_docstring

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(kind, None)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        if name in TAKE_TEXTS:
            node.keywords = [k for k in node.keywords if k.arg not in TEXTS]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "print"
        ):
            return None
        return self.generic_visit(node)


def canonical(value: object) -> object:
    """A syntax tree as lists, the same for every version of Python and without line numbers."""
    if isinstance(value, ast.AST):
        fields = [[k, canonical(v)] for k, v in ast.iter_fields(value) if v not in (None, [])]
        return [type(value).__name__, fields]
    if isinstance(value, list):
        return [canonical(v) for v in value]
    return repr(value)


def names_of(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment of a module defines.

    A loop or a condition may do more than bind its names, so it has none here.
    """
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [n.id for n in names if isinstance(n.ctx, ast.Store)]


def is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def entries(node: ast.stmt) -> dict[str, ast.expr] | None:
    """The entries of a table of functions. None for any other statement.

    A value of a table is a name, a call or a lambda.
    """
    table = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    if not isinstance(table, ast.Dict) or not table.keys:
        return None
    kinds = (ast.Name, ast.Attribute, ast.Call, ast.Lambda)
    functions = all(isinstance(v, kinds) for v in table.values)
    if not functions or not all(isinstance(k, ast.Constant) for k in table.keys):
        return None
    return {str(k.value): v for k, v in zip(table.keys, table.values, strict=True)}


def constant_keys(node: ast.AST) -> Iterator[str]:
    """The strings by which a part of the code looks something up."""
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
            yield str(part.slice.value)


class Module:
    """A parsed module: its definitions, and what its imports stand for."""

    def __init__(self, name: str, file: Path):
        self.name, self.file = name, file

    @cached_property
    def tree(self) -> ast.Module:
        return Strip().visit(ast.parse(self.file.read_text(encoding="utf-8")))

    @cached_property
    def statements(self) -> dict[str, list[ast.stmt]]:
        """The statements that define each name.

        "" has those that define no name. Imports are left out.
        """
        found: dict[str, list[ast.stmt]] = {"": []}
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) or is_main(node):
                continue
            for name in names_of(node) or [""]:
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imports(self) -> dict[str, Definition]:
        return imports(self.tree, self.name, self.file.name == "__init__.py")


def imports(node: ast.AST, module: str, is_package: bool) -> dict[str, Definition]:
    """The names that imports within `node` bind, and what each stands for.

    A definition without a name stands for the whole module. `from m import *` binds the name `*m`
    to the whole module.
    """
    found = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            for alias in part.names:
                bound = alias.asname or alias.name.split(".")[0]
                found[bound] = Definition(alias.name if alias.asname else bound, "")
        elif isinstance(part, ast.ImportFrom):
            package = module.split(".")
            start = package[: len(package) - part.level + is_package] if part.level else []
            source = ".".join([*start, *([part.module] if part.module else [])])
            for alias in part.names:
                if alias.name == "*":
                    found[f"*{source}"] = Definition(source, "")
                else:
                    found[alias.asname or alias.name] = Definition(source, alias.name)
    return found


class Code:
    """The code of a checkout. It is read once: make a new one after an edit.

    files: modules that lie elsewhere, by the names that they have here. They have no tables: all
    entries count.
    """

    def __init__(self, root: str | Path, files: dict[str, Path] | None = None):
        self.root = Path(root)
        self.modules: dict[str, Module | None] = {}
        self.files = files or {}
        for name, file in self.files.items():
            self.modules[name] = Module(name, file)
        self.digests: dict[tuple, str] = {}
        self.parts: dict[Definition, Part] = {}

    def module(self, name: str) -> Module | None:
        """A module of the checkout. None for one that is installed."""
        if name not in self.modules:
            path = self.root.joinpath(*name.split("."))
            files = [path.with_name(f"{path.name}.py"), path / "__init__.py"]
            file = next((f for f in files if f.is_file()), None)
            self.modules[name] = Module(name, file) if file else None
        return self.modules[name]

    def resolve(self, module: str, name: str) -> Definition | None:
        """The definition of a name that is imported from a module.

        None if it is not in this checkout.
        """
        if name and self.module(f"{module}.{name}"):
            return Definition(f"{module}.{name}", "")
        source = self.module(module)
        if not source or module in WITHOUT_EFFECT:
            return None
        if name and name not in source.statements and name in source.imports:
            return self.resolve(*source.imports[name])
        return Definition(module, name)

    def references(self, definition: Definition, node: ast.AST) -> Iterator[Definition]:
        """The definitions of this checkout that a part of `definition` names."""
        module = self.module(definition.module)
        is_package = module.file.name == "__init__.py"
        bound = module.imports | imports(node, module.name, is_package)
        whole = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute):
                dotted, base = [part.attr], part.value
                while isinstance(base, ast.Attribute):
                    dotted.insert(0, base.attr)
                    base = base.value
                if isinstance(base, ast.Name) and base.id in bound:
                    whole.add(base)
                    yield from self.member(bound[base.id], dotted)
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part not in whole:
                if part.id in module.statements:
                    yield Definition(module.name, part.id)
                elif part.id in bound and (found := self.resolve(*bound[part.id])):
                    yield found
        for name, whole_module in bound.items():
            if name.startswith("*") and (found := self.resolve(*whole_module)):
                yield found

    def member(self, start: Definition, attributes: list[str]) -> Iterator[Definition]:
        """What `alias.a.b` reaches, where alias stands for `start`."""
        found = self.resolve(*start)
        for attribute in attributes:
            if not found or found.name:
                break
            found = self.resolve(found.module, attribute)
        if found:
            yield found

    def part(self, definition: Definition) -> Part:
        if definition in self.parts:
            return self.parts[definition]
        module = self.module(definition.module)
        if definition.name:
            nodes = module.statements.get(definition.name, [])
        else:  # the code names the module itself, so everything in it counts
            nodes = [n for nodes in module.statements.values() for n in nodes]
        may_be_table = len(nodes) == 1 and definition.module not in self.files
        table = entries(nodes[0]) if may_be_table else None
        if table is None:
            named = {d for node in nodes for d in self.references(definition, node)}
            constants = {key for node in nodes for key in constant_keys(node)}
            part = Part(canonical(nodes), named, constants, None)
        else:
            trees = {
                key: (canonical(value), set(self.references(definition, value)))
                for key, value in table.items()
            }
            part = Part([], set(), set(), trees)
        self.parts[definition] = part
        return part

    def digest(self, program: str, choices: Iterable[str] = (), function: str = "main") -> str:
        """The digest of the code that a program's function reaches: 16 hexadecimal digits.

        program: a dotted module. choices: the names that the job may look up in tables.
        Raises ValueError if the module has no such function.
        """
        key = (program, function, frozenset(choices))
        if key not in self.digests:
            self.digests[key] = self._digest(Definition(program, function), set(key[2]))
        return self.digests[key]

    def _digest(self, start: Definition, choices: set[str]) -> str:
        if not self.module(start.module) or start.name not in self.module(start.module).statements:
            raise ValueError(f"{start.module} has no {start.name}")
        reached: set[Definition] = set()
        tables: set[Definition] = set()
        used: dict[tuple[Definition, str], list] = {}
        waiting = [start]
        while waiting:
            while waiting:
                definition = waiting.pop()
                if definition in reached:
                    continue
                reached.add(definition)
                own = self.module(definition.module).statements[""]
                if own and definition.name:  # what the module does on import
                    waiting += [d for node in own for d in self.references(definition, node)]
                part = self.part(definition)
                choices |= part.keys
                waiting += part.named
                if part.table is not None:
                    tables.add(definition)
            for table in tables:  # only now, because other code may have added choices
                of_table = self.part(table).table
                for entry in (of_table.keys() & choices) or of_table.keys():
                    tree, named = of_table[entry]
                    used[table, entry] = tree
                    waiting += named - reached
        modules = sorted({d.module for d in reached})
        trees = [[*d, self.part(d).tree] for d in sorted(reached)]
        trees += [[*table, entry, tree] for (table, entry), tree in sorted(used.items())]
        trees += [[m, canonical(self.module(m).statements[""])] for m in modules]
        return hashlib.sha256(json.dumps(trees).encode()).hexdigest()[:16]
