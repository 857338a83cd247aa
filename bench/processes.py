"""CPU of the engine and of some containers, read from /proc: what `docker stats` does not show."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")
_DAEMONS = frozenset({"dockerd", "containerd"})


class Cpu(NamedTuple):
    """Seconds of CPU."""

    #: The containers' processes and their shims, which also start, and await, every probe and its runc.
    own: float
    #: dockerd and containerd. They serve the whole machine: what others do meanwhile is noise here.
    daemons: float


def _stat(pid: str) -> tuple[str, str, int]:
    """Name, parent and CPU ticks of a process, those of its ended and awaited children included."""
    text = Path("/proc", pid, "stat").read_text()
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return name, fields[1], sum(int(each) for each in fields[11:15])


def _snapshot() -> dict[str, tuple[str, str, int]]:
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                processes[entry.name] = _stat(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile; its parent has its time now
    return processes


def visible(containers: Iterable[str]) -> bool:
    """Whether the engine runs on this kernel: not so where Docker has a virtual machine of its own."""
    return Path("/proc").is_dir() and bool(_shims(set(containers)))


def _shims(containers: set[str]) -> set[str]:
    """The parents of the containers' processes."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"-id" in words and words[words.index(b"-id") + 1].decode() in containers:
                found.add(entry.name)
    return found


def _below(parents: set[str], processes: dict[str, tuple[str, str, int]]) -> set[str]:
    """These processes and all their descendants."""
    wanted = set(parents)
    while more := {pid for pid, (_, parent, _) in processes.items() if parent in wanted} - wanted:
        wanted |= more
    return wanted


def _cpu_seconds(containers: set[str]) -> Cpu:
    processes = _snapshot()
    own = _below(_shims(containers), processes)
    daemons = {pid for pid, (name, _, _) in processes.items() if name in _DAEMONS}

    def seconds(pids: set[str]) -> float:
        return sum(processes[pid][2] for pid in pids & processes.keys()) / _TICK

    return Cpu(seconds(own), seconds(daemons))


def cpu_per_minute(containers: Iterable[str], window: float) -> Cpu:
    """CPU seconds in a minute, measured over a window of so many seconds."""
    ids = set(containers)
    before, start = _cpu_seconds(ids), time.monotonic()
    time.sleep(window)
    after, minutes = _cpu_seconds(ids), (time.monotonic() - start) / 60
    return Cpu((after.own - before.own) / minutes, (after.daemons - before.daemons) / minutes)
