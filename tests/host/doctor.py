"""What the tests of dev/doctor share: running it, and reading what it says."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.host.support import Result, clean_environment, run

#: Nobody's, so that nothing of it is there.
PROJECT = "nexus-host-none"
STATES = ("ok", "warning", "fault", "unknown")


@dataclass(frozen=True)
class Line:
    """One finding."""

    name: str
    state: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """What one run said, in its own order."""

    state: str
    lines: tuple[Line, ...]
    printed: str

    def of(self, name: str, *states: str) -> list[str]:
        """The messages of a check, of these states or of any."""
        return [line.message for line in self.lines if line.name == name and line.state in (states or STATES)]

    def faults(self, name: str) -> list[str]:
        return self.of(name, "fault")

    def remedy(self, message: str) -> str:
        """The remedy of the one line whose message begins so."""
        (found,) = (line.remedy for line in self.lines if line.message.startswith(message))
        return found


def report(result: Result) -> Report:
    """Reads `--json`. What is promised of every run is looked at here."""
    document = json.loads(result.stdout)
    assert document.keys() == {"state", "checks"}
    lines = tuple(Line(**line) for line in document["checks"])
    assert {line.state for line in lines} <= set(STATES)
    # Whoever reads a fault is told what to do; what is well, or not known, needs nothing.
    assert [line for line in lines if bool(line.remedy) != (line.state in {"warning", "fault"})] == []
    unknown = [line.message for line in lines if line.state == "unknown"]
    assert [message for message in unknown if not message.startswith("not checked: ")] == []
    states = {line.state for line in lines}
    assert document["state"] == ("fault" if "fault" in states else "warning" if "warning" in states else "ok")
    assert result.returncode == ("fault" in states)
    return Report(document["state"], lines, result.stdout + result.stderr)


def doctor(directory: Path, *prefix: str, **variables: str) -> Report:
    """One run in a copy of the checkout; nothing of its project is there."""
    environment = clean_environment() | {"COMPOSE_PROJECT_NAME": PROJECT} | variables
    return report(run(*prefix, "dev/doctor", "--json", cwd=directory, env=environment, check=False))
