"""After any change of code or captures, what it reaches is made anew and nothing else, and all is as if made anew.

Code is changed in a copy of the package's source that another process then runs; captures in a copy of a data folder.
Which partitions a change reaches is written out here and in `recomputed.py`.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path

import pytest
from recomputed import TABLES, contents, of_steps, reachable, recomputed, rows, touched
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures

import trade_analyst_pipeline
from trade_analyst_pipeline.lineage import rebuild as rebuilding
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.staleness import Stale

SOURCE = Path(trade_analyst_pipeline.__file__).parent
WORKER = Path(__file__).with_name("recompute_worker.py")
JUNE = date(2023, 6, 1)
# the last sessions of 2025, so that windows of 10 have a value and reach from one year into the next
DECEMBER = [date(2025, 12, day) for day in (10, 11, 12, 15, 16, 17, 18, 19, 22, 23, 24, 26, 29, 30)]
ALL_TABLES = "tables/options tables/quotes tables/ohlc"
OPTION_METRICS = "metrics/put_call_ratio metrics/iv_history"
EXPIRY_METRICS = "metrics/forward metrics/implied_volatility metrics/term_structure metrics/exposure"

QUOTE_METRICS = "metrics/surface_check metrics/volatility_index"
ALL_SERIES = "metrics/iv_rank metrics/put_call_ratio_daily metrics/realized_volatility"

# A function each, and the tables and metrics whose making it is part of.
CODE = [
    ("datasets/options.py", "normalize", "tables/options"),
    ("datasets/quotes.py", "normalize", "tables/quotes"),
    ("datasets/ohlc.py", "revisions", "tables/ohlc"),
    ("market/option_values.py", None, "tables/options"),
    ("validation.py", "validate", ALL_TABLES),
    ("quarantine.py", "quarantine_rows", ALL_TABLES),
    ("market/tolerance.py", "allows", ALL_TABLES),
    ("lineage/judging.py", "judge", ALL_TABLES),
    ("storage/archive.py", "completions", ALL_TABLES),
    ("lineage/merging.py", "fold", "tables/ohlc"),
    ("market/session_hours.py", "up_to_close", f"{OPTION_METRICS} metrics/put_call_ratio_daily"),
    ("market/session_grid.py", "session_grid", ALL_SERIES),
    ("metrics/iv_history/__init__.py", "iv_history", "metrics/iv_history"),
    ("metrics/iv_rank.py", "iv_rank", "metrics/iv_rank"),
    ("kernels/normal.py", None, ""),
    ("metrics/forward.py", "forward", "metrics/forward"),
    ("metrics/implied_volatility.py", "implied_volatility", "metrics/implied_volatility"),
    ("metrics/term_structure.py", "term_structure", "metrics/term_structure"),
    ("metrics/surface_check.py", "surface_check", "metrics/surface_check"),
    ("metrics/volatility_index.py", "volatility_index", "metrics/volatility_index"),
    ("metrics/exposure.py", "exposure", "metrics/exposure"),
    ("metrics/put_call_ratio.py", "put_call_ratio", "metrics/put_call_ratio"),
    ("metrics/put_call_ratio.py", "put_call_ratio_daily", "metrics/put_call_ratio_daily"),
    ("metrics/realized_volatility.py", "_estimates", "metrics/realized_volatility"),
    (
        "storage/content_hash.py",
        "canonical",
        f"{ALL_TABLES} {OPTION_METRICS} {EXPIRY_METRICS} {QUOTE_METRICS} {ALL_SERIES}",
    ),
    # part of no making
    ("datasets/options.py", "requests", ""),
    ("datasets/movers.py", "normalize", ""),
    ("schwab/client.py", None, ""),
    ("capture/take.py", None, ""),
    ("lineage/rebuild.py", "rebuild", ""),
    ("storage/durable.py", "replacing", ""),
    ("cli/data.py", "query", ""),
]
# Functions whose result is another one from then on: what is added at the end of their module.
OTHER_RESULT = {
    ("datasets/options.py", "normalize"): "replace(found, frame=found.frame.with_columns(pl.col('volume') + {n}))",
    ("datasets/quotes.py", "normalize"): "replace(found, frame=found.frame.with_columns(pl.col('volume') + {n}))",
    ("datasets/ohlc.py", "revisions"): "found.with_columns(pl.col('volume') + {n}, pl.col('high') + {n})",
    ("validation.py", "validate"): "replace(found, valid=found.valid.slice(1))",
    ("metrics/iv_history/__init__.py", "iv_history"): "found.with_columns(iv=pl.lit({n} / 1000))",
    ("metrics/put_call_ratio.py", "put_call_ratio"): "found.with_columns(pl.col('call_volume') + {n})",
    ("market/session_hours.py", "up_to_close"): "found.head(0 * {n})",
}


@dataclass(frozen=True)
class Change:
    """What was changed, the partitions that have to be made anew for it, and whether rows come out otherwise."""

    what: str
    direct: frozenset[str]
    changes_rows: bool


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of some sessions in three years, with every table and metric current."""
    captures = Captures(tmp_path_factory.mktemp("recompute") / "data")
    for day in (DECEMBER[-1], MONDAY, TUESDAY):
        captures.chain(day)
        captures.quotes(4, bad=1, day=day)
    captures.bars(JUNE, {JUNE: 100.0})
    captures.bars(DECEMBER[-1], {day: 100.0 + number / 2 for number, day in enumerate(DECEMBER)})
    captures.bars(MONDAY, {DECEMBER[-1]: 100.5, MONDAY: 101.0})
    captures.bars(TUESDAY, {MONDAY: 102.0, TUESDAY: 103.0})
    captures.bars(WEDNESDAY, {TUESDAY: 103.5})  # and no bar of its own session
    list(rebuild(captures.folder, datasets=TABLES, workers=1, created_time=CREATED))
    return captures.folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's source, and of what is kept compiled of it, which is read while a source is the same."""
    return shutil.copytree(
        SOURCE, tmp_path / "code" / SOURCE.name, ignore=shutil.ignore_patterns("code_versions.*.json")
    )


