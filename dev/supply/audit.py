"""`make audit`: the known vulnerabilities of every locked package, where a source of advisories is in reach.

pip-audit asks. What it makes of the answers is not enough here: of an index that knows none of the packages
it says "No known vulnerabilities found". The first source that knows all of them decides. Exit codes: 0 well,
1 vulnerable, 2 requirements/accepted.toml, a lock or pip-audit itself is broken, 75 not audited: no failure,
and nothing that looks like a success. The last line says which; it goes to the file $GITHUB_STEP_SUMMARY too,
if that is set.
"""

import contextlib
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

LOCKS = Path("requirements")
ACCEPTED = LOCKS / "accepted.toml"
#: As pip-audit calls them, in the order in which they are asked. OSV has the data of the second, and others.
SOURCES = {"osv": "OSV", "pypi": "the Python package index"}
#: Seconds of silence after which a source counts as out of reach.
PATIENCE = 10
NOT_AUDITED = 75

#: How pip-audit ends where its source is to blame, in the first line that says what was raised: of some
#: failures to connect it makes an error of its own, the others are tracebacks.
SOURCE_FAILURE = re.compile(r"(?:requests|urllib3)\.exceptions\.|pip_audit\._service\.interface\.")
LOGGED = "ERROR:pip_audit._cli:"
BLOCKED = f"{LOGGED}Tip: your network may be blocking this service."
TRACEBACK = "Traceback (most recent call last):\n"

ENTRY = {"id": str, "package": str, "until": dt.date, "reason": str}

Pin = tuple[str, str]
Entry = dict[str, Any]


class InputError(Exception):
    """Something that the operator wrote; the message is the whole line."""


class ToolError(Exception):
    """pip-audit is broken, so nobody was asked; the message is the whole line."""


class NoAnswerError(Exception):
    """A source gave no answer; the message is the reason."""


class Finding(NamedTuple):
    """One vulnerability of one locked package."""

    pin: Pin
    names: tuple[str, ...]
    fixed: tuple[str, ...]


class Answer(NamedTuple):
    """What a source said, and the packages that it does not know."""

    findings: list[Finding]
    unknown: list[Pin]


