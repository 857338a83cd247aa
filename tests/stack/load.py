"""Clients that go on asking the API while it is harmed, and remember what became of each request."""

import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

#: More than the API ever takes for an answer, seconds: what takes longer hangs, and is lost.
PATIENCE = 30.0
#: Between two attempts to connect, seconds.
RETRY_PAUSE = 0.05


class Request(NamedTuple):
    method: str
    path: str
    body: object = None


@dataclass(frozen=True)
class Outcome:
    """One request. `status` is None where no answer came: it is lost."""

    request: Request
    started: float
    ended: float
    status: int | None
    #: How often a connection was refused before it could be sent. Nothing is lost by that.
    refused: int

    @property
    def well(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Client:
    """One connection that is kept, as a browser or a proxy does."""

    def __init__(self, url: str, headers: dict[str, str], stopped: threading.Event) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
        self._headers = headers | {"Content-Type": "application/json"}
        self._stopped = stopped

    def ask(self, request: Request) -> Outcome | None:
        """The outcome; None if we were stopped before it could be sent."""
        refused = 0
        while not self._connect():
            refused += 1
            if self._stopped.wait(RETRY_PAUSE):
                return None
        started = time.monotonic()
        status = self._exchange(request)
        return Outcome(request, started, time.monotonic(), status, refused)

    def _connect(self) -> bool:
        sock: socket.socket | None = self._connection.sock
        if sock is not None and not select.select([sock], [], [], 0)[0]:
            return True
        # Readable while nothing was asked: the server has closed it.
        self._connection.close()
        try:
            self._connection.connect()
        except OSError:
            self._connection.close()
            return False
        return True

    def _exchange(self, request: Request) -> int | None:
        body = None if request.body is None else json.dumps(request.body)
        try:
            self._connection.request(request.method, request.path, body, self._headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        return response.status

    def close(self) -> None:
        self._connection.close()


class Load:
    """Several clients at once, each in a thread."""

    def __init__(
        self, url: str, headers: Callable[[], dict[str, str]], requests: Callable[[], Request]
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._url, self._headers, self._requests = url, headers, requests
        self._stopped = threading.Event()

    def run(self) -> None:
        client = Client(self._url, self._headers(), self._stopped)
        while not self._stopped.is_set():
            outcome = client.ask(self._requests())
            if outcome is not None:
                self.outcomes.append(outcome)
        client.close()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def answered(self) -> int:
        return sum(outcome.status is not None for outcome in self.outcomes)

    @property
    def lost(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status is None]

    def served_since(self, moment: float) -> int:
        """How many requests that began after it went well."""
        return sum(outcome.well and outcome.started > moment for outcome in list(self.outcomes))

    def recovery(self, since: float) -> float:
        """Seconds from then to the end of the last request that did not go well."""
        return max(0.0, *(outcome.ended - since for outcome in self.outcomes if not outcome.well), 0.0)


@contextmanager
def load(
    url: str, headers: Callable[[], dict[str, str]], requests: Callable[[], Request], clients: int = 8
) -> Iterator[Load]:
    """Under this load until the block ends; then every request has its outcome.

    Args:
        headers: those of a client.
        requests: the next one; called by several threads.
    """
    found = Load(url, headers, requests)
    threads = [threading.Thread(target=found.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stop()
        for thread in threads:
            thread.join()
