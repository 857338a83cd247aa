"""A server that stops answers whatever it has accepted, and tells its clients to go elsewhere."""

import asyncio
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.api import server
from nexus.config import Settings
from tests.api.conftest import running_api
from tests.conftest import settings_for
from tests.waiting import wait_until

#: So long that no test sees its end.
NEVER = 600.0


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    async def __call__(self, scope: dict[str, Any], _: Any, send: Callable[..., Any]) -> None:
        if scope["path"] == "/slow":
            self.begun.set()
            await asyncio.to_thread(self.go_on.wait, 60)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Stoppable:
    """The server as gunicorn's worker runs it, in a thread."""

    def __init__(self, app: Any) -> None:
        self._clients: list[HTTPConnection] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        # No connection ends for being idle, unless we stop.
        quiet = {"ws": "none", "lifespan": "off", "log_config": None, "timeout_keep_alive": int(NEVER)}
        config = uvicorn.Config(app, http=server.BoundedProtocol, **quiet)  # type: ignore[arg-type]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=server.Loop) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Returns when it no longer listens."""
        self._server.should_exit = True
        wait_until("it no longer listens", lambda: self._socket.fileno() == -1, seconds=30)

    def has_ended(self) -> bool:
        self._thread.join(30)
        return not self._thread.is_alive()

    def ask(self, connection: HTTPConnection, path: str = "/") -> HTTPResponse:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.read() == b"ok"
        return response

    def client(self) -> HTTPConnection:
        self._clients.append(HTTPConnection("127.0.0.1", self.port, timeout=60))
        return self._clients[-1]

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


@contextmanager
def stoppable(app: Any) -> Iterator[Stoppable]:
    running = Stoppable(app)
    try:
        yield running
    finally:
        running.close_clients()
        running.stop()
        assert running.has_ended()


def test_an_idle_connection_gets_one_more_answer_which_says_it_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "LAST_REQUEST", NEVER)
    with stoppable(Slow()) as running:
        client = running.client()
        assert running.ask(client).headers["connection"] is None
        running.stop()
        assert running.ask(client).headers["connection"] == "close"
        assert running.has_ended()


def test_a_connection_that_stays_idle_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_REQUEST", 0.01)
    with stoppable(Slow()) as running:
        client = running.client()
        running.ask(client)
        running.stop()
        assert running.has_ended()


def test_a_request_that_has_begun_to_arrive_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_REQUEST", 0.01)
    with stoppable(Slow()) as running, socket.create_connection(("127.0.0.1", running.port)) as client:
        running.ask(running.client())  # the loop has come round: the other is there too
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        idle = running.client()
        running.ask(idle)
        running.stop()
        # Those that are idle have been left.
        assert select.select([idle.sock], [], [], 30)[0]
        client.sendall(b"\r\n")
        with client.makefile("rb") as stream:
            answer = stream.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert answer.endswith(b"ok")


def test_a_request_at_work_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_REQUEST", NEVER)
    app = Slow()
    with stoppable(app) as running, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(running.ask, running.client(), "/slow")
        assert app.begun.wait(30)
        running.stop()
        app.go_on.set()
        assert answer.result(30).headers["connection"] == "close"
        assert running.has_ended()


class Told(asyncio.Protocol):
    """Notes who arrives, and whether they are told that it is the end."""

    def __init__(self, told: list[asyncio.BaseTransport]) -> None:
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def shutdown(self) -> None:
        self._told.append(self._transport)


def test_connections_that_wait_to_be_accepted_are_taken() -> None:
    async def run(listening: socket.socket) -> int:
        told: list[asyncio.BaseTransport] = []
        loop = asyncio.get_running_loop()
        (await loop.create_server(lambda: Told(told), sock=listening)).close()
        async with asyncio.timeout(30):
            while len(told) < 5:
                await asyncio.sleep(0.01)
        for transport in told:
            transport.close()
        return len(told)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
        with asyncio.Runner(loop_factory=server.Loop) as runner:
            assert runner.run(run(listening)) == 5
        for client in clients:
            client.close()


def test_gunicorn_answers_what_it_has_accepted(settings: Settings, migrated_db: URL, tmp_path: Path) -> None:
    """SIGTERM to the whole, while a write waits for a lock in Postgres."""
    engine = create_engine(migrated_db, poolclass=NullPool)
    with running_api(settings_for(settings, migrated_db), tmp_path) as api, ThreadPoolExecutor(1) as threads:
        viewer = api.user()
        assert viewer.default
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE libraries IN ACCESS EXCLUSIVE MODE"))
            answer = threads.submit(viewer.http.post, "/libraries", json={"name": "x"})
            waiting = text(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
                "WHERE datname = current_database() AND NOT granted"
            )
            wait_until("it waits", lambda: connection.execute(waiting).scalar_one(), seconds=5)
            api.process.send_signal(signal.SIGTERM)
            wait_until("nobody listens", lambda: refuses(api.port), seconds=5)
        assert answer.result(30).status_code == 201
        assert answer.result().headers["connection"] == "close"
        assert api.process.wait(30) == 0


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
