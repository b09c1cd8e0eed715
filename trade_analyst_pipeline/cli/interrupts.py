"""Letting Ctrl-C end a wait in a call of the system at once.

When Polars is imported it puts a handler of its own before Python's, after which the system goes on with the call that
was interrupted: reading a line, or waiting for another program, would not end before it is done. Not here: what a
command does once it is interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it Ctrl-C is KeyboardInterrupt at once; after it, what it was before. For the main thread only.

    Where the process was started to ignore it, as a shell does in the background, it is ignored still.
    """
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
