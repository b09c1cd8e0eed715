"""Ctrl-C ends what waits in a call of the system, whatever Polars did to it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAITS_FOR_A_LINE = """
import signal, sys
import polars
from trade_analyst_pipeline.cli.interrupts import interruptible
{before}
try:
    with interruptible():
        print("waiting", flush=True)
        print("read", repr(sys.stdin.readline()))
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is {after})
"""


def _waiting(before: str, after: str) -> subprocess.Popen[str]:
    program = WAITS_FOR_A_LINE.format(before=before, after=after)
    waiting = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    state = Path(f"/proc/{waiting.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "S":  # until it waits for the line
        pass
    waiting.send_signal(signal.SIGINT)
    return waiting


def test_a_wait_for_a_line_ends_at_ctrl_c() -> None:
    """With Polars imported the line would be waited for; the handler of before is put back."""
    waiting = _waiting("", "signal.default_int_handler")
    try:
        waiting.wait(20)
    except subprocess.TimeoutExpired:
        waiting.kill()
        pytest.fail("Ctrl-C did not end the wait")
    assert waiting.communicate()[0] == "interrupted\nTrue\n"


def test_what_is_ignored_stays_ignored() -> None:
    """A process that a shell started in the background, where Ctrl-C is not for it, goes on."""
    waiting = _waiting("signal.signal(signal.SIGINT, signal.SIG_IGN)", "signal.SIG_IGN")
    assert waiting.communicate("a line\n", timeout=20)[0] == "read 'a line\\n'\nTrue\n"
