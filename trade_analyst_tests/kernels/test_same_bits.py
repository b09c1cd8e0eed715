"""The same bits on every machine: compiled for this processor, for the oldest one of its kind, and not compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kernel_bits.py")


def bits(seed: int, **variables: str) -> str:
    """What the program prints where these variables are set."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), **variables}
    command = [sys.executable, str(PROGRAM), str(seed)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_kernels_give_the_same_bits_everywhere(tmp_path: Path, harness_seed: int) -> None:
    """Without vector units, without fused multiplication and without a compiler at all."""
    here = bits(harness_seed)
    assert here.count("0x") == 2000
    oldest = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert bits(harness_seed, **oldest) == here
    assert bits(harness_seed, NUMBA_DISABLE_JIT="1") == here
    assert bits(harness_seed + 1) != here
