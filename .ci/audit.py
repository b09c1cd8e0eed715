"""Looks up every locked package for known vulnerabilities, and says how many were really looked up.

pip-audit ends well when its service knows nothing of a package, even when that is so for all of them. So its exit code
is not trusted: the packages of the lock are counted here, and one that got no answer is reported as not audited.

    python .ci/audit.py [--require-full] requirements/base.txt requirements/dev.txt

Exit codes: 1 a known vulnerability, or with --require-full any package without an answer; else 0.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SERVICES = ("pypi", "osv")
TIMEOUT_SECONDS = 300
_PIN = re.compile(r"^[A-Za-z0-9][^\\#]*==[^\\#]*")

# Asks one service about one lock; returns pip-audit's JSON text, or "" with nothing learnt.
Ask = Callable[[Path, str], str]


@dataclass
class Findings:
    """What is known of the packages of a lock: answered for, vulnerable, and why others got no answer."""

    packages: frozenset[str]
    audited: set[str] = field(default_factory=set)
    vulnerable: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def unaudited(self) -> list[str]:
        """Packages no service has answered for, sorted."""
        return sorted(self.packages - self.audited)


def locked_packages(lock: str) -> frozenset[str]:
    """Canonical names of the packages a lock pins for the Python and system this runs on."""
    pins = (match.group().strip() for match in map(_PIN.match, lock.splitlines()) if match)
    wanted = (Requirement(pin) for pin in pins)
    return frozenset(canonicalize_name(r.name) for r in wanted if r.marker is None or r.marker.evaluate())


def ask_pip_audit(lock: Path, service: str) -> str:
    """Run pip-audit on one lock; "" when it could not ask its service."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--require-hashes", "--disable-pip"]
    command += ["-f", "json", "-s", service, "--progress-spinner", "off"]
    done = subprocess.run(  # noqa: S603  our own arguments, no shell
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    return done.stdout


def audit(lock: Path, ask: Ask = ask_pip_audit) -> Findings:
    """Ask one service after the other until every package of the lock has an answer."""
    findings = Findings(locked_packages(lock.read_text(encoding="utf-8")))
    for service in SERVICES:
        if findings.unaudited:
            _learn(findings, ask(lock, service), service)
    return findings


def _learn(findings: Findings, answer: str, service: str) -> None:
    try:
        entries = json.loads(answer)["dependencies"]
    except (json.JSONDecodeError, KeyError, TypeError):
        findings.reasons[service] = f"{service} could not be asked"
        return
    answered = [entry for entry in entries if "vulns" in entry and "skip_reason" not in entry]
    if len(answered) < len(entries):
        findings.reasons[service] = f"{service} does not know {len(entries) - len(answered)} of {len(entries)}"
    for entry in answered:
        name = canonicalize_name(entry["name"])
        findings.audited.add(name)
        if entry["vulns"]:
            findings.vulnerable[name] = sorted({vuln["id"] for vuln in entry["vulns"]})


def report(lock: Path, findings: Findings) -> str:
    """One line for the lock, and one for each vulnerable package."""
    known, total = len(findings.packages) - len(findings.unaudited), len(findings.packages)
    if total == 0:
        headline = f"NOT AUDITED: {lock} names no package"
    elif known < total:
        reasons = "; ".join(findings.reasons.values()) or "missing from the answer"
        headline = f"NOT AUDITED: {known} of {total} packages of {lock} checked ({reasons})"
    else:
        headline = f"audited {known} of {total} packages of {lock}: {len(findings.vulnerable)} vulnerable"
    return "\n".join([headline, *(f"  {name}: {', '.join(ids)}" for name, ids in findings.vulnerable.items())])


def main(arguments: Sequence[str], ask: Ask = ask_pip_audit) -> int:
    """Audit each lock, print what was found and return the exit code."""
    parser = argparse.ArgumentParser(description="Known vulnerabilities of the locked packages.")
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--require-full", action="store_true", help="fail when any package got no answer")
    given = parser.parse_args(arguments)
    is_bad = False
    for lock in given.locks:
        findings = audit(lock, ask)
        print(report(lock, findings))  # noqa: T201  a script that prints to a person
        incomplete = not findings.packages or bool(findings.unaudited)
        is_bad |= bool(findings.vulnerable) or (given.require_full and incomplete)
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
