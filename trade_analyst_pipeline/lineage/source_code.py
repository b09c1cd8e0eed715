"""Which definitions of the package's source a computation reaches, read from the files without importing any.

A definition is a function, class, method or assignment at the top of a module. It reaches whatever of the package it
names: definitions of its own module, what it imports, and attributes of imported modules, to any depth. Where a name
can only be told when it runs, more is taken in rather than less: a method is reached when its class is and its name
stands anywhere in what is reached, every method of a class with a foreign base is, and so is a column of
`market/columns.py` whose name stands as text. A name that is put together at run time is not seen.

Layout, comments and docstrings, the meaning and unit of a column, and the order of definitions do not count.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

PACKAGE: Final = __name__.partition(".")[0]
SOURCE_FOLDER: Final = Path(__file__).resolve().parents[1]

Definition: TypeAlias = tuple[str, str]
"""Dotted module below the package, and a name in it; a method as `Class.method`."""

_COLUMNS: Final = "market.columns"
_PLAIN_BASES: Final = frozenset({"object", "Protocol", "NamedTuple", "Generic", "Exception", "ValueError"})
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Reached:
    """What a computation reaches: a digest (16 hexadecimal digits) of its part of each module, and foreign packages."""

    modules: Mapping[str, str]
    foreign: frozenset[str]


@dataclass(frozen=True)
class _Body:
    """The text of a definition, and what in it can name another: nodes in the order read, imports of its own.

    `parameters` are those nodes (by `id`) that stand for a parameter of it, whatever else is called so.
    """

    text: str
    nodes: Sequence[ast.AST]
    imports: Mapping[str, str]
    parameters: frozenset[int]


@dataclass
class _Module:
    """The definitions of one module by name, what its names were imported from, and statements that name nothing."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    bodies: dict[str, _Body] = field(default_factory=dict)


class SourceTree:
    """The source of the package below one folder, each module parsed at most once."""

    def __init__(self, folder: Path = SOURCE_FOLDER) -> None:
        self._folder = folder
        self._modules: dict[str, _Module | None] = {}

    def reached(self, roots: Collection[Definition], *, apart_from: Collection[str] = ()) -> Reached:
        """What these definitions reach; names in `apart_from` are not followed from the roots themselves.

        Raises LookupError for a root that is not there.
        """
        with _uncollected():
            walk = _Walk(self)
            for root in roots:
                walk.enter(root, apart_from=apart_from)
            walk.finish()
        return walk.result()

    def known_module(self, name: str) -> _Module:
        """A module that is there; raises LookupError."""
        if (found := self.module(name)) is None:
            message = f"{PACKAGE}.{name} is no module"
            raise LookupError(message)
        return found

    def module(self, name: str) -> _Module | None:
        """A module by its dotted name below the package, None where there is none."""
        if name not in self._modules:
            path = self._folder.joinpath(*name.split("."))
            files = (path.with_suffix(".py"), path / "__init__.py")
            found = next((file for file in files if file.is_file()), None)
            self._modules[name] = None if found is None else _parsed(name, found.read_bytes())
        return self._modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: parsing makes many objects and no garbage, and takes half as long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parsed(name: str, source: bytes) -> _Module:
    module = _Module(name)
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(statement))
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            for inner in statement.body:
                module.imports.update(_imported(inner))
        elif names := list(_bound(statement)):
            for bound in names:
                module.definitions.setdefault(bound, []).append(statement)
            if isinstance(statement, ast.ClassDef):
                module.classes[statement.name] = statement
        elif not _is_text(statement):
            module.loose.append(statement)
    if name == _COLUMNS:
        _part_columns(module)
    return module


