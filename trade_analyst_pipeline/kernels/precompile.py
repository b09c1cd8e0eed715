"""Compile every kernel beforehand: `python -m trade_analyst_pipeline.kernels.precompile`, a part of the set-up.

The machine code is kept where numba keeps it, in `__pycache__` beside the source. A kernel that is called from outside
has its types written at it, so that its import compiles it, or reads what was kept; no call ever compiles.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).parent
PROCESSES = 2  # the two longest modules take half of the time each


def main() -> None:
    """Import each module in one of the processes; the longest file, which takes longest, first."""
    files = sorted(HERE.glob("[a-z]*.py"), key=lambda file: -file.stat().st_size)
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_workers=PROCESSES) as processes:
        list(processes.map(_compile, [f"{__package__}.{file.stem}" for file in files]))


def _compile(module: str) -> None:
    import_module(module)


if __name__ == "__main__":
    main()
