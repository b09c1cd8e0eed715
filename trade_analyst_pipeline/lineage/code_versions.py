"""Which code a partition was made by, and whether that is the code there is.

A step makes one table or metric. Its fingerprint covers what decides what the step makes of given sources: the source
code it reaches (`source_code.py`), the versions of the packages which that code imports, and Python's. It is the same
on every machine, and in an installed package as in a checkout. No setting is part of it, for none changes what a step
makes: a test holds that no step reaches `settings.py`. What only runs a step (fences, workers, order) is not in it, nor
how rows are put into files.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypedDict

import msgspec

from trade_analyst_pipeline.datasets import TABLES
from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.lineage.source_code import SOURCE_FOLDER, Definition, Reached, SourceTree
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.tables import Manifest

_DIGITS: Final = 16
_CONTENT: Final = (
    ("storage.content_hash", "canonical"),
    ("storage.content_hash", "hash_of_canonical"),
    ("storage.schema_versions", "upgraded"),
)
_JUDGING: Final = (("lineage.judging", "recorded"), ("lineage.judging", "judge"))
_MERGING: Final = (("lineage.merging", "Fed"), ("lineage.merging", "Fed.add"), ("lineage.merging", "Fed.fold"))
# What a dataset asks for, and where its rows stand in an answer, decide nothing that is in a table.
_NOT_MAKING: Final = ("requests", "LAYOUT")


@dataclass(frozen=True)
class Step:
    """What makes one table, with its quarantine, or one metric: the definitions it begins with."""

    stage: str
    name: str
    roots: tuple[Definition, ...]

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}"


def _table(name: str) -> Step:
    merging = _MERGING if TABLES[name].spans_sessions else ()
    return Step("tables", name, (("datasets", name.upper()), *_JUDGING, *merging, *_CONTENT))


def _metric(name: str, root: str, module: str = "lineage.metrics") -> Step:
    return Step("metrics", name, ((module, root), *_CONTENT))


STEPS: Final[Mapping[str, Step]] = {
    str(step): step
    for step in (
        *map(_table, TABLES),
        _metric("put_call_ratio", "PUT_CALL_RATIO"),
        _metric("forward", "FORWARD"),
        _metric("implied_volatility", "IMPLIED_VOLATILITY"),
        _metric("term_structure", "TERM_STRUCTURE"),
        _metric("surface_check", "SURFACE_CHECK"),
        _metric("exposure", "EXPOSURE"),
        _metric("iv_history", "iv_history_of"),
        _metric("volatility_index", "VOLATILITY_INDEX"),
        _metric("iv_rank", "IV_RANK"),
        _metric("put_call_ratio_daily", "PUT_CALL_RATIO_DAILY"),
        _metric("realized_volatility", "REALIZED_VOLATILITY"),
        _metric("aggressor_side", "AGGRESSOR_SIDE", "lineage.trade_metrics"),
        _metric("aggressor_confidence", "AGGRESSOR_CONFIDENCE", "lineage.trade_metrics"),
        _metric("trade_location", "TRADE_LOCATION", "lineage.trade_metrics"),
        Step("exports", "metrics", (("export", "publish_session"),)),
        Step("exports", "classification", (("export", "publish_session"),)),
    )
}


def step_of(stage: str, name: str) -> str:
    """The step that makes a table of a stage; what is in quarantine comes out of the making of its table."""
    return f"{'tables' if stage == 'quarantine' else stage}/{name}"


def fingerprint(step: str) -> str:
    """16 hexadecimal digits that differ when the code of a step does."""
    return hashlib.sha256(json.dumps(sorted(code_of(step).items())).encode()).hexdigest()[:_DIGITS]


def code_version(step: str) -> str:
    """What a partition made by a step says made it: the program's version, `+`, the fingerprint."""
    return f"{program_version()}+{fingerprint(step)}"


class MadeBy(TypedDict):
    """What a manifest says of the step that made its partition."""

    code_version: str
    code: Mapping[str, str]


def made_by(step: str) -> MadeBy:
    """What the manifest of a partition made by a step says of it."""
    return MadeBy(code_version=code_version(step), code=code_of(step))


def changed_code(manifest: Manifest, step: str) -> str:
    """What of a step's code is another than the one a partition was made by, in words; empty when nothing is."""
    if is_made_by(manifest, step):
        return ""
    now, then = code_of(step), manifest.code
    if not then:
        return f"made by version {manifest.code_version}, which did not note its code"
    changed = sorted(part for part in {*now, *then} if now.get(part) != then.get(part))
    return f"other code: {', '.join(map(partial(_change, now, then), changed))}"


def _change(now: Mapping[str, str], then: Mapping[str, str], part: str) -> str:
    versions = [code.get(part, "none") for code in (then, now)]
    is_module = any(len(each) == _DIGITS and "." not in each for each in versions)
    return part if is_module else f"{part} {versions[0]}, now {versions[1]}"


def program_version() -> str:
    """The version of the program, for people: it decides nothing."""
    return _installed("trade-analyst")


def is_made_by(manifest: Manifest, step: str) -> bool:
    """Whether a partition was made by a step as it is now, whatever the program's version was."""
    return manifest.code_version.partition("+")[2] == fingerprint(step)


_installed = cache(version)


@cache
def code_of(step: str) -> Mapping[str, str]:
    """What the fingerprint of a step is made of: modules by their digest, packages and Python by their version."""
    reached = _all_reached()[step]
    major, minor = sys.version_info[:2]
    packages = {name: _installed(name) for name in sorted(reached.foreign)}
    return dict(reached.modules) | packages | {"python": f"{major}.{minor}"}


@cache
def _all_reached() -> Mapping[str, Reached]:
    """Of every step; worked out once for each state of the source, and kept beside Python's own compiled files."""
    state = _state_of(SOURCE_FOLDER)
    kept = SOURCE_FOLDER / "__pycache__" / f"code_versions.{sys.implementation.cache_tag}.json"
    with suppress(OSError, msgspec.MsgspecError):
        held = _KEPT.decode(kept.read_bytes())
        if held.state == state and held.reached.keys() == STEPS.keys():
            return held.reached
    source = SourceTree(SOURCE_FOLDER)
    reached = {name: source.reached(step.roots, apart_from=_NOT_MAKING) for name, step in STEPS.items()}
    if not sys.dont_write_bytecode:
        with suppress(OSError, StorageError):
            durable.write_bytes(kept, msgspec.json.encode(_Kept(state, reached)))
    return reached


@dataclass(frozen=True)
class _Kept:
    state: str
    reached: dict[str, Reached]


# made here: two threads that decode a type for the first time at once crash the library
_KEPT = msgspec.json.Decoder(_Kept)


def _state_of(folder: Path) -> str:
    """A hash of the bytes of every source file."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\n{len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()