def change_code(package: Path, number: int, rolled: random.Random, base: Path) -> Change:
    """Change one function of the copy: each in turn, with another result where that is known, else alike."""
    file, name, steps = CODE[number % len(CODE)]
    value = rolled.randrange(2, 10**6)
    other = OTHER_RESULT.get((file, name or "")) if rolled.random() < 0.6 else None
    path = package / file
    text = (SOURCE / file).read_text()
    if name is None:
        text = f"{text}\n\nasync def planted(value: int) -> int:\n    return value + {value}\n"
        steps = ""
    elif other is not None:
        text += (
            f"\n\nfrom dataclasses import replace\nimport polars as pl\n_as_it_was = {name}\n\n\n"
            f"def {name}(*args, **options):\n    found = _as_it_was(*args, **options)\n"
            f"    return {other.format(n=value)}\n"
        )
    else:
        text = with_first_line(text, name, f"_planted = {value}")
    path.write_text(text)
    kind = "other result of" if other else "alike:"
    return Change(f"{kind} {file} {name}", frozenset(of_steps(touched(base), steps.split())), other is not None)


def with_first_line(text: str, name: str, line: str) -> str:
    """The source with a statement put first into each function of that name, after its docstring."""
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert functions, name
    for function in sorted(functions, key=lambda each: -each.lineno):
        first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
        lines.insert(first.lineno - 1, f"{' ' * first.col_offset}{line}\n")
    return "".join(lines)


def change_captures(folder: Path, rolled: random.Random) -> Change:
    """Add one capture to the archive, take one away, or let another attempt of one come late."""
    captures = Captures(folder)
    day = rolled.choice([DECEMBER[-1], MONDAY, TUESDAY, WEDNESDAY])
    kind = rolled.choice(["chain", "late chain", "quotes", "bars", "late bars", "gone chain", "gone quotes"])
    what, of = f"{kind} {day}", {f"{stage}/{{}}/session_date={day}" for stage in ("tables", "quarantine")}
    if kind == "chain":
        captures.chain(day, at=time(20, rolled.randrange(10, 50)))
    elif kind == "late chain":
        captures.chain(day)  # a second attempt at the snapshot there is
    elif kind == "quotes":
        captures.quotes(rolled.randrange(2, 9), bad=rolled.randrange(2), day=day)
    elif kind == "gone chain" or kind == "gone quotes":
        return _take_away(folder, kind.split()[1].replace("chain", "options"), rolled)
    else:
        return _change_bars(captures, day, rolled, is_late=kind == "late bars")
    name = "quotes" if kind == "quotes" else "options"
    return Change(what, frozenset(each.format(name) for each in of), changes_rows=True)


