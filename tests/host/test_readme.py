"""The first requests of the README, typed in as they are printed, against a stack of its own."""

import re

import pytest

from tests.checkout import REPO
from tests.host.support import Stack

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

#: What differs from stack to stack: ids and times that it made itself.
MADE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{21}|\d{4}-\d\d-\d\dT[\d:.]+Z")


def session() -> list[tuple[str, str]]:
    """Each command of the README's prompts with the lines printed below it."""
    shown: list[tuple[str, str]] = []
    for line in re.findall(r"(?m)^    (.*)$", (REPO / "README.md").read_text()):
        if line.startswith("$ "):
            shown.append((line[2:], ""))
        elif shown and line.startswith(("{", "Alice")):
            command, output = shown[-1]
            shown[-1] = (command, f"{output}{line}\n")
    return shown


def test_the_first_requests_answer_as_printed(stack: Stack) -> None:
    commands = session()
    assert len(commands) >= 8
    # Each output behind a mark on a line of its own: not every output ends its last line.
    marked = "\n".join(f"printf '\\n@{number}\\n'\n{command}" for number, (command, _) in enumerate(commands))
    script = marked.replace("127.0.0.1:8000", f"127.0.0.1:{stack.ports['api']}")
    stack.await_ready()
    printed = stack.run("bash", "-euo", "pipefail", "-c", script).stdout
    outputs = re.split(r"(?m)^@\d+\n", printed)[1:]
    for (command, wanted), found in zip(commands, outputs, strict=True):
        if wanted:
            assert MADE.sub("…", found.strip()) == MADE.sub("…", wanted.strip()), command
