"""The documentation says what is true: everything a user can name is documented, under the name it has.

What has to be documented comes from the code; what is written is read from README.md and docs/.
"""

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from trade_analyst_pipeline import errors
from trade_analyst_pipeline.cli.main import COMMANDS
from trade_analyst_pipeline.datasets import TABLES
from trade_analyst_pipeline.settings import PREFIX, Settings

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    """A page of docs/."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Text below each second-level heading, by heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def data_dictionary() -> ModuleType:
    """The script that writes docs/tables.md."""
    path = REPOSITORY / ".ci" / "data_dictionary.py"
    spec = importlib.util.spec_from_file_location("ci_data_dictionary", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ci_data_dictionary"] = module
    spec.loader.exec_module(module)
    return module


def setting_keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and default of every setting, sections walked."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_keys(kind, f"{before}{name}.")
        else:
            yield f"{before}{name}", field.default


def shown_default(value: Any) -> str:
    """A default as the page writes it."""
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return "none" if value is None else str(value)


@pytest.mark.parametrize(("key", "default"), list(setting_keys(Settings)))
def test_each_setting_is_documented_with_its_default(key: str, default: Any) -> None:
    """Each key has a row with its default and a meaning in docs/settings.md."""
    row = re.search(rf"^\| `{re.escape(key)}` \| (.+?) \| (.+) \|$", page("settings"), flags=re.MULTILINE)
    assert row is not None
    assert row[1].replace("`", "") == shown_default(default)


def test_no_setting_is_documented_that_is_none() -> None:
    """docs/settings.md has no row for a key that is gone."""
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", page("settings"), flags=re.MULTILINE))
    assert documented == {key for key, _ in setting_keys(Settings)}


def test_secrets_never_stand_in_the_configuration_file() -> None:
    """config.toml holds no secret, and .env.example names each secret with nothing behind it."""
    secret = [
        name for name, field in Settings.model_fields.items() if SecretStr in getattr(field.annotation, "__args__", ())
    ]
    config, example = (REPOSITORY / "config.toml").read_text(), (REPOSITORY / ".env.example").read_text()
    assert secret
    for name in secret:
        assert not re.search(rf"^{name}\b", config, flags=re.MULTILINE)
        assert re.search(rf"^{PREFIX}{name.upper()}=$", example, flags=re.MULTILINE)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_is_documented_with_its_options(command: str) -> None:
    """Each command is in the README's table, and has a section with its example and every option."""
    text = sections(page("commands"))[f"trade-analyst {command}"]
    function, example = COMMANDS[command]
    assert f"`trade-analyst {command}" in README
    assert example in text
    options = {
        option
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        for option in names(parameter)
    }
    assert [option for option in sorted(options) if f"`{option}" not in text] == []


def names(parameter: inspect.Parameter) -> list[str]:
    """What a user types for a parameter: its long options, or its name in capitals for an argument."""
    declared = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
    # a first name given inside Annotated stands in typer's place for the default until the command is made
    written = (getattr(declared, "default", None), *(getattr(declared, "param_decls", None) or ()))
    given = [name for name in written if isinstance(name, str) and name.startswith("--")]
    if type(declared).__name__ == "ArgumentInfo":
        return [getattr(declared, "metavar", None) or parameter.name.upper()]
    return given or [f"--{parameter.name.replace('_', '-')}"]


def test_no_command_is_documented_that_is_none() -> None:
    """docs/commands.md has no section for a command that is gone."""
    documented = {heading.removeprefix("trade-analyst ") for heading in sections(page("commands"))}
    assert documented == set(COMMANDS)


def test_each_dataset_and_metric_is_in_the_readme() -> None:
    """README's tables name each dataset of the registry and each metric table, and nothing else."""
    schemas = [schema.name for schema in data_dictionary().metric_schemas()]
    listed = re.findall(r"^\| `([a-z_]+)` \|", README, flags=re.MULTILINE)
    assert sorted(listed) == sorted([*TABLES, *schemas])


def test_each_metric_has_its_formula_page() -> None:
    """Each metric table is listed in docs/metrics.md."""
    text = page("metrics")
    assert [schema.name for schema in data_dictionary().metric_schemas() if f"`{schema.name}`" not in text] == []


def test_data_dictionary_is_up_to_date() -> None:
    """docs/tables.md is what the declarations say; `make docs` writes it."""
    assert page("tables") == data_dictionary().dictionary(), "run `make docs`"


def test_each_column_and_rule_is_in_the_dictionary() -> None:
    """Every column and rule of every table stands in its section with its meaning."""
    text = sections(page("tables"))
    for title, schema in data_dictionary().table_schemas():
        for column in schema.columns:
            assert re.search(rf"^\| (\*\*)?`{column.name}`(\*\*)? \|", text[title], flags=re.MULTILINE), column.name
        for rule in schema.rules:
            assert f"| `{rule.name}` | {rule.severity} |" in text[title]


def error_classes() -> list[str]:
    """Names of all exceptions of the package."""
    found = inspect.getmembers(
        errors, lambda item: inspect.isclass(item) and issubclass(item, errors.TradeAnalystError)
    )
    return [name for name, _ in found]


def test_each_error_is_documented() -> None:
    """Each exception has a row in docs/errors.md, and a line in the tree of errors.py; no row is left over."""
    documented = re.findall(r"^\| `(\w+Error)` \| .+ \| .+ \|$", page("errors"), flags=re.MULTILINE)
    assert sorted(documented) == sorted(error_classes())
    assert [name for name in error_classes() if name not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize("path", [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each link to a file of the project leads to one that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_readme_keeps_its_order() -> None:
    """What it is, the one command, what comes out, what a live account has on day 1; then the sections in order."""
    landmarks = ["make run", "**What comes out**", "**What a live account has on day 1**"]
    landmarks += [f"## {title}" for title in ("Tables", "Commands", "Configuration", "Log-in to Schwab", "Operations")]
    landmarks += [f"## {title}" for title in ("Layout", "Development", "Changes")]
    places = [README.index(landmark) for landmark in landmarks]
    assert places == sorted(places)


def test_changelog_has_the_version() -> None:
    """CHANGELOG.md has a section for the version the project states."""
    stated = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert stated is not None
    assert re.search(rf"^## {re.escape(stated[1])}\b", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
