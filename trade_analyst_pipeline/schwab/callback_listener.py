"""The listener on 127.0.0.1 that the browser is redirected to, with a certificate made for this one wait.

Not here: what the redirect must look like (`callback.py`) and what happens with its code (`auth.py`). Its pages are
fixed texts: no script, nothing of the request.
"""

from __future__ import annotations

import logging
import os
import queue
import socketserver
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.callback import ExpectedCallback
from trade_analyst_pipeline.schwab.callback_ledger import RefusalReason

LOOPBACK = "127.0.0.1"

_CLIENT_SECONDS = 5.0
_ICONS = frozenset(["/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png"])
_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}
_CANNOT_BE_USED = "The answer that arrived cannot be used. You can close this page; the terminal says more."
# Reasons that need another status or sentence than a plain 400; the first four end the wait.
_REFUSALS: dict[str | None, tuple[HTTPStatus, str]] = {
    "denied": (HTTPStatus.BAD_REQUEST, "The login was refused. You can close this page; the terminal says more."),
    "issuer": (HTTPStatus.BAD_REQUEST, _CANNOT_BE_USED),
    "no_code": (HTTPStatus.BAD_REQUEST, _CANNOT_BE_USED),
    "used": (HTTPStatus.CONFLICT, "An answer has already arrived. You can close this page."),
    "late": (HTTPStatus.GONE, "This login is over. You can close this page and start another."),
    "method": (HTTPStatus.METHOD_NOT_ALLOWED, "Only the redirect of a login is answered here."),
    "host": (HTTPStatus.MISDIRECTED_REQUEST, "This is not the address that is waited for."),
    "size": (HTTPStatus.REQUEST_URI_TOO_LONG, "Only the redirect of a login is answered here."),
}
_PLAIN_REFUSAL = (HTTPStatus.BAD_REQUEST, "This is not the answer that is waited for.")
_ENDING = frozenset(["denied", "issuer", "no_code"])
# What http.server itself refuses, by the status it would send.
_BY_STATUS: dict[int, RefusalReason] = {501: "method", 414: "size", 431: "size"}

_log = logging.getLogger(__name__)


class CallbackListener:
    """HTTPS on 127.0.0.1 for exactly one expected redirect. A context manager: closed on leaving, in any case.

    The certificate is made for this one wait and valid for an hour; its key is held in memory, but for a moment in a
    folder nobody else can open. `certificate_pem` is public, for a caller that plays the browser.
    """

    def __init__(self, expected: ExpectedCallback) -> None:
        parts = urlsplit(expected.redirect_uri)
        if parts.scheme != "https" or parts.hostname != LOOPBACK:
            message = f"{expected.redirect_uri} is not https://{LOOPBACK}[:port][/path]; only that is listened on."
            raise CallbackError(message)
        self._expected = expected
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._answer: queue.Queue[SecretStr | CallbackError] = queue.Queue()
        context, self.certificate_pem = _identity(datetime.now(UTC))
        self._server = _listen(parts.port or 443, _Server(context, parts.netloc, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> CallbackListener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, seconds: float) -> SecretStr | None:
        """The code of the redirect with our state, as soon as it has come; None when none came within `seconds`.

        Raises CallbackError when the answer has our state and brings no usable code.
        """
        try:
            answer = self._answer.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(answer, CallbackError):
            raise answer
        return answer

    def judge(self, target: str) -> tuple[HTTPStatus, str, SecretStr | CallbackError | None]:
        """What to answer to a GET for `target`, and what to hand over once that is sent."""
        try:
            code = self._expected.read(SecretStr(self._root + target))
        except CallbackError as error:
            status, sentence = _REFUSALS.get(error.reason, _PLAIN_REFUSAL)
            return status, sentence, error if error.reason in _ENDING else None
        return HTTPStatus.OK, "The login has arrived. You can close this page.", code

    def refuse(self, reason: RefusalReason) -> tuple[HTTPStatus, str]:
        """Count a request that is none of ours by its form, and what to answer to it."""
        self._expected.refuse(reason)
        return _REFUSALS.get(reason, _PLAIN_REFUSAL)

    def hand_over(self, answer: SecretStr | CallbackError) -> None:
        """End the wait."""
        self._answer.put(answer)


class _Server(socketserver.ThreadingTCPServer):
    """One thread per connection, so that a browser's idle second connection holds nobody up."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext, host: str, listener: CallbackListener) -> None:
        super().__init__((LOOPBACK, 0), _Handler, bind_and_activate=False)
        self._context = context
        self.host = host
        self.listener = listener

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        plain, peer = self.socket.accept()
        plain.settimeout(_CLIENT_SECONDS)
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is given
        """A connection that breaks off, or a browser that does not trust the certificate yet, is no fault of ours."""
        _log.debug("a connection to the login listener ended early")


def _listen(port: int, server: _Server) -> _Server:
    server.server_address = (LOOPBACK, port)
    try:
        server.server_bind()
        server.server_activate()
    except OSError as error:
        server.server_close()
        message = (
            f"port {port} on {LOOPBACK} cannot be listened on ({error.strerror}). End the program that uses it; or log "
            "in with --manual, which needs no port; or register another address with the source and set "
            "schwab.redirect_uri to it."
        )
        raise CallbackError(message) from error
    return server


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    request: ssl.SSLSocket
    default_request_version = "HTTP/1.0"  # of a request without a version: the refusal has a status line too

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:  # the name is http.server's
        listener = self.server.listener
        words = self.requestline.split()  # not self.path, in which several leading slashes have become one
        if len(words) != 3:
            self._page(*listener.refuse("malformed"))
        elif self.headers.get_all("Host") != [self.server.host]:
            self._page(*listener.refuse("host"))
        elif words[1] in _ICONS:
            self._page(HTTPStatus.NOT_FOUND, "There is no picture.")  # asked for by browsers: no callback
        else:
            self._answer(words[1])

    def _answer(self, target: str) -> None:
        status, sentence, answer = self.server.listener.judge(target)
        try:
            self._page(status, sentence)
        finally:
            if answer is not None:
                self.server.listener.hand_over(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """A fixed page for what http.server itself refuses: it would echo the request."""
        self._page(*self.server.listener.refuse(_BY_STATUS.get(code, "malformed")))

    def _page(self, status: HTTPStatus, sentence: str) -> None:
        body = f"<!doctype html><meta charset=utf-8><title>Trade analyst</title><p>{sentence}</p>".encode()
        self.send_response_only(status)
        for name, value in _PAGE_HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is given
        """Nothing: http.server would print the address with the code in it."""


def _identity(now: datetime) -> tuple[ssl.SSLContext, bytes]:
    """A server context with a self-signed certificate for 127.0.0.1, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trade-analyst login")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "identity.pem")
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(private + pem)
        context.load_cert_chain(file)
    return context, pem
