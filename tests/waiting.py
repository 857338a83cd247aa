"""Waiting on conditions with a deadline, never on time alone."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T], *, seconds: float, pause: float = 0.05) -> T:
    """The first true value of the condition.

    Raises:
        AssertionError: it did not become true within `seconds`; the message says `what`.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
