"""The redirect that comes back from the source after consent: what it must look like, and the listener it comes to.

Not here: making the authorize address and exchanging the code (`auth.py`).
"""

from __future__ import annotations

import hmac
import logging
import os
import queue
import re
import socketserver
import ssl
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError

LOOPBACK = "127.0.0.1"
LOGIN_AGAIN = "Run `trade-analyst login` again."

_LONGEST_ADDRESS = 8192
_CLIENT_SECONDS = 5.0
_CODE = re.compile(r"[A-Za-z0-9._~+/=@-]{1,4096}")
_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expectation:
    """The one redirect that is waited for: the registered address, the state sent, and who may say it issued it."""

    redirect_uri: str
    state: SecretStr
    issuer: str

    def read(self, address: SecretStr) -> SecretStr:
        """The authorization code in the address that came back, percent-decoded once.

        Raises CallbackError unless the address is the registered one, to the letter, with the state that was sent and
        one well-formed code. Parameters that are not known are ignored, repeated ones refused.
        """
        try:
            return self._read(address.get_secret_value())
        except CallbackError as error:
            raise CallbackError(str(error)) from None  # without the frames that hold the code

    def _read(self, address: str) -> SecretStr:
        fields = self.fields(address)
        if "error" in fields:
            message = f"the source answered the login with {_word(fields['error'])!r} instead of a code. {LOGIN_AGAIN}"
            raise CallbackError(message)
        if fields.get("iss", self.issuer) != self.issuer:
            message = f"the redirect says that another server issued it. {LOGIN_AGAIN}"
            raise CallbackError(message)
        return _code(fields)

    def fields(self, address: str) -> dict[str, str]:
        """The parameters of a redirect that belongs to this login; CallbackError for any other address."""
        fields = _fields(self._query(address))
        sent, found = self.state.get_secret_value(), fields.get("state", "")
        if not hmac.compare_digest(sent.encode(), found.encode()):
            message = f"the redirect does not belong to this login (its state is another). {LOGIN_AGAIN}"
            raise CallbackError(message)
        return fields

    def _query(self, address: str) -> str:
        if len(address) > _LONGEST_ADDRESS or not re.fullmatch(r"[\x21-\x7e]+", address):
            message = "the address that came back is too long or holds blanks or control characters. Copy it whole."
            raise CallbackError(message)
        before, _, query = address.partition("?")
        if before not in (self.redirect_uri, self.redirect_uri + "/" * _has_no_path(self.redirect_uri)):
            message = f"the address that came back does not begin with {self.redirect_uri} to the letter."
            raise CallbackError(message)
        if "#" in query or not _ESCAPES.fullmatch(query):
            message = f"the address that came back is not well-formed. {LOGIN_AGAIN}"
            raise CallbackError(message)
        return query


def _has_no_path(redirect_uri: str) -> bool:
    return urlsplit(redirect_uri).path == ""


def _fields(query: str) -> dict[str, str]:
    """The query's parameters, each decoded once; a plus sign stays one, because codes are not form text."""
    fields: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = unquote(name, errors="replace")
        if name in fields:
            message = f"the redirect names {_word(name)!r} more than once. {LOGIN_AGAIN}"
            raise CallbackError(message)
        fields[name] = unquote(value, errors="replace")
    return fields


def _code(fields: dict[str, str]) -> SecretStr:
    code = fields.get("code", "")
    if not _CODE.fullmatch(code):
        hint = "it was percent-encoded twice" if "%" in code else "it is missing or holds strange characters"
        message = f"the code in the redirect cannot be used: {hint}. {LOGIN_AGAIN}"
        raise CallbackError(message)
    return SecretStr(code)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "?", text)[:40]


class CallbackListener:
    """HTTPS on 127.0.0.1 for exactly one expected redirect. A context manager: closed on leaving, in any case.

    The certificate is made for this one wait and valid for an hour; its key is held in memory, but for a moment in a
    folder nobody else can open. `certificate_pem` is public, for a caller that plays the browser.
    """

    def __init__(self, expectation: Expectation) -> None:
        parts = urlsplit(expectation.redirect_uri)
        if parts.scheme != "https" or parts.hostname != LOOPBACK:
            message = f"{expectation.redirect_uri} is not https://{LOOPBACK}[:port][/path]; only that is listened on."
            raise CallbackError(message)
        self._expectation = expectation
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._is_taken = threading.Lock()
        self._address: queue.Queue[SecretStr] = queue.Queue(maxsize=1)
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

    def wait(self, seconds: float) -> SecretStr:
        """The whole address of the redirect with our state, as soon as it has come; CallbackError after `seconds`."""
        try:
            return self._address.get(timeout=seconds)
        except queue.Empty:
            message = f"no redirect came back within {seconds:g} s. {LOGIN_AGAIN}"
            raise CallbackError(message) from None

    def judge(self, target: str) -> tuple[HTTPStatus, str, SecretStr | None]:
        """What to answer to a GET for `target`, and the address to hand over once that is sent."""
        address = self._root + target
        try:
            fields = self._expectation.fields(address)
        except CallbackError:
            return HTTPStatus.BAD_REQUEST, "This is not the answer that is waited for.", None
        if not self._is_taken.acquire(blocking=False):
            return HTTPStatus.CONFLICT, "An answer has already arrived. You can close this page.", None
        if "error" in fields:
            text = "The login was refused. You can close this page; the terminal says more."
            return HTTPStatus.BAD_REQUEST, text, SecretStr(address)
        return HTTPStatus.OK, "The login has arrived. You can close this page.", SecretStr(address)

    def hand_over(self, address: SecretStr) -> None:
        """End the wait."""
        self._address.put(address)


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
            f"port {port} on {LOOPBACK} cannot be listened on ({error.strerror}). End the program that uses it, or "
            "register another address with the source and set schwab.redirect_uri to it."
        )
        raise CallbackError(message) from error
    return server


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    request: ssl.SSLSocket

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:  # the name is http.server's
        listener = self.server.listener
        if self.headers.get_all("Host") != [self.server.host]:
            self._page(HTTPStatus.MISDIRECTED_REQUEST, "This is not the address that is waited for.")
            return
        status, sentence, address = listener.judge(self.path)
        try:
            self._page(status, sentence)
        finally:
            if address is not None:
                listener.hand_over(address)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """A fixed page for what http.server itself refuses: it would echo the request."""
        self._page(HTTPStatus(code), "Only the redirect of a login is answered here.")

    def _page(self, status: HTTPStatus, sentence: str) -> None:
        body = f"<!doctype html><meta charset=utf-8><title>Trade analyst</title><p>{sentence}</p>".encode()
        self.send_response_only(status)
        for name, value in _PAGE_HEADERS.items():
            self.send_header(name, value)
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
