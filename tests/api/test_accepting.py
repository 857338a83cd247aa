"""How the server takes connections: one at a time, so that processes share what arrives together."""

import asyncio
import itertools
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nexus.api import server

COUNT = 12


@contextmanager
def waiting_clients() -> Iterator[socket.socket]:
    """A listening socket in whose queue connections wait already."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(COUNT)]
        try:
            yield listening
        finally:
            for client in clients:
                client.close()


class Greeted(asyncio.Protocol):
    def __init__(self, seen: list[asyncio.BaseTransport]) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._seen.append(transport)


def serve(listening: socket.socket, rounds_per_connection: list[int]) -> None:
    """Runs until all have arrived; notes how many were there each time the loop came round."""

    async def run() -> None:
        seen: list[asyncio.BaseTransport] = []
        servers = await asyncio.get_running_loop().create_server(lambda: Greeted(seen), sock=listening)
        async with asyncio.timeout(30):
            while len(seen) < COUNT:
                rounds_per_connection.append(len(seen))
                await asyncio.sleep(0)
        servers.close()
        for transport in seen:
            transport.close()

    with asyncio.Runner(loop_factory=server.Loop) as runner:
        runner.run(run())


def test_one_connection_at_a_time_and_all_in_the_end() -> None:
    there: list[int] = []
    with waiting_clients() as listening:
        serve(listening, there)
    assert max(later - earlier for earlier, later in itertools.pairwise(there)) == 1


def test_without_descriptors_it_waits_instead_of_spinning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "ACCEPT_PAUSE", 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    complaints = []

    def complain(event: str, **fields: object) -> None:
        complaints.append((event, fields["reason"]))
        # Whoever looked after the machine meanwhile.
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    monkeypatch.setattr(server.log, "error", complain)
    with waiting_clients() as listening, asyncio.Runner(loop_factory=server.Loop) as runner:
        runner.get_loop()

        async def run() -> int:
            seen: list[asyncio.BaseTransport] = []
            loop = asyncio.get_running_loop()
            with socket.socket() as highest:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), hard))
            servers = await loop.create_server(lambda: Greeted(seen), sock=listening)
            async with asyncio.timeout(30):
                while len(seen) < COUNT:
                    await asyncio.sleep(0.01)
            servers.close()
            for transport in seen:
                transport.close()
            return len(seen)

        try:
            assert runner.run(run()) == COUNT
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [event for event, _ in complaints] == ["no connection can be accepted"]
    assert "Too many open files" in str(complaints[0][1])
    assert capsys.readouterr().err == ""
