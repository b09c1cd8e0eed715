"""The vulnerability audit cannot pass by auditing nothing."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

LOCK = """\
# a comment
alpha==1.0 \\
    --hash=sha256:00
    # via beta
beta[extra]==2.0 ; python_version >= '3.0' \\
    --hash=sha256:11
gamma==3.0 ; sys_platform == 'plan9' \\
    --hash=sha256:22
"""


def _load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("ci_audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ci_audit"] = module
    spec.loader.exec_module(module)
    return module


audit = _load()


def _answer(**entries: object) -> str:
    return json.dumps({"dependencies": [{"name": name, "version": "1", **entry} for name, entry in entries.items()]})


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock of two packages for this machine and one for another."""
    path = tmp_path / "lock.txt"
    path.write_text(LOCK)
    return path


CLEAN = _answer(alpha={"vulns": []}, beta={"vulns": []})
SKIPPED = _answer(alpha={"skip_reason": "unknown"}, beta={"skip_reason": "unknown"})
HALF = _answer(alpha={"vulns": []}, beta={"skip_reason": "unknown"})
VULNERABLE = _answer(alpha={"vulns": [{"id": "CVE-1"}]}, beta={"vulns": []})
EMPTY = _answer()


def test_lock_is_counted_for_this_machine() -> None:
    """Pins with extras count, pins for another system and comments do not."""
    assert audit.locked_packages(LOCK) == {"alpha", "beta"}


@pytest.mark.parametrize("answer", [SKIPPED, HALF, EMPTY, "", "Traceback (most recent call last)", "[]"])
def test_incomplete_audit_is_a_visible_skip_and_fails_where_a_full_one_is_required(
    answer: str, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All skipped, half skipped, an empty answer or none: 0 with NOT AUDITED, and 1 with --require-full."""
    assert audit.main([str(lock)], lambda *_: answer) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("NOT AUDITED: ")
    assert "clean" not in shown
    assert audit.main(["--require-full", str(lock)], lambda *_: answer) == 1


def test_full_audit_passes_both_ways(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When each package has an answer without a finding, the audit passes and says how many it looked up."""
    assert audit.main(["--require-full", str(lock)], lambda *_: CLEAN) == 0
    assert capsys.readouterr().out == f"audited 2 of 2 packages of {lock}: 0 vulnerable\n"


def test_known_bad_package_fails_and_is_named(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A vulnerability fails the audit with or without --require-full, naming package and id."""
    assert audit.main([str(lock)], lambda *_: VULNERABLE) == 1
    assert "  alpha: CVE-1\n" in capsys.readouterr().out
    assert audit.main(["--require-full", str(lock)], lambda *_: VULNERABLE) == 1


def test_second_service_fills_what_the_first_did_not_know(lock: Path) -> None:
    """A package skipped by one service counts once the other has answered for it."""
    answers = {"pypi": HALF, "osv": CLEAN}
    assert audit.main(["--require-full", str(lock)], lambda _, service: answers[service]) == 0


def test_lock_without_packages_cannot_pass_a_full_audit(tmp_path: Path) -> None:
    """An empty lock is refused where a full audit is required: zero of zero proves nothing."""
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    assert audit.main(["--require-full", str(empty)], lambda *_: EMPTY) == 1
