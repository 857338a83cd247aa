"""What uvicorn lacks: bounds for heads and slow readers, shared accepting, a stop that loses nothing."""

import asyncio
import json
import logging
import socket
from contextlib import suppress
from typing import Any, ClassVar
from uuid import uuid4

import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn_worker import UvicornWorker

from nexus.api.metrics import count_malformed
from nexus.errors import InvalidRequestError
from nexus.log import get_logger

#: Request line and headers together, bytes.
MAX_HEAD = 64 * 1024
#: From the connection, or the first byte of a later request, to the end of its headers. Seconds.
HEAD_TIMEOUT = 10.0
#: A client that takes nothing of its answer for so long is dropped. Milliseconds.
READER_TIMEOUT = 30_000
#: Pause when no connection can be accepted, seconds.
ACCEPT_PAUSE = 1.0
#: When we stop, an idle connection stays open so long: its next request may be on its way already. Seconds.
LAST_REQUEST = 0.5
#: Between giving up the last requests of a stop, and gunicorn's SIGKILL. Seconds.
STOP_SPARE = 3

TOO_LARGE = f"The request line and headers are longer than {MAX_HEAD} bytes."
TOO_SLOW = f"The request line and headers did not arrive within {HEAD_TIMEOUT:g} s."

log = get_logger("nexus.request")


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds; what is no HTTP is answered in the envelope of the contract too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READER_TIMEOUT)
        self._fault: str | None = None
        self._in_head = True
        #: Bytes of the current request that are not its body: head, trailers, the framing of chunks.
        self._around = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._around += len(data)
        super().data_received(data)
        # Most heads come in one piece, so most requests never start the timer.
        if self._around > MAX_HEAD:
            self._give_up(TOO_LARGE)
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            self._start_timer()  # uvicorn's own, for idle connections, ended with the first byte
        else:
            self._stop_timer()  # the request's deadline has taken over

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers would be taken for headers (RFC 9110, 6.5.1); nobody here reads any.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._around > MAX_HEAD and self._head_size() > MAX_HEAD:
            self._fault = TOO_LARGE
            raise ValueError(TOO_LARGE)  # the parser stops, and its error becomes our 400
        self._in_head = False
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._around = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stopping:
            self._leave_soon()

    def shutdown(self) -> None:
        """End the connection with its next answer, which says so, or after LAST_REQUEST without one.

        uvicorn closes what is idle at once, and with it loses the request that is on its way.
        """
        self._stopping = True
        if self._is_idle():
            self._leave_soon()
        elif self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self._around == 0 and (self.cycle is None or self.cycle.response_complete)

    def _leave_soon(self) -> None:
        self.loop.call_later(LAST_REQUEST, self._leave)

    def _leave(self) -> None:
        # A request that has begun meanwhile ends the connection itself; its head has a bound of its own.
        if self._is_idle():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        fault, request_id = self._fault or msg, uuid4().hex
        body = json.dumps(InvalidRequestError(fault).envelope()).encode()
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[400] + head.encode() + body)
        self.transport.close()
        count_malformed()
        log.info("request", request_id=request_id, status=400, reason=fault)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _give_up(self, fault: str) -> None:
        if self._in_head and not self.transport.is_closing():
            self._fault = fault
            self.send_400_response(fault)
        # Elsewhere an answer is under way, or was given: there is nothing more to say.
        self.transport.close()

    def _start_timer(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self._give_up, TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Listener:
    """Accepts one connection each time the loop comes round."""

    def __init__(self, loop: asyncio.AbstractEventLoop, factory: Any, listening: socket.socket) -> None:
        self._loop, self._factory, self._socket = loop, factory, listening
        self._retry: asyncio.TimerHandle | None = None
        self._arriving: set[asyncio.Task[Any]] = set()
        self._closed = False
        listening.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            self._accept_one()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was faster, or the client has left
        except OSError as error:
            # No descriptor or no memory left. What waits in the queue would wake us again and again.
            log.error("no connection can be accepted", reason=str(error))  # noqa: TRY400
            self._loop.remove_reader(self._socket)
            self._retry = self._loop.call_later(ACCEPT_PAUSE, self._listen)

    def _accept_one(self) -> None:
        connection, _ = self._socket.accept()
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, connection))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        if self._closed and not task.cancelled() and task.exception() is None:
            # Too late for the server to tell it.
            task.result()[1].shutdown()

    def close(self) -> None:
        """Accept no more, but take what the kernel has accepted for us: it would be reset."""
        self._loop.remove_reader(self._socket)
        if self._retry is not None:
            self._retry.cancel()
        self._closed = True
        with suppress(OSError):
            while True:
                self._accept_one()

    async def wait_closed(self) -> None:
        """There is nothing to wait for: the connections are their protocols'."""


class Loop(uvloop.Loop):
    """uvloop, but for how it listens: its own servers take every connection that waits.

    Then one process may get all connections of a proxy that opens them together, while the others idle.
    """

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Any, *, sock: socket.socket, **_: Any
    ) -> _Listener:
        return _Listener(self, protocol_factory, sock)


class Worker(UvicornWorker):  # type: ignore[misc]  # it has no types
    """A gunicorn worker with this protocol, on uvloop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "nexus.api.server:Loop",
        "http": BoundedProtocol,
        "ws": "none",
        "server_header": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It gives this logger gunicorn's handlers, of which there are none: its lines, too, are the root's.
        logging.getLogger("uvicorn.error").propagate = True
        # Else a client that does not take its answer would have this process killed, with all its requests.
        self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout - STOP_SPARE
