"""`nexus doctor`: what can be told from inside the api image. It changes nothing, and each check is bounded.

`dev/doctor` runs it and adds what only the host knows; alone it serves where there is no checkout.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from urllib.parse import urlsplit

from nexus.config import Settings, SettingsError, load_settings
from nexus.doctor.findings import Finding, State, fault, ok, unchecked

#: Each line names the check that it comes from.
CHECKS = ("settings", "postgres", "schema", "redis", "provider", "clock")
#: Between the fields of a line for `dev/doctor`; no message holds it.
SEPARATOR = "\x1f"


def _settings() -> tuple[Settings | None, list[Finding]]:
    try:
        settings = load_settings()
    except SettingsError as error:
        remedy = "correct it in .env; .env.example says what it means"
        return None, [fault("settings", f"setting {line}", remedy) for line in error.faults]
    return settings, [ok("settings", f"all settings are accepted, NEXUS_ENV is {settings.NEXUS_ENV}")]


def examine(only: Sequence[str] = (), away: Sequence[str] = ()) -> Iterator[Finding]:
    """All findings, each as soon as it is known.

    Args:
        only: the checks that are wanted; none means all.
        away: services of the stack that do not run; a peer of that name is not looked for.
    """
    wanted = only or CHECKS
    settings, findings = _settings()
    if settings is None:
        findings += [unchecked(name, "the settings are refused") for name in CHECKS[1:]]
        yield from (finding for finding in findings if finding.name in wanted)
        return
    rest = _peers(settings, wanted, away) if set(wanted) - {"settings"} else iter(())
    yield from (finding for finding in chain(findings, rest) if finding.name in wanted)


def _peers(settings: Settings, wanted: Sequence[str], away: Sequence[str]) -> Iterator[Finding]:
    # Here, since they take a second that the settings alone do not need.
    from nexus.doctor.postgres import check_postgres  # noqa: PLC0415
    from nexus.doctor.provider import check_provider  # noqa: PLC0415
    from nexus.doctor.redis import check_redis  # noqa: PLC0415

    checks = (
        (check_postgres, ("postgres", "schema", "clock"), settings.DATABASE_URL),
        (check_redis, ("redis",), settings.CELERY_BROKER_URL),
        (check_provider, ("provider", "clock"), None),
    )
    for check, names, url in checks:
        host = urlsplit(url.get_secret_value()).hostname if url else None
        if host in away:
            yield from (unchecked(name, f"{host} does not run") for name in names if name != "clock")
        elif set(names) & set(wanted):
            yield from check(settings)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def main(form: str, only: Sequence[str], away: Sequence[str]) -> int:
    """Print what is found; `only` names checks, none means all; `form` is text, lines or json.

    Returns:
        the exit code: 0 no fault, 1 a fault.
    """
    found: list[Finding] = []
    for finding in examine(only, away):
        found.append(finding)
        if form != "json":
            sys.stdout.write(_line(finding, form))
            sys.stdout.flush()
    if form == "json":
        checks = [asdict(finding) for finding in found]
        sys.stdout.write(json.dumps({"state": _worst(found), "checks": checks}) + "\n")
    return 1 if _worst(found) == "fault" else 0


def _line(finding: Finding, form: str) -> str:
    state, name, message, remedy = map(
        _printable, (finding.state, finding.name, finding.message, finding.remedy)
    )
    if form == "lines":
        return SEPARATOR.join((state, name, message, remedy)) + "\n"
    return f"{state:<8} {name:<10} {message}{f': {remedy}' if remedy else ''}\n"


def _worst(found: Sequence[Finding]) -> State:
    """What the exit code tells; what was not checked counts for nothing."""
    states: tuple[State, ...] = ("fault", "warning")
    return next((state for state in states if any(each.state == state for each in found)), "ok")
