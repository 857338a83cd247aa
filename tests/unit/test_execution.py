"""The stack's tests read all that a command printed, also what comes with the head of the answer."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread

import docker
import pytest
from docker.models.containers import Container

from tests.stack.execution import execute

#: As the engine sends it: two pieces, of which the second is from the error output.
PRINTED = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x04\ntwo"


class Engine(BaseHTTPRequestHandler):
    """Answers about one command, each answer in one piece."""

    protocol_version = "HTTP/1.1"
    refuses = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.endswith("/start"):
            self.tell(201, {"Id": "started"})
        elif self.refuses:
            self.tell(409, {"message": "Container gone is not running"})
        else:
            kind = b"application/vnd.docker.raw-stream"
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n" + PRINTED)
            self.close_connection = True

    def do_GET(self) -> None:
        self.tell(200, {"ExitCode": 3})

    def tell(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        self.wfile.write(f"HTTP/1.1 {status} Said\r\n{kind}\r\n\r\n".encode() + body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not the place."""


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    path = tmp_path / "engine"
    with ThreadingUnixStreamServer(str(path), Engine) as server:
        Thread(target=server.serve_forever).start()
        client = docker.DockerClient(base_url=f"unix://{path}", version="1.41")
        yield Container(attrs={"Id": "any"}, client=client)
        client.close()
        server.shutdown()


def test_nothing_of_the_output_is_lost(container: Container) -> None:
    assert execute(container, "any") == (3, "one\ntwo")


def test_a_refusal_is_an_error(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "refuses", True)
    with pytest.raises(docker.errors.APIError, match="Container gone is not running"):
        execute(container, "any")
