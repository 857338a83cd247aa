"""A source of advisories on this machine: a proxy that answers every HTTPS request itself.

The audit is told of it only what any machine behind a proxy tells its tools: HTTPS_PROXY and a CA. So it asks
its sources at their own addresses, over real TLS, and none of them has to stand here.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.host.authority import Authority

#: What a source says about a package and its version: status, and body (bytes, or what becomes JSON).
Source = Callable[[str, str], tuple[int, Any]]


class Advisories:
    """The two sources, as a test wants them to answer."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        #: Package and version of every question, and the kind of source that was asked.
        self.asked: list[tuple[str, str, str]] = []
        self.osv: Source = lambda *_: (200, {})
        self.index: Source = lambda *_: (200, {"info": {}, "vulnerabilities": []})
        self.port = 0

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if body:
            question = json.loads(body)
            kind, package, version = "osv", question["package"]["name"], question["version"]
        else:
            kind, package, version = ("index", *path.split("/")[2:4])
        self.asked.append((kind, package, version))
        return (self.osv if kind == "osv" else self.index)(package, version)

    @property
    def environment(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
            "REQUESTS_CA_BUNDLE": str(self.authority.file),
        }


def _inner(advisories: Advisories) -> type[BaseHTTPRequestHandler]:
    """What speaks HTTP inside the tunnel."""

    class Inner(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status, value = advisories.answer(self.path, self.rfile.read(length))
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  http.server's own name

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what fails."""

    return Inner


def _outer(advisories: Advisories) -> type[BaseHTTPRequestHandler]:
    """The proxy: it makes the tunnel and is its other end."""
    inner = _inner(advisories)

    class Outer(inner):  # type: ignore[misc, valid-type]
        def do_CONNECT(self) -> None:  # noqa: N802  http.server's own name
            self.send_response(200)
            self.end_headers()
            context = advisories.authority.context(self.path.rpartition(":")[0])
            self.close_connection = True
            # A client that does not trust this CA hangs up, which is its right.
            with (
                contextlib.suppress(ssl.SSLError),
                context.wrap_socket(self.connection, server_side=True) as tls,
            ):
                inner(tls, self.client_address, self.server)

    return Outer


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Advisories]:
    advisories = Advisories(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), _outer(advisories)) as server:
        advisories.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield advisories
        finally:
            server.shutdown()
            thread.join()
