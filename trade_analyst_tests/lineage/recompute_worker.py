"""Brings one data folder up to date and makes another anew, by the package that PYTHONPATH leads to.

Arguments: the package's folder, the folder to bring up to date, the folder to make anew, and a module whose code the
fingerprints are to overlook (`-` for none: the honest program).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import trade_analyst_pipeline
from trade_analyst_pipeline.lineage import code_versions
from trade_analyst_pipeline.lineage.rebuild import rebuild

NAMES = ("options", "quotes", "ohlc")


def main(package: str, stale: str, anew: str, overlooked: str) -> None:
    """Rebuild what is stale in one folder, and everything in the other."""
    assert Path(trade_analyst_pipeline.__file__).parent == Path(package)
    if overlooked != "-":
        as_it_is = code_versions.code_of
        code_versions.code_of = lambda step: {  # type: ignore[assignment]
            part: digest for part, digest in as_it_is(step).items() if part != overlooked
        }
    for folder, full in ((stale, False), (anew, True)):
        list(rebuild(Path(folder), datasets=NAMES, workers=1, created_time=datetime(2026, 1, 9, tzinfo=UTC), full=full))


if __name__ == "__main__":
    main(*sys.argv[1:])
