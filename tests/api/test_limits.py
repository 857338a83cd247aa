"""Huge and slow requests: bounded, with a clear status, and nobody else notices."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from nexus.api import server
from nexus.api.middleware import MAX_BODY_SIZE
from tests.api.conftest import Api, Viewer, data, failure

INVALID = (400, "E_INVALID_REQUEST")


@contextmanager
def connection(api: Api) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as raw:
        yield raw


def read_all(raw: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    pieces = []
    try:
        while piece := raw.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def read_one(raw: socket.socket) -> int:
    """Reads one answer to its end; gives its status."""
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    answer.read()
    return answer.status


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def head_of(viewer: Viewer, method: str, path: str, *more: str) -> bytes:
    headers = [f"{name}: {value}" for name, value in viewer.http.headers.items() if name != "connection"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: nexus", *headers, *more, "", ""]).encode()


def test_a_body_just_small_enough_is_read(viewer: Viewer) -> None:
    content = b'{"name": "x"' + b" " * (MAX_BODY_SIZE - 13) + b"}"
    assert len(content) == MAX_BODY_SIZE
    headers = {"Content-Type": "application/json"}
    assert data(viewer.http.post("/libraries", content=content, headers=headers), 201)


@pytest.mark.parametrize("size", [MAX_BODY_SIZE + 1, 50_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_refused(size: int, chunked: bool, viewer: Viewer) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(0, size, 65536):
            yield b" " * 65536

    content: bytes | Iterator[bytes] = pieces() if chunked else b" " * size
    answer = viewer.http.post("/libraries", content=content, headers={"Content-Type": "application/json"})
    assert failure(answer) == INVALID
    assert "longer than" in answer.text, "not only because it is no JSON"
    assert viewer.http.get("/me").status_code == 200


def test_a_body_that_only_says_it_is_huge_is_refused_before_it_comes(api: Api, viewer: Viewer) -> None:
    with connection(api) as raw:
        more = ("Content-Type: application/json", f"Content-Length: {10**12}", "Connection: close")
        raw.sendall(head_of(viewer, "POST", "/libraries", *more))
        answer = read_all(raw)
    assert refusal(answer) == INVALID
    assert b"longer than" in answer, "and not because it did not come"


@pytest.mark.parametrize("pieces", [1, 64])
@pytest.mark.parametrize("where", ["one header", "many headers", "path"])
def test_a_head_too_large_is_refused(where: str, pieces: int, api: Api, viewer: Viewer) -> None:
    size = server.MAX_HEAD + 1
    head = {
        "one header": head_of(viewer, "GET", "/me", "X-Junk: " + "x" * size),
        "many headers": head_of(viewer, "GET", "/me", *[f"X-{n}: y" for n in range(size // 4)]),
        "path": head_of(viewer, "GET", "/me?" + "x" * size),
    }[where]
    with connection(api) as raw:
        step = len(head) // pieces + 1
        for start in range(0, len(head), step):
            try:
                raw.sendall(head[start : start + step])
            except OSError:
                break  # refused meanwhile
        assert refusal(read_all(raw)) == INVALID


def test_an_endless_head_is_refused(api: Api) -> None:
    with connection(api) as raw:
        raw.sendall(b"GET /me HTTP/1.1\r\n")
        # A broken pipe or a reset comes long before these 100 MB are through.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.sendall(b"X-Junk: x\r\n" * 10_000_000)


def test_a_large_head_in_its_bounds_is_read(viewer: Viewer) -> None:
    headers = {f"X-{n}": "y" * 1000 for n in range(60)}
    assert viewer.http.get("/me", headers=headers).status_code == 200
    with_body = viewer.http.post("/libraries", json={"name": "x"}, headers=headers)
    assert with_body.status_code == 201


def test_a_large_head_and_a_large_body_in_one_piece_are_two_things(api: Api, viewer: Viewer) -> None:
    body = b'{"name": "x"' + b" " * (MAX_BODY_SIZE - 13) + b"}"
    more = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    head = head_of(viewer, "POST", "/libraries", "X-Junk: " + "x" * (server.MAX_HEAD - 4096), *more)
    with connection(api) as raw:
        raw.sendall(head + body)
        assert read_all(raw).startswith(b"HTTP/1.1 201")


CHUNKED = b"Host: nexus\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("trailer", [b"A: b\r\n" * 1_000_000, b"A: " + b"b" * 10_000_000])
def test_endless_trailers_end_the_connection(trailer: bytes, api: Api) -> None:
    with connection(api) as raw:
        raw.sendall(b"POST /libraries HTTP/1.1\r\n" + CHUNKED + b"0\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.sendall(trailer * 10)


def test_a_trailer_is_no_header(api: Api, viewer: Viewer) -> None:
    secret = api.internal["X-Nexus-Internal"].encode()
    token = viewer.http.headers["authorization"].encode()
    with connection(api) as raw:
        trailers = b"X-Nexus-Internal: " + secret + b"\r\nAuthorization: " + token + b"\r\n\r\n"
        raw.sendall(b"GET /me HTTP/1.1\r\nConnection: close\r\n" + CHUNKED + b"0\r\n" + trailers)
        assert refusal(read_all(raw)) == (403, "E_INTERNAL_ONLY")


def test_the_bound_counts_each_head_for_itself(viewer: Viewer) -> None:
    """On one connection, and bodies do not count."""
    headers = {"X-Junk": "y" * (server.MAX_HEAD // 3)}
    for _ in range(4):
        assert viewer.http.post("/libraries", json={"name": "x" * 100}, headers=headers).status_code == 201


def test_what_does_not_end_is_refused_in_time(api: Api, viewer: Viewer) -> None:
    """Heads and a body, all at once: each takes as long as the bound."""
    body = ("Content-Type: application/json", "Content-Length: 100", "Connection: close")
    begun = [
        b"",
        b"GET",
        b"GET /me HTTP/1.1\r\nX-A: b\r\n",
        head_of(viewer, "POST", "/libraries", *body) + b'{"name"',
    ]
    with ExitStack() as stack:
        slow = [stack.enter_context(connection(api)) for _ in begun]
        for raw, sent in zip(slow, begun, strict=True):
            raw.sendall(sent)
        # An answer was given already, and what comes then is nothing that anybody asked for.
        after = [
            b"POST /libraries HTTP/1.1\r\nHost: nexus\r\nContent-Length: 100000\r\n\r\n" + b"x",
            b"GET /health HTTP/1.1\r\nHost: nexus\r\n\r\n" + b"\r\n",
            b"POST /libraries HTTP/1.1\r\n" + CHUNKED + b"0\r\nA: b\r\n",
        ]
        answered = [stack.enter_context(connection(api)) for _ in after]
        for raw, sent in zip(answered, after, strict=True):
            raw.sendall(sent[:-1])
            assert read_one(raw) in (200, 403)
            raw.sendall(sent[-1:])
        again = stack.enter_context(connection(api))
        again.sendall(b"GET /health HTTP/1.1\r\nHost: nexus\r\n\r\n")
        assert read_one(again) == 200
        again.sendall(b"GET /me HTTP/1.1\r\nX-A")
        answers = [read_all(raw) for raw in [*slow, again]]
        assert [read_all(raw) for raw in answered] == [b""] * len(after), "they are closed, without a word"
    assert [refusal(answer) for answer in answers] == [INVALID] * 5
    assert all(b"did not arrive" in answer for answer in answers)


def test_many_slow_clients_hold_up_nobody(api: Api, viewer: Viewer) -> None:
    slow = [socket.create_connection(("127.0.0.1", api.port), timeout=30) for _ in range(200)]
    try:
        for raw in slow:
            raw.sendall(b"GET /me HTTP/1.1\r\nX-A: ")
        assert viewer.http.get("/me").status_code == 200
        assert viewer.http.post("/libraries", json={"name": "x"}).status_code == 201
    finally:
        for raw in slow:
            raw.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT nexus:80 HTTP/1.1\r\n\r\n",
        b"POST /libraries HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /libraries HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so(junk: bytes, api: Api) -> None:
    with connection(api) as raw:
        raw.sendall(junk)
        raw.shutdown(socket.SHUT_WR)
        assert refusal(read_all(raw)) in (INVALID, (403, "E_INTERNAL_ONLY"))
    assert httpx2.get(f"{api.url}/health", trust_env=False).status_code == 200


def test_a_client_that_leaves_in_the_middle_hurts_nobody(api: Api, viewer: Viewer) -> None:
    for cut in (10, 60, -5):
        with connection(api) as raw:
            more = ("Content-Type: application/json", "Content-Length: 20")
            raw.sendall((head_of(viewer, "POST", "/libraries", *more) + b'{"name": "left"}')[:cut])
    assert [each["name"] for each in data(viewer.http.get("/libraries"))] == ["My Library"]
    assert not [line for line in api.lines() if "Traceback" in line and "left" in line]