def locked(folder: Path = LOCKS) -> dict[Pin, list[str]]:
    """Every pin of every lock, whatever its marker says about this machine, with the locks that hold it."""
    pins: dict[Pin, list[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        found = re.findall(r"(?m)^([a-z0-9.-]+)(?:\[.*?\])?==([^\s;\\]+)", path.read_text())
        if not found:
            raise InputError(f"{path} holds no pin: make lock")
        for pin in found:
            pins.setdefault(pin, []).append(path.name)
    if not pins:
        raise InputError(f"there is no lock in {folder}: run this in the checkout, or make lock")
    return pins


def accepted(path: Path = ACCEPTED) -> list[Entry]:
    """The entries of accepted.toml; raises InputError if one is not exactly as it must be."""
    try:
        document = tomllib.loads(path.read_text()) if path.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}: see the example in it") from None
    entries = document.pop("accepted", [])
    if document or not isinstance(entries, list):
        raise InputError(f"{path}: there is room for [[accepted]] and nothing else: see the example in it")
    for entry in entries:
        if _kinds(entry) != ENTRY or not entry["reason"].strip():
            raise InputError(
                f"{path}: an entry has the texts id, package and reason, and the day until: {entry}"
            )
    return entries


def _kinds(entry: object) -> dict[str, type]:
    return {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else {}


def _batches(pins: list[Pin]) -> Iterator[list[Pin]]:
    """pip-audit takes a package once; a lock may hold two versions of it, for different Pythons."""
    versions: dict[str, list[Pin]] = {}
    for pin in pins:
        versions.setdefault(pin[0], []).append(pin)
    for batch in zip_longest(*versions.values()):
        yield [pin for pin in batch if pin]


def _pip_audit(source: str, pins: list[Pin], scratch: Path) -> list[Entry]:
    """Its report on each package; raises NoAnswerError if the source gave none, ToolError if it did."""
    wanted = scratch / "pins.txt"
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in pins))
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", source]
    # Without a cache: what it says is true now. Pins only, so that nothing is resolved.
    command += ["--cache-dir", str(scratch / "cache"), "--timeout", str(PATIENCE)]
    command += ["--requirement", str(wanted), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--desc", "off", "--aliases", "on", "--progress-spinner", "off"]
    # Its tracebacks are read below.
    plain = os.environ | {"PYTHON_COLORS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    # 1: it has found something, or failed.
    if done.returncode in (0, 1):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return list(json.loads(done.stdout)["dependencies"])
    raise _failure(done.returncode, done.stderr)


def _failure(code: int, said: str) -> NoAnswerError | ToolError:
    """Why it gave no report: only what is known to be the source's fault is that."""
    lines = said.strip().splitlines() or ["it said nothing"]
    if code == 1 and lines[-1].startswith(BLOCKED):
        return NoAnswerError(lines[-2:][0].removeprefix(LOGGED))
    raised = next((line for line in said.rpartition(TRACEBACK)[2].splitlines() if line[:1].strip()), "")
    if code == 1 and SOURCE_FAILURE.match(raised):
        return NoAnswerError(_innermost(raised))
    reason = f"exit code {code}: {lines[-1][:200]}"
    return ToolError(f"pip-audit failed ({reason}): remove .venv-supply, make audit")


def _innermost(reason: str) -> str:
    """The requests library nests its reasons in brackets; what is in the last of them says it."""
    inner = re.sub(r".*Caused by \w+\(", "", reason)
    return re.sub(r".*(?:\): |Error: |>: )", "", inner).strip("\"')( ")[-200:]


def ask(source: str, pins: list[Pin]) -> Answer:
    """One source about all pins; raises NoAnswerError if it does not answer, and ToolError."""
    findings, known = [], set()
    with tempfile.TemporaryDirectory() as scratch:
        for batch in _batches(pins):
            for report in _pip_audit(source, batch, Path(scratch)):
                pin = (report["name"], report.get("version", ""))
                if "skip_reason" not in report:
                    known.add(pin)
                findings += [
                    Finding(pin, (each["id"], *each["aliases"]), tuple(each["fix_versions"]))
                    for each in report.get("vulns", [])
                ]
    return Answer(findings, [pin for pin in pins if pin not in known])


def consult(pins: list[Pin]) -> tuple[str, list[Finding], str]:
    """The source that decided, or nothing; what was found; and why those before it did not decide."""
    reasons, partial = [], []
    for source, name in SOURCES.items():
        try:
            answer = ask(source, pins)
        except NoAnswerError as reason:
            reasons.append(f"{name}: {reason}")
            continue
        if not answer.unknown:
            return name, answer.findings, ""
        partial += answer.findings
        some = ", ".join(name for name, _ in answer.unknown[:5])
        reasons.append(f"{name} knows nothing about {len(answer.unknown)} of them, such as {some}")
    return "", partial, "; ".join(reasons)


def _line(finding: Finding, locks: list[str]) -> str:
    (name, version), (first, *others) = finding.pin, finding.names
    also = f" ({', '.join(others)})" if others else ""
    where = f"{name} {version} ({', '.join(locks)})"
    if finding.fixed:
        wanted = f"{name}>={finding.fixed[0]}"
        remedy = f"fixed in {', '.join(finding.fixed)}: set {wanted} in pyproject.toml, make lock"
    else:
        remedy = f"no fixed version yet: do without it, or accept it for a while in {ACCEPTED}"
    return f"{where} has {first}{also}, {remedy}"


def _entry_for(finding: Finding, entries: list[Entry]) -> Entry | None:
    fitting = (e for e in entries if e["package"] == finding.pin[0] and e["id"] in finding.names)
    return max(fitting, key=lambda entry: entry["until"], default=None)


def _remaining(findings: list[Finding], entries: list[Entry], today: dt.date) -> dict[Finding, str]:
    """What is not accepted, each with an addition to its line; what is accepted is said and left out."""
    remaining = {}
    for finding in findings:
        entry = _entry_for(finding, entries)
        if entry is None:
            remaining[finding] = ""
        elif entry["until"] < today:
            remaining[finding] = f" (was accepted until {entry['until']})"
        else:
            print(
                f"nexus: accepted until {entry['until']}: {finding.pin[0]} {entry['id']}: {entry['reason']}"
            )
    return remaining


def audit() -> tuple[int, str]:
    """The exit code, and the line that sums it up."""
    pins, entries = locked(), accepted()
    source, findings, reasons = consult(list(pins))
    now = dt.datetime.now(dt.UTC)
    remaining = _remaining(findings, entries, now.date())
    for finding, note in remaining.items():
        print(f"nexus: {_line(finding, pins.get(finding.pin, []))}{note}", file=sys.stderr)
    told = f"{source}, {now:%Y-%m-%d %H:%M} UTC" if source else reasons
    if remaining:
        return 1, f"known vulnerabilities: {len(remaining)} in {len(pins)} locked packages ({told})"
    if not source:
        return NOT_AUDITED, f"NOT AUDITED: nothing is known about the {len(pins)} locked packages ({told})"
    return 0, f"no known vulnerability in {len(pins)} locked packages ({told})"


def main() -> int:
    try:
        code, line = audit()
    except (InputError, ToolError) as wrong:
        code, line = 2, str(wrong)
    print(f"nexus: audit: {line}", file=sys.stderr if code else sys.stdout)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(f"audit: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
