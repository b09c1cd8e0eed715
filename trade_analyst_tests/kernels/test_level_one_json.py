"""The scanner of level-one messages: nothing outside of a message is read."""

from __future__ import annotations

import numpy as np
import pytest

from trade_analyst_pipeline.kernels import level_one_json as scanner
from trade_analyst_pipeline.kernels.level_one_trades import NUMBERS

PART = b'{"service":"S","content":[{"key":"X","8":5}]}'


@pytest.mark.parametrize("length", range(len(PART) + 1))
def test_a_part_cut_anywhere_is_read_to_its_end_alone(length: int) -> None:
    """As plain Python, which has an error for a byte past the end; only the whole part has its row."""
    text = np.frombuffer(PART[:length], np.uint8)
    services = np.array([[1, ord("S")]], np.uint8)
    slots, numbers = np.full((1, 64), 5, np.int8), np.empty((NUMBERS, 1))
    integers, places, bytes_ = (np.empty(1, each) for each in (np.int64, np.int32, np.int8))
    table, names, lengths = np.full(4, -1, np.int32), np.zeros(64, np.uint8), np.zeros(3, np.int64)
    rows, _ = scanner._part.py_func(
        text, 0, length, services, slots, table, names, lengths, 0, 0,
        integers, bytes_, places, bytes_.copy(), integers.copy(), numbers, integers.copy(),
    )  # fmt: skip
    assert rows == (1 if length == len(PART) else -1)
