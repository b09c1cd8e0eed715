"""The layout holds: ranks of imports, what only one place may know, and that each dataset is complete."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from trade_analyst_pipeline.market.columns import COLUMNS, TableSchema

PACKAGE = "trade_analyst_pipeline"
REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / PACKAGE
TESTS = REPOSITORY / "trade_analyst_tests"

# The first entry that a module's name starts with is its unit and gives its rank.
RANKS = {
    "ops.visible": -1,  # text made harmless to show, error messages included
    "ops.redaction": -1,  # what is secret: known to everything, even to errors and settings
    "errors": 0,
    "market": 1,
    "settings": 2,  # checks symbols by the vocabulary
    "schwab.messages": 1,  # plain values, which the archive keeps and the datasets read
    "schwab": 2,
    "validation": 2,
    "storage": 2,
    "ops.logs": 2,
    "kernels": 2,  # compiled arithmetic knows nothing of ours, and only metrics and datasets use it
    "quarantine": 3,
    "datasets": 3,
    "metrics": 3,
    "pictures": 3,
    "simulator": 3,
    "capture": 4,
    "lineage": 4,
    "export": 4,
    "ops": 4,
    "loading": 5,
    "defs": 5,
    "definitions": 6,
    "cli": 7,
}
# Rank 3 that uses nothing of rank 2: the simulator must not share the code it tests, the others know no I/O.
WITHOUT_RANK_2 = {"datasets", "metrics", "pictures", "simulator"}
# Libraries that only these units may import.
LIBRARY_HOMES = {
    "dagster": {"defs", "definitions", "cli"},
    "dagster_duckdb": {"defs", "definitions", "cli"},
    "httpx": {"schwab"},
    "websockets": {"schwab"},
    "requests": {"schwab"},
    "requests_oauthlib": {"schwab"},
    "oauthlib": {"schwab"},
    "cryptography": {"schwab", "simulator"},
    "starlette": {"simulator"},
    "uvicorn": {"simulator"},
    "typer": {"cli"},
    "rich": {"cli"},
    "duckdb": {"storage", "export"},
    "structlog": {"ops.logs"},
    "exchange_calendars": {"market"},
    "numba": {"kernels"},
}
# Everything else is handed the time; these live by the machine's clock.
CLOCK_READERS = {
    *("market.clock", "schwab.tokens", "schwab.auth", "schwab.callback_listener"),
    *("simulator.server", "simulator.fault_proxy"),  # whose certificates begin with the start
}
CLOCK_CALLS = {"now", "utcnow", "today", "time", "time_ns"}
NAMES_WITHOUT_MEANING = re.compile(r"(^|_)(utils?|common|core|base|misc|helpers?)$")
CLASSES_WITHOUT_MEANING = re.compile(r"(Manager|Processor|Service|Util|Utils|Helper)$")


def module_name(path: Path) -> str:
    """Dotted name below the package; a folder's own module is named after the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, without the package's own `__init__`."""
    paths = [path for path in sorted(ROOT.rglob("*.py")) if module_name(path)]
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def unit(name: str) -> str | None:
    """The unit a module belongs to, or None where it has no place in the layout."""
    return next((entry for entry in RANKS if name == entry or name.startswith(f"{entry}.")), None)


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names imported anywhere in a module, inside functions and type-checking blocks too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def own_imports(tree: ast.Module) -> set[str]:
    """Modules of the package that a module imports, as names below the package."""
    found = set()
    for name in imports(tree):
        if name.startswith(f"{PACKAGE}."):
            below = name.removeprefix(f"{PACKAGE}.")
            found.add(below if below in modules() else below.rpartition(".")[0] or below)
    return found


def rank_problems(name: str, imported: set[str]) -> list[str]:
    """What is wrong with a module importing these others."""
    own = unit(name)
    if own is None:
        return [f"{name} has no place in the layout"]
    problems = []
    for other in sorted(imported):
        theirs = unit(other)
        if theirs is None:
            problems.append(f"{name} imports {other}, which has no place in the layout")
        elif theirs == own:
            same = name.split(".")[:2] == other.split(".")[:2]  # a metric of several files is a folder
            if own in ("datasets", "metrics") and name != own and other != own and not same:
                problems.append(f"{name} imports its sibling {other}")
        elif RANKS[theirs] >= RANKS[own]:
            problems.append(f"{name} (rank {RANKS[own]}) imports {other} (rank {RANKS[theirs]})")
        elif (
            ("kernels" in (own, theirs) and own not in {"metrics", "datasets"})
            or (RANKS[theirs] == 2 and own in WITHOUT_RANK_2 and theirs != "kernels")
            or (own == "metrics" and theirs == "schwab.messages")
        ):
            problems.append(f"{name} imports {other}")
    return problems


def test_modules_import_lower_ranks_only() -> None:
    """A module imports lower ranks, siblings within its folder, and nothing of what its unit must not know."""
    assert [problem for name, tree in modules().items() for problem in rank_problems(name, own_imports(tree))] == []


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("market.sessions", "schwab.client"),
        ("schwab.client", "storage.archive"),
        ("metrics.iv_rank", "storage.tables"),
        ("metrics.iv_rank", "metrics.iv_history"),
        ("metrics.iv_rank", "schwab.messages"),
        ("datasets.options", "schwab.client"),
        ("simulator.server", "datasets.options"),
        ("ops.logs", "ops.health.report"),
        ("ops.redaction", "errors"),
        ("capture.take", "kernels.quote_join"),
        ("capture.take", "lineage"),
        ("helpers", "errors"),
        ("kernels.normal", "market.prices"),
        ("lineage.metrics", "kernels.normal"),
    ],
)
def test_forbidden_imports_are_found(name: str, imported: str) -> None:
    """The rank check reports imports upwards, sideways, of siblings, and of modules outside the layout."""
    assert rank_problems(name, {imported})


def test_libraries_stay_where_they_belong() -> None:
    """Dagster, the HTTP libraries, the server, the terminal and the SQL engine are imported only in their places."""
    strangers = [
        f"{name} imports {library}"
        for name, tree in modules().items()
        for library in {imported.split(".")[0] for imported in imports(tree)} & set(LIBRARY_HOMES)
        if unit(name) not in LIBRARY_HOMES[library]
    ]
    assert strangers == []


def test_kernels_are_compiled_only_once_called() -> None:
    """Importing every metric does not import the compiler: a command that needs none does not wait for it."""
    metrics = [f"{PACKAGE}.{name}" for name in modules() if unit(name) == "metrics"]
    code = f"import sys, importlib\nfor name in {metrics}: importlib.import_module(name)\nprint('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def environment_reads(tree: ast.Module) -> list[int]:
    """Lines that read the environment; setting variables for child processes is no reading."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    lines = []
    for node in ast.walk(tree):
        is_environ = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        parent = parents.get(node)
        is_update = isinstance(parent, ast.Attribute) and parent.attr == "update"
        if is_environ and not is_update:
            lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            lines += [node.lineno for alias in node.names if alias.name in ("environ", "getenv")]
    return lines


