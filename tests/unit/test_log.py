"""Logs: one line per event, text for people or JSON for machines, libraries' lines included."""

import json
import os
import subprocess
import sys

SCRIPT = """
import logging
from nexus.config import load_settings
from nexus.log import configure_logging, get_logger
configure_logging(load_settings())
get_logger("nexus.test").info("migrated", revision="0002")
logging.getLogger("some.library").warning("it %s", "happened")
"""


def logged(**environment: str) -> list[str]:
    """What a process of its own writes: logging is set up once per process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_hold_time_level_logger_event_and_fields() -> None:
    ours, library = (json.loads(line) for line in logged(LOG_FORMAT="json"))
    assert ours["event"] == "migrated"
    assert ours["revision"] == "0002"
    assert ours["level"] == "info"
    assert ours["logger"] == "nexus.test"
    assert ours["timestamp"].endswith("Z")
    assert library["event"] == "it happened"
    assert library["level"] == "warning"


def test_text_lines_are_one_per_event() -> None:
    ours, library = logged(LOG_FORMAT="text")
    assert "migrated" in ours
    assert "revision=0002" in ours
    assert "it happened" in library


def test_the_level_is_respected() -> None:
    (only,) = logged(LOG_LEVEL="WARNING")
    assert "it happened" in only