def _imported(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """The names that an import binds, each with the dotted path of what it is."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
    elif isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
        for alias in statement.names:
            yield alias.asname or alias.name, f"{statement.module}.{alias.name}"


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names a statement at the top of a module defines."""
    if isinstance(statement, _Function | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _part_columns(module: _Module) -> None:
    """Make each declared column a definition of its own, named as it is, of which only name and type count."""
    declared = [name for name in module.definitions if name.isupper() and name.lstrip("_") != "TIME"]
    for name in declared:
        for statement in module.definitions.pop(name):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Column":
                    column = ast.literal_eval(node.args[0])
                    module.definitions[f"[{column}]"] = [ast.Expr(arg) for arg in node.args[:2]]
        module.definitions[name] = []


class _Walk:
    """One walk from definition to definition."""

    def __init__(self, source: SourceTree) -> None:
        self._source = source
        self._texts: dict[Definition, str] = {}
        self._pending: list[tuple[Definition, frozenset[str]]] = []
        self._methods: dict[str, list[Definition]] = {}
        self._words: set[str] = set()
        self._foreign: set[str] = set()

    def enter(self, definition: Definition, *, apart_from: Iterable[str] = ()) -> None:
        """Take a definition in; raises LookupError for one that is not there."""
        module, name = definition
        held = self._source.known_module(module)
        owner, _, method = name.partition(".")
        if owner not in held.definitions and owner not in held.imports:
            message = f"{PACKAGE}.{module} defines no {name!r}"
            raise LookupError(message)
        self._follow_definition(held, owner, frozenset(apart_from))
        if method:
            self._say(method)

    def finish(self) -> None:
        """Go on until nothing new is reached."""
        while self._pending:
            (module, name), apart_from = self._pending.pop()
            self._take(self._source.known_module(module), name, apart_from)

    def result(self) -> Reached:
        """What was taken in, module by module."""
        parts: dict[str, list[str]] = {}
        for (module, name), text in sorted(self._texts.items()):
            parts.setdefault(module, []).append(f"{name}\n{text}")
        digests = {
            module: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] for module, texts in parts.items()
        }
        return Reached(digests, frozenset(self._foreign))

    def _follow_definition(self, module: _Module, name: str, apart_from: frozenset[str] = frozenset()) -> None:
        if name in module.definitions:
            key = (module.name, name)
            if key not in self._texts:
                self._texts[key] = ""
                self._pending.append((key, apart_from))
                if module.loose and (module.name, "") not in self._texts:
                    self._texts[module.name, ""] = ""
                    self._pending.append(((module.name, ""), frozenset()))
        elif name in module.imports:
            self._follow_path(module.imports[name])

    def _follow_path(self, path: str) -> None:
        """Follow a dotted path that was imported or written out: a definition, a whole module, or a foreign package."""
        package, _, below = path.partition(".")
        if package != PACKAGE:
            if package not in sys.stdlib_module_names:
                self._foreign.add(package)
            return
        if (whole := self._source.module(below)) is not None:
            for name in (*whole.definitions, *whole.imports):
                self._follow_definition(whole, name)
            return
        owner, _, name = below.rpartition(".")
        module = self._source.module(owner)
        if module is None:
            message = f"{path} is imported, and is no module of the package"
            raise LookupError(message)
        self._follow_definition(module, name)

    def _take(self, module: _Module, name: str, apart_from: frozenset[str]) -> None:
        """Note the text of a definition, and follow what it names."""
        if name not in module.bodies:
            module.bodies[name] = _body_of(module, name)
        body = module.bodies[name]
        self._texts[module.name, name] = body.text
        if name in module.classes:
            self._take_class(module, module.classes[name])
        self._follow_names(module, body, apart_from)

    def _take_class(self, module: _Module, whole: ast.ClassDef) -> None:
        """Offer the methods of a class, to be reached by their names."""
        for method in _methods(whole):
            key = (module.name, f"{whole.name}.{method.name}")
            if method.name in self._words or self._has_foreign_base(module, whole):
                self._reach_method(key)
            else:
                self._methods.setdefault(method.name, []).append(key)

    def _has_foreign_base(self, module: _Module, whole: ast.ClassDef) -> bool:
        names = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in whole.bases]
        own = {name for name in names if name in module.definitions or module.imports.get(name, "").startswith(PACKAGE)}
        return not _PLAIN_BASES.union(own).issuperset(names)

    def _reach_method(self, key: Definition) -> None:
        if key not in self._texts:
            self._texts[key] = ""
            self._pending.append((key, frozenset()))

    def _follow_names(self, module: _Module, body: _Body, apart_from: frozenset[str]) -> None:
        imports = {**module.imports, **body.imports}
        parts_of_paths = set(body.parameters)
        for node in body.nodes:
            if isinstance(node, ast.Attribute):
                if node.attr in apart_from:
                    parts_of_paths.add(id(node.value))
                    continue
                self._say(node.attr)
                if id(node.value) in body.parameters or not isinstance(node.value, ast.Name):
                    continue
                if path := self._path_of_module(imports, node.value.id):
                    parts_of_paths.add(id(node.value))
                    self._follow_path(f"{path}.{node.attr}")
            elif isinstance(node, ast.Name) and id(node) not in parts_of_paths and node.id not in apart_from:
                if node.id in imports:
                    self._follow_path(imports[node.id])
                elif node.id in module.definitions:
                    self._follow_definition(module, node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._follow_column(node.value)

    def _path_of_module(self, imports: Mapping[str, str], name: str) -> str | None:
        """The dotted path of a module of the package that a name stands for; None for anything else."""
        package, _, below = imports.get(name, "").partition(".")
        return imports[name] if package == PACKAGE and self._source.module(below) is not None else None

    def _follow_column(self, text: str) -> None:
        columns = self._source.module(_COLUMNS)
        if columns is not None and f"[{text}]" in columns.definitions:
            self._follow_definition(columns, f"[{text}]")

    def _say(self, word: str) -> None:
        """Reach the methods of this name in every class that is reached."""
        if word not in self._words:
            self._words.add(word)
            for key in self._methods.pop(word, ()):
                self._reach_method(key)


def _body_of(module: _Module, name: str) -> _Body:
    statements = _statements(module, name)
    nodes = [node for statement in statements for node in ast.walk(statement)]
    for node in nodes:
        if isinstance(node, _Function | ast.ClassDef):
            node.body = [each for each in node.body if not _is_text(each)]  # without docstrings
    importing = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    imports = {bound: path for statement in importing for bound, path in _imported(statement)}
    kept = [node for node in nodes if isinstance(node, ast.Attribute | ast.Name | ast.Constant)]
    parameters = frozenset(id(node) for statement in statements for node in _parameters(statement))
    return _Body("\n".join(map(_spelled, statements)), kept, imports, parameters)


def _spelled(value: object) -> str:
    """A syntax tree in text, the same by every version of Python: what is empty or only its place is left out."""
    if isinstance(value, list):
        return f"[{','.join(map(_spelled, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.Constant):
        return repr(value.value)
    fields = ((name, each) for name, each in ast.iter_fields(value) if not isinstance(each, ast.expr_context))
    return f"{type(value).__name__}({','.join(f'{n}={_spelled(e)}' for n, e in fields if e is not None and e != [])})"


def _parameters(statement: ast.stmt) -> Iterator[ast.Name]:
    """The names in the body of a function that stand for its parameters."""
    if isinstance(statement, _Function):
        names = {node.arg for node in ast.walk(statement.args) if isinstance(node, ast.arg)}
        inside = (node for each in statement.body for node in ast.walk(each))
        yield from (node for node in inside if isinstance(node, ast.Name) and node.id in names)


def _statements(module: _Module, name: str) -> Sequence[ast.stmt]:
    """The statements of a definition; of a class, all but its methods; `""` stands for the loose statements."""
    if not name:
        return module.loose
    owner, _, method = name.partition(".")
    if method:
        return [each for each in _methods(module.classes[owner]) if each.name == method]
    return [_shell(each) if isinstance(each, ast.ClassDef) else each for each in module.definitions[name]]


def _methods(whole: ast.ClassDef) -> list[_Function]:
    """The methods that somebody has to name to call them."""
    functions = (each for each in whole.body if isinstance(each, _Function))
    return [each for each in functions if not (each.name.startswith("__") and each.name.endswith("__"))]


def _shell(whole: ast.ClassDef) -> ast.ClassDef:
    methods = _methods(whole)
    rest = [statement for statement in whole.body if statement not in methods]
    return ast.ClassDef(whole.name, whole.bases, whole.keywords, rest, whole.decorator_list)