def test_only_settings_read_the_environment() -> None:
    """No module but `settings` reads an environment variable."""
    readers = {name for name, tree in modules().items() if environment_reads(tree)}
    assert readers == {"settings"}


def clock_reads(tree: ast.Module) -> list[str]:
    """Calls such as datetime.now(), date.today() or time.time()."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCK_CALLS
        and isinstance(node.func.value, ast.Name | ast.Attribute)
        and ast.unparse(node.func.value) in ("datetime", "date", "time", "datetime.datetime", "datetime.date", "dt")
    ]


def test_only_named_modules_ask_the_machine_for_the_time() -> None:
    """Everything but the clocks, the tokens, the simulator's log-in and the commands is handed the time."""
    readers = {
        name: found
        for name, tree in modules().items()
        if name not in CLOCK_READERS and unit(name) != "cli" and (found := clock_reads(tree))
    }
    assert readers == {}


@pytest.mark.parametrize("code", ["datetime.now(UTC)", "date.today()", "time.time()", "datetime.datetime.utcnow()"])
def test_clock_reads_are_found(code: str) -> None:
    """The check sees the usual ways of asking for the time."""
    assert clock_reads(ast.parse(code))


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public functions and classes of a module, and public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
                yield from (item for item in methods if not item.name.startswith("_"))


