"""Too many clients, slow senders, heads and bodies beyond the limits: the others are served."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.stack.load import Request, load
from tests.stack.report import Finding
from tests.stack.stack import Stack
from tests.stack.test_api_faults import anything, assert_answered, await_service, finding, unharmed_processes

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

Headers = Callable[[], dict[str, str]]


def test_more_clients_than_connections(
    stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    """128 clients; the API has 16 connections to Postgres. They wait their turn."""
    with unharmed_processes(stack), load(api_url, headers, anything, clients=128) as running:
        await_service(running, 0, count=2000)
    assert_answered(running, {200, 201})
    findings.append(finding("128 clients, 16 connections to Postgres", running, stack.note_mended()))


@contextmanager
def slow_senders(api_url: str, count: int) -> Iterator[None]:
    """Half of them never end their head, half never send the body that they announce."""
    parts = urlsplit(api_url)
    beginnings = (
        b"GET /me HTTP/1.1\r\nhost: x\r\n",
        b"POST /libraries HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
    )
    senders = []
    try:
        for number in range(count):
            sender = socket.create_connection((str(parts.hostname), parts.port or 80))
            sender.sendall(beginnings[number % 2])
            senders.append(sender)
        yield
    finally:
        for sender in senders:
            sender.close()


def test_slow_senders_are_in_nobodys_way(
    stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    with unharmed_processes(stack), slow_senders(api_url, 400), load(api_url, headers, anything) as running:
        await_service(running, 0, count=500)
    assert_answered(running, {200, 201})
    findings.append(finding("400 slow senders", running, stack.note_mended()))


def test_bodies_and_heads_beyond_the_limits_are_in_nobodys_way(
    stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    def too_large() -> Request:
        return Request("POST", "/libraries", {"name": "x" * 200_000})

    def too_long() -> Request:
        return Request("GET", "/me?" + "x" * 70_000)

    with (
        unharmed_processes(stack),
        load(api_url, headers, too_large, clients=4) as large,
        load(api_url, headers, too_long, clients=4) as long,
        load(api_url, headers, anything) as running,
    ):
        await_service(running, 0, count=500)
    assert_answered(running, {200, 201})
    for refused in (large, long):
        assert {outcome.status for outcome in refused.outcomes if outcome.status is not None} == {400}
    sent = len(large.outcomes) + len(long.outcomes)
    note = f"beside {sent} requests that were too large"
    findings.append(finding("heads and bodies beyond the limits", running, stack.note_mended(), note))
