"""The pages of metrics against the code: which have to be read again, and that one has been.

    python .ci/metric_pages.py              which pages the code has changed under, and where (make pages)
    python .ci/metric_pages.py iv_rank      that page says what the code does now             (make pages ARGS=iv_rank)

Each page of docs/metrics/ belongs to the module of its name, and ends with a digest of that module's definitions and of
all that they reach in the package, module by module: what the code was when the page was last read beside it. Layout,
comments and docstrings do not count. A test compares the digests with the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from trade_analyst_pipeline.lineage.source_code import SourceTree

PAGES = Path(__file__).resolve().parents[1] / "docs" / "metrics"
_FOOT = "\n---\n\nLast read beside the code as of:\n"
_DIGEST = re.compile(r"`([a-z_.]+)` ([0-9a-f]{16})")


@cache
def _source() -> SourceTree:
    return SourceTree()


def names() -> list[str]:
    """The pages there are, each by the name of its module."""
    return sorted(path.stem for path in PAGES.glob("*.md"))


def digests(name: str) -> Mapping[str, str]:
    """What the module of a page reaches: of each module of the package, a digest of that part of it."""
    source, module = _source(), f"metrics.{name}"
    return source.reached([(module, each) for each in source.known_module(module).definitions]).modules


def read_beside(text: str) -> Mapping[str, str]:
    """The digests that a page ends with; none where it was never read beside the code."""
    return dict(_DIGEST.findall(text.rpartition(_FOOT)[2])) if _FOOT in text else {}


def changed(name: str, text: str) -> list[str]:
    """The modules that are not what they were when the page was last read."""
    then, now = read_beside(text), digests(name)
    return sorted(module for module in {*then, *now} if then.get(module) != now.get(module))


def accepted(name: str, text: str) -> str:
    """The page, saying that it was read beside the code as it is."""
    body = text.partition(_FOOT)[0].rstrip("\n") + "\n"
    return f"{body}{_FOOT}" + ",\n".join(f"`{each}` {digest}" for each, digest in sorted(digests(name).items())) + ".\n"


def main(wanted: list[str]) -> int:
    """Accept the pages named, or list what is to be read; the exit code is 1 while something is."""
    for name in wanted:
        if name not in names():
            sys.stderr.write(f"docs/metrics/{name}.md is no page: pages are {', '.join(names())}\n")
            return 2
        path = PAGES / f"{name}.md"
        path.write_text(accepted(name, path.read_text(encoding="utf-8")), encoding="utf-8")
    left = {name: changed(name, (PAGES / f"{name}.md").read_text(encoding="utf-8")) for name in names()}
    for name, modules in left.items():
        if modules:
            sys.stdout.write(f"docs/metrics/{name}.md: read it again beside {', '.join(modules)}\n")
    return int(any(left.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
