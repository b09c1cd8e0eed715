"""Servers that keep a caller waiting in the ways networks do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme


class HangingServer:
    """Listens on a free port of 127.0.0.1 and treats each connection as it is told to, until the end of the test."""

    def __init__(self, treat: Callable[[socket.socket, threading.Event], None], backlog: int = 16) -> None:
        self._treat = treat
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.base_url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._treat, args=(connection, self._over), daemon=True).start()

    def close(self) -> None:
        """Let everybody go."""
        self._over.set()
        self._socket.close()


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """A throw-away authority and its certificate on disk."""
    made = trustme.CA()
    file = tmp_path_factory.mktemp("health-ca") / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return made, file


@pytest.fixture
def server_context(ca: tuple[trustme.CA, Path]) -> ssl.SSLContext:
    """TLS for a server on 127.0.0.1 that the authority vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca[0].issue_cert("127.0.0.1").configure_cert(context)
    return context


def silent(connection: socket.socket, over: threading.Event) -> None:
    """A black hole: the connection is taken and nothing comes back."""
    over.wait()
    connection.close()


def dripping(head: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """`head`, then `drop` again and again, slowly: no wait for bytes is ever long."""

    def treat(connection: socket.socket, over: threading.Event) -> None:
        try:
            connection.sendall(head)
            while not over.wait(0.1):
                connection.sendall(drop)
        except OSError:
            pass
        connection.close()

    return treat


@pytest.fixture
def serve() -> Iterator[Callable[..., HangingServer]]:
    """Starts servers; all are closed at the end."""
    servers: list[HangingServer] = []

    def start(treat: Callable[[socket.socket, threading.Event], None]) -> HangingServer:
        servers.append(HangingServer(treat))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def answering(server_context: ssl.SSLContext, serve: Callable[..., HangingServer]) -> Callable[[bytes], HangingServer]:
    """Starts a server that gives these bytes to each request over TLS."""

    def start(answer: bytes) -> HangingServer:
        def treat(connection: socket.socket, over: threading.Event) -> None:
            try:
                with server_context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(answer)
                    over.wait(5)
            except OSError:
                pass

        return serve(treat)

    return start


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that comes with the end of the test."""
    event = threading.Event()
    yield event
    event.set()
