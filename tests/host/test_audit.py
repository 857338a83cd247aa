"""`make audit` against sources of advisories on this machine: what is known fails, nothing is pretended."""

import datetime as dt
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import REPO, free_ports
from tests.host.advisories import Advisories, serving
from tests.host.support import Result, clean_environment, run

#: The environment of the tools is made the first time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(600)]

LOCK = """\
jinja2==2.10 \\
    --hash=sha256:f84be1bb0040caca4cea721fcbbbbd61f9be9464ca236387158b0feea01914a4
six==1.17.0 ; python_full_version < '3.0' \\
    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
"""
ADVISORY = {"id": "PYSEC-2019-217", "aliases": ["CVE-2019-10906"], "summary": "a way out of the sandbox"}
OF_OSV = ADVISORY | {
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.10.1"}]}],
        }
    ]
}
OF_INDEX = ADVISORY | {"fixed_in": ["2.10.1"], "details": "", "link": "", "withdrawn": None}


@pytest.fixture
def advisories(tmp_path: Path) -> Iterator[Advisories]:
    with serving(tmp_path) as found:
        yield found


class Audit:
    """The audit of a folder with a lock of its own."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python
        self.environment: dict[str, str] = {}
        (folder / "requirements").mkdir(parents=True)
        self.lock = folder / "requirements" / "api.txt"
        self.lock.write_text(LOCK)
        self.accepted = folder / "requirements" / "accepted.toml"
        self.summary = folder / "summary.md"

    def __call__(self) -> Result:
        environment = clean_environment() | self.environment | {"GITHUB_STEP_SUMMARY": str(self.summary)}
        return run(self.python, "-m", "dev.supply.audit", cwd=self.folder, env=environment, check=False)


@pytest.fixture
def audit(tmp_path: Path, supply_python: str, advisories: Advisories) -> Audit:
    found = Audit(tmp_path / "checkout", supply_python)
    found.environment = advisories.environment
    return found


def about_jinja(advisory: dict[str, Any], key: str) -> Any:
    return lambda package, _: (200, {key: [advisory]} if package == "jinja2" else {key: []})


def test_nothing_known(audit: Audit, advisories: Advisories) -> None:
    result = audit()
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("nexus: audit: no known vulnerability in 2 locked packages (OSV, 2")
    assert result.stderr == ""
    # Also what this Python would not install.
    assert sorted(advisories.asked) == [("osv", "jinja2", "2.10"), ("osv", "six", "1.17.0")]
    assert audit.summary.read_text() == result.stdout.removeprefix("nexus: ")


def test_a_known_vulnerability(audit: Audit, advisories: Advisories) -> None:
    advisories.osv = about_jinja(OF_OSV, "vulns")
    result = audit()
    assert result.returncode == 1
    first, last = result.stderr.splitlines()
    assert first == (
        "nexus: jinja2 2.10 (api.txt) has PYSEC-2019-217 (CVE-2019-10906), fixed in 2.10.1: "
        "set jinja2>=2.10.1 in pyproject.toml, make lock"
    )
    assert last.startswith("nexus: audit: known vulnerabilities: 1 in 2 locked packages (OSV, 2")


def test_the_second_source_decides_where_the_first_is_silent(audit: Audit, advisories: Advisories) -> None:
    advisories.osv = lambda *_: (503, {})
    advisories.index = about_jinja(OF_INDEX, "vulnerabilities")
    result = audit()
    assert result.returncode == 1
    assert "has PYSEC-2019-217 (CVE-2019-10906), fixed in 2.10.1" in result.stderr
    assert "(the Python package index, 2" in result.stderr
    assert {kind for kind, _, _ in advisories.asked} == {"osv", "index"}


def not_audited(result: Result) -> str:
    """The line that says so: the only one, and not among what is well."""
    assert result.returncode == 75
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("nexus: audit: NOT AUDITED: nothing is known about the 2 locked packages (")
    return line


def test_no_source_in_reach(audit: Audit) -> None:
    (port,) = free_ports(1)
    audit.environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{port}")
    line = not_audited(audit())
    assert line.count("Connection refused") == 2
    assert audit.summary.read_text() == line.removeprefix("nexus: ") + "\n"


def test_a_server_that_is_not_whom_it_claims_to_be(audit: Audit) -> None:
    audit.environment.pop("REQUESTS_CA_BUNDLE")
    assert "certificate verify failed" in not_audited(audit())


def test_an_index_that_knows_no_package_is_no_source(audit: Audit, advisories: Advisories) -> None:
    """pip-audit calls this "No known vulnerabilities found"."""
    advisories.osv = lambda *_: (200, b"<html>please log in</html>")
    advisories.index = lambda *_: (404, {})
    assert "knows nothing about 2 of them, such as jinja2, six" in not_audited(audit())


def test_an_index_that_knows_some_of_them_is_none_either(audit: Audit, advisories: Advisories) -> None:
    advisories.osv = lambda *_: (500, {})
    advisories.index = lambda name, _: (404 if name == "six" else 200, {"vulnerabilities": []})
    assert "knows nothing about 1 of them, such as six" in not_audited(audit())
    # But what it does know is not kept back.
    advisories.index = lambda name, _: (404, {}) if name == "six" else (200, {"vulnerabilities": [OF_INDEX]})
    result = audit()
    assert result.returncode == 1
    assert "jinja2 2.10 (api.txt) has PYSEC-2019-217" in result.stderr


def test_two_versions_of_a_package_are_both_asked_for(audit: Audit, advisories: Advisories) -> None:
    audit.lock.with_name("test.txt").write_text(LOCK.replace("2.10 ", "2.11 "))
    result = audit()
    assert result.returncode == 0, result.stderr
    assert "in 3 locked packages" in result.stdout
    assert {version for _, name, version in advisories.asked if name == "jinja2"} == {"2.10", "2.11"}


def entry(until: object, **changes: str) -> str:
    words = {
        "id": "CVE-2019-10906",
        "package": "jinja2",
        "reason": "no template of ours is sandboxed",
    } | changes
    return (
        "[[accepted]]\n"
        + "".join(f'{key} = "{value}"\n' for key, value in words.items())
        + f"until = {until}\n"
    )


def test_an_accepted_vulnerability_passes_until_its_day(audit: Audit, advisories: Advisories) -> None:
    advisories.osv = about_jinja(OF_OSV, "vulns")
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    audit.accepted.write_text(entry(tomorrow))
    result = audit()
    assert result.returncode == 0, result.stderr
    assert f"nexus: accepted until {tomorrow}: jinja2 CVE-2019-10906" in result.stdout
    audit.accepted.write_text(entry("2020-01-01"))
    result = audit()
    assert result.returncode == 1
    assert "make lock (was accepted until 2020-01-01)" in result.stderr
    audit.accepted.write_text(entry(tomorrow, package="six"))
    assert audit().returncode == 1, "an entry is for one package"


def refused(audit: Audit) -> str:
    """The one line that says why there is no audit; people are shown it where they look."""
    audit.summary.unlink(missing_ok=True)
    result = audit()
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    (line,) = result.stderr.splitlines()
    assert audit.summary.read_text() == line.removeprefix("nexus: ") + "\n"
    return line


#: Tools in the place of pip-audit, and what the audit says of each.
BROKEN = {
    "crashes": ("raise KeyError('vulns')", "exit code 1: KeyError: 'vulns'"),
    "crashes over a source": (
        "import requests\ntry: raise requests.ConnectionError('x')\nexcept OSError: 1 / 0",
        "exit code 1: ZeroDivisionError: division by zero",
    ),
    "refuses an option": (
        "import argparse; argparse.ArgumentParser(prog='pip-audit').parse_args()",
        "exit code 2: pip-audit: error: unrecognized arguments: --vulnerability-service osv",
    ),
    "is missing a part": ("import nothing_there", "exit code 1: ModuleNotFoundError: No module named"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "exit code -9: it said nothing"),
    "says nothing": ("", "exit code 0: it said nothing"),
    "says no JSON": ("print('all is well')", "exit code 0: it said nothing"),
    "says another JSON": ("print('[]')", "exit code 0: it said nothing"),
    "says it and fails": ("print('{\"dependencies\": []}'); raise SystemExit(3)", "exit code 3: it said"),
    "refuses its input": (
        "import sys; sys.exit('ERROR:pip_audit._cli:invalid requirements input: pins.txt')",
        "exit code 1: ERROR:pip_audit._cli:invalid requirements input: pins.txt",
    ),
}


@pytest.mark.parametrize(("tool", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_tool_is_no_source_out_of_reach(audit: Audit, tool: str, said: str) -> None:
    # The audit runs it with -m, which looks into the current folder first.
    (audit.folder / "pip_audit.py").write_text(tool)
    line = refused(audit)
    assert line.startswith(f"nexus: audit: pip-audit failed ({said}")
    assert line.endswith("): remove .venv-supply, make audit")


def test_a_tool_that_is_not_there(audit: Audit) -> None:
    (audit.folder / "pip_audit").mkdir()
    (audit.folder / "pip_audit/__init__.py").touch()
    assert "pip-audit failed (exit code 1: " in (line := refused(audit))
    assert "No module named pip_audit" in line


@pytest.mark.parametrize(
    ("answer", "reason"),
    [((503, {}), "ServiceError"), ((429, {}), "ServiceError"), ((200, b""), "Expecting value")],
)
def test_a_source_that_does_not_answer_is_no_broken_tool(
    audit: Audit, advisories: Advisories, answer: tuple[int, Any], reason: str
) -> None:
    # As CI may ask for it: newer Pythons colour their tracebacks then.
    audit.environment |= {"FORCE_COLOR": "1"}
    advisories.osv = advisories.index = lambda *_: answer
    assert not_audited(audit()).count(reason) == 2


#: The real one, which asks another address.
ELSEWHERE = """
import os, sys
command = [sys.executable, "-P", "-m", "pip_audit", *sys.argv[1:], "--osv-url", "https://127.0.0.1:{port}/"]
os.execv(sys.executable, command)
"""


def test_a_source_to_which_no_connection_comes_about(audit: Audit, advisories: Advisories) -> None:
    """Nobody refuses one either. pip-audit has a line of its own for this, with a tip behind it."""
    advisories.index = lambda *_: (404, {})
    audit.environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        (audit.folder / "pip_audit.py").write_text(ELSEWHERE.format(port=port))
        # The one that it has room for; the next wait for ever.
        with socket.create_connection(("127.0.0.1", port)):
            line = not_audited(audit())
    assert "(OSV: Could not connect to OSV's vulnerability feed; the Python package index knows" in line


def test_a_source_that_is_silent(audit: Audit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        audit.environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
        assert not_audited(audit()).count("Read timed out") == 2


@pytest.mark.parametrize(
    "text",
    [
        *(entry('"2099-01-01"'), entry("2099-01-01", reason=" "), entry("2099-01-01", packages="x")),
        *("[[accepted]]\n", "[[accepted]", entry("2099-01-01T00:00:00"), "accepted = 1\n", "[[acepted]]\n"),
    ],
)
def test_a_wrong_entry_is_refused_before_anybody_is_asked(
    audit: Audit, advisories: Advisories, text: str
) -> None:
    audit.accepted.write_text(text)
    assert refused(audit).startswith("nexus: audit: requirements/accepted.toml: ")
    assert advisories.asked == []


def test_a_lock_that_is_damaged_or_gone_is_not_clean(audit: Audit) -> None:
    audit.lock.write_text("")
    assert refused(audit) == "nexus: audit: requirements/api.txt holds no pin: make lock"
    shutil.rmtree(audit.lock.parent)
    assert refused(audit).startswith("nexus: audit: there is no lock in requirements")


def test_make_is_not_red_where_nothing_could_be_asked_and_says_so(supply_python: str) -> None:
    (port,) = free_ports(1)
    environment = clean_environment() | dict.fromkeys(
        ("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{port}"
    )
    result = run("make", "audit", cwd=REPO, env=environment)
    assert Path(supply_python).exists()
    assert "nexus: audit: NOT AUDITED: nothing is known about the " in result.stderr


def test_make_is_red_for_a_known_vulnerability(supply_python: str, advisories: Advisories) -> None:
    """Also proves that the product's own locks are what it asks about."""
    advisories.osv = lambda name, _: (200, {"vulns": [OF_OSV]} if name == "sqlalchemy" else {})
    result = run("make", "audit", cwd=REPO, env=clean_environment() | advisories.environment, check=False)
    assert Path(supply_python).exists()
    assert result.returncode == 2
    assert "has PYSEC-2019-217 (CVE-2019-10906), no fixed version yet: do without it" in result.stderr
    assert {"sqlalchemy", "celery", "fastapi", "pytest", "pip-audit"} <= {
        name for _, name, _ in advisories.asked
    }
