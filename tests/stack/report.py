"""What the drills measured, for docs/faults.md; `make drill` puts it into .bench/drill.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass

#: What dev/drill and dev/soak find the figures by in the output of the test-runner.
MARK = "findings.json: "

HEADINGS = ("fault", "recovery s", "sent", "answered", "lost", "note")


@dataclass(frozen=True)
class Finding:
    """What one fault did."""

    fault: str
    #: Seconds from the end of the harm to the end of the last request that did not go well.
    recovery: float
    sent: int = 0
    answered: int = 0
    lost: int = 0
    note: str = ""


def table(findings: Sequence[Finding]) -> list[str]:
    """Lines for people."""
    rows = [HEADINGS, *(tuple(str(cell) for cell in astuple(each)) for each in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    cells = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(row).rstrip() for row in cells]


def line(findings: Sequence[Finding]) -> str:
    """The same for programs."""
    return MARK + json.dumps([asdict(each) for each in findings])
