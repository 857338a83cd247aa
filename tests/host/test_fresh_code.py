"""An edit counts at once: `docker compose run` builds what it runs, `watch` replaces what runs."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.host.support import Stack, edited, end_group, group_is_gone
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]


@contextlib.contextmanager
def watching(stack: Stack, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`docker compose watch` in a process group that is ended whole: a survivor breaks every later `up`."""
    with log.open("w") as output:
        process = subprocess.Popen(
            ["docker", "compose", "watch", "--no-up"],
            cwd=stack.directory,
            env=stack.environment,
            text=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until("compose watches", lambda: "watch" in log.read_text().lower(), seconds=30)
        yield process
    finally:
        end_group(process)


def _health_is(stack: Stack, status: str) -> bool:
    try:
        return bool(stack.get("/health").json()["data"]["status"] == status)
    except httpx2.HTTPError:  # between the old container and the new one
        return False


def test_watch_replaces_what_an_edit_touches(stack: Stack, tmp_path: Path) -> None:
    log, probes = tmp_path / "watch.log", stack.directory / "shared/nexus/api/probes.py"
    with (
        watching(stack, log) as process,
        edited(
            probes, 'JSONResponse({"data": {"status": "ok"}})', 'JSONResponse({"data": {"status": "edited"}})'
        ),
    ):
        wait_until(f"the answer changes, see {log}", lambda: _health_is(stack, "edited"), seconds=90)
        # Before the edit is taken back, or watch would begin again.
        end_group(process)
    assert group_is_gone(process.pid)
    assert "Failed" not in log.read_text()


def test_run_executes_the_edit(stack: Stack) -> None:
    main = stack.directory / "services/migrator/main.py"
    with edited(main, "    settings = ", '    print("edited")\n    settings = '):
        assert stack.migrator("current").stdout.splitlines()[0] == "edited"
