"""The arrays that kernels take, by the name of what they hold: for the reader, and in capitals for the compiler.

Of the compiler's types those that begin with `READ` are only read, so that a column of a table can be given as it is;
the others are written to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.int8]
Text = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

READ_FLOATS = types.Array(types.float64, 1, "C", readonly=True)
READ_INTEGERS = types.Array(types.int64, 1, "C", readonly=True)
READ_PLACES = types.Array(types.int32, 1, "C", readonly=True)
READ_BYTES = types.Array(types.int8, 1, "C", readonly=True)
READ_TEXT = types.Array(types.uint8, 1, "C", readonly=True)
READ_FLAGS = types.Array(types.boolean, 1, "C", readonly=True)
FLOATS = types.float64[::1]
INTEGERS = types.int64[::1]
PLACES = types.int32[::1]
BYTES = types.int8[::1]
TEXT = types.uint8[::1]

READ_FLOAT_ROWS = types.Array(types.float64, 2, "C", readonly=True)
READ_INTEGER_ROWS = types.Array(types.int64, 2, "C", readonly=True)
READ_BYTE_ROWS = types.Array(types.int8, 2, "C", readonly=True)
READ_TEXT_ROWS = types.Array(types.uint8, 2, "C", readonly=True)
FLOAT_ROWS = types.float64[:, ::1]
INTEGER_ROWS = types.int64[:, ::1]
