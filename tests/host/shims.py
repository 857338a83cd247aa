"""Programs in place of the real ones, or a PATH without them: what a machine would not do by itself."""

import os
from pathlib import Path


def shim(folder: Path, name: str, script: str) -> Path:
    """A program that answers in place of the real one, which is reachable in it as $REAL."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\nREAL=$(PATH=${{PATH#*:}} command -v {name})\n{script}\n")
    program.chmod(0o755)
    return program


#: Says that it is there, and does its work when it may.
STOPS = """\
PLACES='{places}'
if {condition}; then
  : >"$PLACES/reached"
  until [ -e "$PLACES/release" ]; do sleep 0.05; done
fi
exec "$REAL" "$@"
"""


def stopping(places: Path, name: str, condition: str) -> str:
    """A PATH with a command that stops before it does its work, if the condition of its shell holds.

    When it has stopped there is a file "reached" in the folder; it goes on when there is a file "release".
    """
    shim(places, name, STOPS.format(places=places, condition=condition))
    return in_front(places)


def in_front(folder: Path) -> str:
    return f"{folder}:{os.environ['PATH']}"


def path_without(folder: Path, *absent: str) -> str:
    """A PATH with everything this one has, but for some commands."""
    folder.mkdir()
    for place in filter(os.path.isdir, os.environ["PATH"].split(":")):
        for entry in os.scandir(place):
            link = folder / entry.name
            if entry.name not in absent and not link.is_symlink():
                link.symlink_to(entry.path)
    return str(folder)