def _take_away(folder: Path, name: str, rolled: random.Random) -> Change:
    """Take the only capture of a session away after another has come, so that the session still has one."""
    day = rolled.choice([MONDAY, TUESDAY])
    (old,) = (folder / "raw" / name / f"session_date={day}").glob("*.raw")
    captures = Captures(folder)
    _ = captures.chain(day, at=time(20, 20)) if name == "options" else captures.quotes(2, day=day)
    old.unlink()
    direct = {f"{stage}/{name}/session_date={day}" for stage in ("tables", "quarantine")}
    return Change(f"another capture in place of {old.stem}", frozenset(direct), changes_rows=True)


def _change_bars(captures: Captures, day: date, rolled: random.Random, *, is_late: bool) -> Change:
    """A capture of bars of a few sessions; what else was captured in its session is merged with it."""
    if is_late:
        day = rolled.choice([DECEMBER[-1], MONDAY])
    before = {DECEMBER[-1]: DECEMBER, MONDAY: [DECEMBER[-1], MONDAY], TUESDAY: [MONDAY, TUESDAY], WEDNESDAY: [TUESDAY]}
    described = {day, *rolled.sample(DECEMBER, 2)}
    captures.bars(day, {each: rolled.randrange(92, 108) + 0.25 for each in sorted(described)})
    direct = {f"tables/ohlc/session_date={each}" for each in {*described, *before[day]}}
    return Change(f"bars on {day}", frozenset({*direct, f"quarantine/ohlc/session_date={day}"}), changes_rows=True)


