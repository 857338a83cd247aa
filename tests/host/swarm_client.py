"""Load from inside a swarm's network: `python -m tests.host.swarm_client URL SECRET TOKEN`, until SIGTERM.

Runs in the api image, with this repository's tests mounted. Prints how many were answered, again and again,
then what became of all requests.
"""

import json
import signal
import sys
import threading
from collections import Counter

from tests.stack.load import Request, load

CLIENTS = 6


def main(url: str, secret: str, token: str) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    headers = {"X-Nexus-Internal": secret, "Authorization": f"Bearer {token}"}
    with load(url, lambda: headers, lambda: Request("GET", "/me"), CLIENTS) as running:
        while not stopped.wait(0.5):
            print(running.answered, flush=True)  # noqa: T201
    found = {
        "lost": len(running.lost),
        "refused": sum(outcome.refused for outcome in running.outcomes),
        "statuses": Counter(str(outcome.status) for outcome in running.outcomes),
    }
    print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
