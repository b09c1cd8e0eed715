"""The one way to the OAuth pages of the source: an HTTP adapter whose every answer is bounded in size and in time.

Not here: what an answer means (`token_answers.py`). The time limit is for the whole exchange: looking up the name,
connecting, TLS, headers and body, however slowly they drip.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import traceback
from typing import Any

import requests
from requests.adapters import HTTPAdapter

ANSWER_SECONDS = 15.0

_LARGEST_ANSWER = 64 << 10
_PIECE = 1 << 10


class _Watch:
    """One exchange: the sockets it has opened, and whether its time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_over = False

    def add(self, opened: socket.socket) -> None:
        """Watch a socket; raises when the time is over, so that nothing is sent on it."""
        with self._lock:
            if self._is_over:
                opened.close()
                message = "the exchange took too long"
                raise TimeoutError(message)
            self._sockets.append(opened.dup())  # TLS takes the original over; both are one connection

    def end(self) -> None:
        """End the exchange: whoever waits for a byte on one of its sockets is told at once."""
        with self._lock:
            self._is_over = True
            for opened in self._sockets:
                with contextlib.suppress(OSError):  # the other side may have ended it already
                    opened.shutdown(socket.SHUT_RDWR)
                opened.close()


class BoundedAdapter(HTTPAdapter):
    """Reads each answer at once, at most 64 KiB of it, and ends the exchange after 15 s in all.

    Each request has a connection of its own. What is sent on it is sent once: nothing is repeated.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The answer with its whole body in memory; raises RequestException when a bound is passed."""
        watch = _Watch()
        exchange = _Exchange(watch, request, args, kwargs)
        exchange.start()
        try:
            exchange.join(ANSWER_SECONDS)
        finally:
            watch.end()
        return exchange.answer()


class _Exchange(threading.Thread):
    """A request on a thread of its own: looking up a name cannot be interrupted, only be left behind."""

    def __init__(
        self, watch: _Watch, request: requests.PreparedRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(name="token-exchange", daemon=True)
        self._watch = watch
        self._request = request
        self._args = args
        self._kwargs = {**kwargs, "stream": True}
        self._answer: requests.Response | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Ask, and keep what comes of it."""
        try:
            self._answer = self._whole()
        except (requests.RequestException, OSError, ValueError) as error:
            _empty_frames(error)
            self._error = error  # raised again by `answer`, on the thread that asked

    def answer(self) -> requests.Response:
        """The answer; raises what went wrong, or Timeout when the exchange was still under way."""
        if self._error is not None:
            raise self._error
        if self._answer is None:
            message = f"no whole answer within {ANSWER_SECONDS:g} s"
            raise requests.Timeout(message)
        return self._answer

    def _whole(self) -> requests.Response:
        with (
            contextlib.closing(_WatchedAdapter(self._watch)) as adapter,
            contextlib.closing(adapter.send(self._request, *self._args, **self._kwargs)) as answer,
        ):
            body = bytearray()
            for piece in answer.iter_content(_PIECE):
                body += piece
                if len(body) > _LARGEST_ANSWER:
                    message = "the answer is too large"
                    raise requests.RequestException(message)
            return _with_body(answer, bytes(body))


def _empty_frames(error: BaseException) -> None:
    """Let go of what the frames of an error and of those behind it hold: tokens, and sockets that nobody closes.

    Python forgets one that was reset before TLS begins; it would stay open until it is collected as garbage.
    """
    behind: BaseException | None = error
    while behind is not None:
        traceback.clear_frames(behind.__traceback__)
        behind = behind.__context__


class _WatchedAdapter(HTTPAdapter):
    """An adapter for one exchange, whose connections are watched."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        pool = self.poolmanager.pool_classes_by_scheme["https"]
        self.poolmanager.pool_classes_by_scheme = {"https": _watched(pool, watch)}


def _watched(pool: Any, watch: _Watch) -> Any:
    """The library's class of connection pools, with connections whose sockets are watched from the first byte."""
    connection = pool.ConnectionCls

    def new_connection(self: Any) -> socket.socket:
        opened: socket.socket = connection._new_conn(self)  # noqa: SLF001 - the one place where a socket is opened
        watch.add(opened)
        return opened

    kind = type("WatchedConnection", (connection,), {"_new_conn": new_connection})
    return type("WatchedPool", (pool,), {"ConnectionCls": kind})


def _with_body(answer: requests.Response, body: bytes) -> requests.Response:
    whole = requests.Response()
    whole.status_code, whole.headers, whole.reason = answer.status_code, answer.headers, answer.reason
    whole.url, whole.request, whole.encoding = answer.url, answer.request, "utf-8"
    whole.raw = io.BytesIO(body)
    return whole