def run_elsewhere(package: Path, stale: Path, anew: Path, overlooked: str = "-") -> None:
    """Bring one folder up to date and make the other anew, both by the copied package."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    command = [sys.executable, str(WORKER), str(package), str(stale), str(anew), overlooked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_here(stale: Path, anew: Path) -> None:
    """Bring one folder up to date and make the other anew, both by this program."""
    list(rebuild(stale, datasets=TABLES, workers=1, created_time=CREATED))
    list(rebuild(anew, datasets=TABLES, workers=1, created_time=CREATED, full=True))


def problems(change: Change, before: dict[str, int], stale: Path, anew: Path) -> list[str]:
    """What is wrong with a recompute: too much, too little, or another content than that made anew."""
    after = touched(stale)
    made = recomputed(before, after)
    allowed = reachable(after, change.direct) if change.changes_rows else set(change.direct)
    found = [f"{change.what}: {each} was made without need" for each in sorted(made - allowed)]
    found += [f"{change.what}: {each} was left" for each in sorted(change.direct & after.keys() - made)]
    ours, wanted = contents(stale), contents(anew)
    differing = {each for each in ours.keys() | wanted.keys() if ours.get(each) != wanted.get(each)}
    differing |= {each for each in made & wanted.keys() & ours.keys() if not rows(stale, each).equals(rows(anew, each))}
    return found + [f"{change.what}: {each} differs from a full rebuild" for each in sorted(differing)]


@pytest.mark.reliability
def test_a_change_of_code_remakes_what_it_reaches(
    base: Path, package: Path, tmp_path: Path, is_full: bool, harness_seed: int
) -> None:
    """Whatever function is changed, its tables and metrics are made anew, and others only where rows have changed."""
    rolled = random.Random(harness_seed)  # noqa: S311  a harness, no secret
    count = 2 * len(CODE) if is_full else 2
    chosen = [*range(count)] if is_full else rolled.sample(range(len(CODE)), count)
    wrong, seen = list[str](), 0
    for number in chosen:
        stale, anew = (shutil.copytree(base, tmp_path / f"{kind}{number}") for kind in ("stale", "anew"))
        before = touched(stale)
        change = change_code(package, number, rolled, base)
        run_elsewhere(package, stale, anew)
        wrong += problems(change, before, stale, anew)
        seen += len(recomputed(before, touched(stale)))
        shutil.copyfile(SOURCE / CODE[number % len(CODE)][0], package / CODE[number % len(CODE)][0])
        shutil.rmtree(stale)
        shutil.rmtree(anew)
    print(f"{len(chosen)} changes of code, {seen} partitions made anew")
    assert wrong == []


@pytest.mark.reliability
def test_a_change_of_captures_remakes_what_it_reaches(
    base: Path, tmp_path: Path, is_full: bool, harness_seed: int
) -> None:
    """Captures that come, come late or are gone make their sessions anew, and what follows where rows have changed."""
    rolled = random.Random(harness_seed)  # noqa: S311  a harness, no secret
    wrong, count, seen = list[str](), 60 if is_full else 4, 0
    for number in range(count):
        stale = shutil.copytree(base, tmp_path / f"stale{number}")
        before = touched(stale)
        change = change_captures(stale, rolled)
        anew = shutil.copytree(stale, tmp_path / f"anew{number}")
        run_here(stale, anew)
        wrong += problems(change, before, stale, anew)
        seen += len(recomputed(before, touched(stale)))
        shutil.rmtree(stale)
        shutil.rmtree(anew)
    print(f"{count} changes of captures, {seen} partitions made anew")
    assert wrong == []


@pytest.mark.reliability
def test_a_fingerprint_that_overlooks_a_module_is_found(base: Path, package: Path, tmp_path: Path) -> None:
    """Control: where a shared module is left out of the code versions, its change is missed, and that shows."""
    stale, anew = (shutil.copytree(base, tmp_path / kind) for kind in ("stale", "anew"))
    before = touched(stale)
    text = (SOURCE / "validation.py").read_text()
    planted = "\n\n_as_it_was = validate\n\n\ndef validate(*args):\n    found = _as_it_was(*args)\n"
    planted += "    return Validated(found.valid.slice(1), found.quarantined, found.rule_counts)\n"
    (package / "validation.py").write_text(text + planted)
    direct = frozenset(of_steps(before, ALL_TABLES.split()))
    run_elsewhere(package, stale, anew, overlooked="validation")
    # the folder was made by a program that counted the module: all is made once by one that does not
    assert problems(Change("validation", direct, changes_rows=True), before, stale, anew) == []
    (package / "validation.py").write_text(text)
    before = touched(stale)
    run_elsewhere(package, stale, anew, overlooked="validation")
    told = problems(Change("validation", direct, changes_rows=True), before, stale, anew)
    assert {line.split()[-1] for line in told} == {"left", "rebuild"}


@pytest.mark.reliability
@pytest.mark.parametrize(("skipped", "told"), [("tables", "rebuild"), ("none", None), ("all", "need")])
def test_a_recompute_that_skips_or_overdoes_is_found(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skipped: str, told: str | None
) -> None:
    """Control: a partition left out of the plan differs, and more than the plan is more than a change reaches."""
    stale = shutil.copytree(base, tmp_path / "stale")
    before = touched(stale)
    Captures(stale).chain(MONDAY, at=time(20, 30))
    direct = frozenset(f"{stage}/options/session_date={MONDAY}" for stage in ("tables", "quarantine"))
    anew = shutil.copytree(stale, tmp_path / "anew")
    as_planned = rebuilding.stale_tables
    planned: dict[str, Callable[..., object]] = {
        "tables": lambda *_: [],
        "none": as_planned,
        "all": lambda *given: [Stale(f"tables/{given[1]}", d, (), takes_all=True) for d in given[2]],
    }
    with monkeypatch.context() as patched:
        patched.setattr(rebuilding, "stale_tables", planned[skipped])
        list(rebuild(stale, datasets=TABLES, workers=1, created_time=CREATED))
    list(rebuild(anew, datasets=TABLES, workers=1, created_time=CREATED, full=True))
    found = problems(Change("chain", direct, changes_rows=True), before, stale, anew)
    assert told is None or any(line.endswith(told) for line in found)
    assert (found == []) == (told is None)
