"""What is compiled at set-up is all that is ever compiled: no call of a kernel, with arrays of any kind, compiles."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from numba.core.registry import CPUDispatcher

from trade_analyst_pipeline import kernels
from trade_analyst_pipeline.kernels import parity

CALLED_FROM_OUTSIDE = {
    *("american.price", "american.invert", "inversion.invert", "greeks.evaluate", "parity.fit_expiries"),
    *("bulk_shares.bulk_shares", "quote_join.last_before", "quote_join.match_search"),
    *("level_one_json.count_messages", "level_one_json.read_messages", "level_one_trades.level_one_trades"),
    *("smile.smiles", "strip.strip_variances"),
    *("trade_rules.sign_trades", "trade_rules.different_prices", "trade_rules.locate_trades"),
}
COUNT = """
import sys
from importlib import import_module
from numba.core.registry import CPUDispatcher
modules = [import_module(f"trade_analyst_pipeline.kernels.{name}") for name in sys.argv[1:]]
kernels = {id(each): each for module in modules for each in vars(module).values() if isinstance(each, CPUDispatcher)}
stats = [each.stats for each in kernels.values()]
print(sum(sum(each.cache_hits.values()) for each in stats), sum(sum(each.cache_misses.values()) for each in stats))
"""


def names() -> list[str]:
    """The modules of kernels."""
    return [each.name for each in pkgutil.iter_modules(kernels.__path__)]


def test_kernels_called_from_outside_have_one_signature() -> None:
    """Their types are written at them, so that they are compiled at import and never again."""
    found = {
        f"{name}.{key}"
        for name in names()
        for key, kernel in vars(import_module(f"{kernels.__name__}.{name}")).items()
        if isinstance(kernel, CPUDispatcher) and kernel.__module__.endswith(name) and not kernel._can_compile
    }
    assert found == CALLED_FROM_OUTSIDE


def test_arrays_that_may_not_be_written_are_taken() -> None:
    """Columns come from Polars as views that may be written or not; both are the same type to a kernel."""
    columns = [np.array([0, 2]), np.array([99.0, 99.0]), np.array([True, False])]
    columns += [np.array([30_000.0, 20_000.0]), np.array([30_100.0, 20_100.0]), np.array([0.5]), np.array([0.04])]
    first = parity.fit_expiries(*columns, np.array([False]), 0.005)
    for column in columns:
        column.flags.writeable = False
    np.testing.assert_array_equal(parity.fit_expiries(*columns, np.array([False]), 0.005), first)


def test_after_the_command_nothing_is_left_to_compile(tmp_path: Path, is_full: bool) -> None:
    """Another process reads every kernel from what the command kept; in the full form it begins with nothing."""
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(tmp_path)} if is_full else {})
    subprocess.run([sys.executable, "-m", f"{kernels.__name__}.precompile"], env=environment, check=True, timeout=300)
    counted = subprocess.run(
        [sys.executable, "-c", COUNT, *names()],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    hits, misses = map(int, counted.stdout.split())
    assert hits >= len(CALLED_FROM_OUTSIDE)
    assert misses == 0
