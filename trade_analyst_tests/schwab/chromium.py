"""A headless Chromium driven over a pipe: open a page, click, read its text. Needs no library and no port."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROGRAM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --no-default-browser-check --disable-extensions "
    "--remote-debugging-pipe"
)
# Chromium reads its commands from descriptor 3 and writes to 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
for end in ends:
    os.close(end)
os.execv(sys.argv[3], sys.argv[3:])
"""
_LARGEST = 1 << 20


def key_pin(certificate_pem: bytes) -> str:
    """The pin by which Chromium may be told to trust a certificate: base64 of SHA-256 over its public key."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


class Chromium:
    """One browser with a fresh profile and one page. A context manager. `pins` are keys it trusts beside its own."""

    def __init__(self, profile: Path, *, pins: list[str], seconds: float = 60.0) -> None:
        self._deadline = time.monotonic() + seconds
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [str(PROGRAM), *FLAGS.split(), f"--user-data-dir={profile}"]
        command += [f"--ignore-certificate-errors-spki-list={','.join(pins)}"] if pins else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(to_browser), str(from_browser), *command, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._received = b""
        self._number = 0
        self._session: str | None = None

    def __enter__(self) -> Chromium:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)  # ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._in)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command of the DevTools protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                return answer.get("result", {"error": answer.get("error")})

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("Chromium did not answer in time")
            piece = os.read(self._in, _LARGEST)
            if not piece:
                raise EOFError("Chromium has ended")
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def go(self, url: str) -> str | None:
        """Open an address; the error the browser names, None when the page came."""
        return self.ask("Page.navigate", url=url).get("errorText")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True).get("result", {}).get("value")

    def wait_for(self, script: str, *, seconds: float) -> Any:
        """The value of an expression once it is true, else its last value after so many seconds."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)) and time.monotonic() < until:
            select.select([self._in], [], [], 0.05)  # the page goes on; a message of the browser ends the pause
        return value