def test_everything_public_says_what_it_is() -> None:
    """Each module, public class, function and method has a docstring."""
    silent = [name for name, tree in modules().items() if not ast.get_docstring(tree)]
    silent += [
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in public_definitions(tree)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_names_carry_meaning() -> None:
    """No module is called utils, common or the like, and no class Manager, Processor or Service."""
    assert [name for name in modules() if NAMES_WITHOUT_MEANING.search(name.rpartition(".")[2])] == []
    classes = [node for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if CLASSES_WITHOUT_MEANING.search(node.name)] == []


def test_typed_decoders_are_made_when_their_module_is() -> None:
    """Two threads that decode a type for the first time at once crash msgspec, so no decoder is made at first use."""
    assert [name for name, tree in modules().items() if late_decoders(tree)] == []
    assert late_decoders(ast.parse("msgspec.json.decode(body, type=Thing)"))
    assert not late_decoders(ast.parse("msgspec.json.decode(body)\n_THING.decode(body)"))


def late_decoders(tree: ast.Module) -> list[int]:
    """Lines that decode JSON to a type named on the spot."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("json.decode")
        and any(keyword.arg == "type" for keyword in node.keywords)
    ]


def test_every_test_says_what_it_proves() -> None:
    """Each test function has a docstring that states the behaviour."""
    silent = [
        f"{path.relative_to(TESTS)}::{node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize(
    "name",
    [name for name in modules() if name.partition(".")[0] in ("datasets", "metrics") and name.count(".") == 1],
)
def test_each_dataset_and_metric_has_a_test(name: str) -> None:
    """`datasets/options.py` is tested by `trade_analyst_tests/datasets/test_options.py`, and so on."""
    folder, _, module = name.partition(".")
    assert (TESTS / folder / f"test_{module}.py").is_file()


def test_each_dataset_is_complete() -> None:
    """Each dataset of the registry has a module of its name, payloads made by hand, and a simulator answer."""
    datasets = importlib.import_module(f"{PACKAGE}.datasets").DATASETS
    assert datasets
    for name in datasets:
        assert f"datasets.{name}" in modules()
        assert list((TESTS / "payloads" / name).iterdir()), f"no payloads for {name}"


def test_columns_of_every_schema_are_declared_once() -> None:
    """A schema's columns are the declared ones, unchanged: one name means one thing everywhere."""
    schemas = {
        schema.name: schema for name in modules() if unit(name) in ("datasets", "metrics") for schema in _of(name)
    }
    assert {"quotes", "ohlc", "options", "iv_history", "put_call_ratio", "put_call_ratio_daily"} <= set(schemas)
    for schema in schemas.values():
        assert all(COLUMNS[column.name] is column for column in schema.columns)


def _of(name: str) -> list[TableSchema]:
    """The schemas a module declares, whatever they are called."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    return [value for value in vars(module).values() if isinstance(value, TableSchema)]


def test_test_modules_have_names_of_their_own() -> None:
    """Test folders are no packages: two modules of one name cannot be collected together."""
    names = [path.name for path in TESTS.rglob("*.py") if path.name not in {"conftest.py", "__init__.py"}]
    assert sorted({name for name in names if names.count(name) > 1 and name.startswith("test_")}) == []
