"""What `nexus doctor` finds: one line for each fault, with what to do."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "fault", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One line. `message` and `remedy` are for people, and hold no secret."""

    name: str
    state: State
    message: str
    remedy: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name, "ok", message)


def warning(name: str, message: str, remedy: str) -> Finding:
    return Finding(name, "warning", message, remedy)


def fault(name: str, message: str, remedy: str) -> Finding:
    return Finding(name, "fault", message, remedy)


def unchecked(name: str, reason: str) -> Finding:
    return Finding(name, "unknown", f"not checked: {reason}")
