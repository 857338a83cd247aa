"""Bounds that uvicorn does not have: how large and how slow a request's head may be, how slow its reader."""

import asyncio
import json
import socket
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn_worker import UvicornWorker

from nexus.errors import InvalidRequestError

#: Request line and headers together, bytes.
MAX_HEAD = 64 * 1024
#: From the connection, or the first byte of a later request, to the end of its headers. Seconds.
HEAD_TIMEOUT = 10.0
#: A client that takes nothing of its answer for so long is dropped. Milliseconds.
READER_TIMEOUT = 30_000

TOO_LARGE = f"The request line and headers are longer than {MAX_HEAD} bytes."
TOO_SLOW = f"The request line and headers did not arrive within {HEAD_TIMEOUT:g} s."


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounded heads; what is no HTTP is answered in the envelope of the contract too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READER_TIMEOUT)
        self._fault: str | None = None
        self._in_head = True
        #: Bytes since the last request was complete.
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        # Most heads come in one piece, so most requests never start the timer.
        if not self._in_head:
            self._stop_timer()
        elif self._received > MAX_HEAD:
            self._refuse(TOO_LARGE)
        else:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._received > MAX_HEAD and self._head_size() > MAX_HEAD:
            self._fault = TOO_LARGE
            raise ValueError(TOO_LARGE)  # the parser stops, and its error becomes our 400
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._received = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        body = json.dumps(InvalidRequestError(self._fault or msg).envelope()).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, fault: str) -> None:
        if not self.transport.is_closing():
            self._fault = fault
            self.send_400_response(fault)

    def _start_timer(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._refuse, TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Worker(UvicornWorker):  # type: ignore[misc]  # it has no types
    """A gunicorn worker with this protocol, on uvloop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": BoundedProtocol,
        "ws": "none",
        "server_header": False,
    }
