"""`python -m bench.counting PATH HEADERS`, in a container of the product: ns that counting costs.

Alone, again and again; and within the whole application, which is asked for PATH with and without it in turn,
its database included, without a server or a client: CPU of this thread, and of the turns' differences the
median. HEADERS is a JSON object.
"""

import asyncio
import json
import os
import statistics
import sys
import time
import timeit
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from nexus.api import processes
from nexus.api.app import create_app
from nexus.api.metrics import Requests
from nexus.config import settings_or_exit
from nexus.log import configure_logging

ROUNDS = 20
#: So many requests are counted together, as under full load.
TURNS, REQUESTS_OF_A_TURN = 400, 100


def scope_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    """A request as the server hands it over."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "scheme": "http",
        "server": ("x", 8000),
        "client": ("y", 1),
        "root_path": "",
    }


def become_a_process() -> None:
    """Of gunicorn, as far as counting knows."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = processes.shared_folder()
    server, worker = SimpleNamespace(WORKERS={}), SimpleNamespace()
    processes.pre_fork(server, worker)
    processes.post_fork(server, worker)


async def alone() -> float:
    """The best of several rounds: what else the machine does can only make it slower."""
    requests = Requests()

    def count() -> None:
        for _ in range(REQUESTS_OF_A_TURN):
            requests.begin()
            requests.end("/media/{media_id}", "GET", 200, 0.002)
        requests.count()

    return min(timeit.repeat(count, number=TURNS, repeat=ROUNDS)) / TURNS / REQUESTS_OF_A_TURN * 1e9


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    if message.get("status", 200) != 200:
        raise ValueError(f"the application answered {message['status']}")


async def _turn(app: FastAPI, scope: dict[str, Any]) -> float:
    start = time.thread_time_ns()
    for _ in range(REQUESTS_OF_A_TURN):
        await app(scope | {"state": {}}, _receive, _send)
    app.state.requests.count()
    return (time.thread_time_ns() - start) / REQUESTS_OF_A_TURN


async def within(scope: dict[str, Any]) -> float:
    settings = settings_or_exit()
    configure_logging(settings)
    counting, silent = create_app(settings), create_app(settings, counting=False)
    for app in (counting, silent):
        await _turn(app, scope)
    differences = []
    for turn in range(TURNS):
        # Whoever is first may find the caches cold.
        first, second = (counting, silent) if turn % 2 else (silent, counting)
        spent = {first: await _turn(first, scope), second: await _turn(second, scope)}
        differences.append(spent[counting] - spent[silent])
    return statistics.median(differences)


if __name__ == "__main__":
    become_a_process()
    asked = scope_of(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps({"alone": asyncio.run(alone()), "within": asyncio.run(within(asked))}))
