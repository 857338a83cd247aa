"""How long `nexus doctor` waits."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: Bound of all questions to one peer, seconds.
PATIENCE = 8


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in whatever the block waits for; again each second, should its clean-up wait too."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        # In this order: no alarm of ours may find the handler of another, or none.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
