"""What every benchmark hands in: rows with a target, shown to people as a table and to programs as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".bench"


@dataclass(frozen=True)
class Row:
    """One figure. `target` is its upper bound, with `at_least` its lower one, None where there is none.

    `holds` follows from them.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    holds: bool | None = field(init=False)
    at_least: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", self._holds())

    def _holds(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def verdict(self) -> str:
        return {None: "", True: "holds", False: "MISSED"}[self.holds]

    def cells(self) -> tuple[str, ...]:
        target = "" if self.target is None else f"{'>=' if self.at_least else '<='} {_number(self.target)}"
        return self.name, _number(self.value), self.unit, target, self.verdict


def _number(value: float) -> str:
    """Three figures are what a benchmark on a shared machine can promise."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(rows: Sequence[Row]) -> str:
    cells = [row.cells() for row in rows]
    name, value, unit, target = (max(len(line[column]) for line in cells) for column in range(4))
    return "\n".join(
        f"{a:<{name}}  {b:>{value}} {c:<{unit}}  {d:<{target}}  {e}".rstrip() for a, b, c, d, e in cells
    )


def engine(template: str) -> str:
    """One answer of `docker info`, by its Go template."""
    command = ["docker", "info", "--format", template]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    """The machine a figure belongs to, and what else it did: without them no two figures can be compared."""
    memory = int(engine("{{.MemTotal}}")) / 1e9
    load = os.getloadavg()[0]
    return (
        f"{engine('{{.NCPU}}')} cores, {memory:.0f} GB, {platform.system()} {engine('{{.KernelVersion}}')}, "
        f"Docker Engine {engine('{{.ServerVersion}}')} on {engine('{{.Driver}}')}, "
        f"cgroup v{engine('{{.CgroupVersion}}')}; before it began: load {load:.1f}, "
        f"{engine('{{.ContainersRunning}}')} containers running"
    )


def publish(name: str, rows: Sequence[Row], where: str) -> None:
    """Print the rows and write them to .bench/<name>.json."""
    print(f"\n{name}: {where}\n\n{_table(rows)}\n")
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"nexus: the same as JSON: {path.relative_to(ROOT)}")
