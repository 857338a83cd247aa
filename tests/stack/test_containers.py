"""The containers that run, as the engine reports them: what they may do, what they hold, how they started."""

import pytest

from tests.stack.stack import Stack

pytestmark = pytest.mark.docker

STAYING = ("postgres", "redis", "api", "worker")
ALL = (*STAYING, "migrator")


def test_the_five_services_are_there_and_the_migrator_ended_well(stack: Stack) -> None:
    assert set(stack.containers()) == set(ALL)
    state = stack.state("migrator")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


@pytest.mark.parametrize("name", ALL)
def test_hardening_of_the_running_container(name: str, stack: Stack) -> None:
    container = stack.service(name)
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert 0 < host["PidsLimit"] <= 256
    assert 0 < host["Memory"] <= 1024**3
    assert host["LogConfig"]["Config"].keys() >= {"max-size", "max-file"}
    assert not host["PortBindings"]
    assert container.attrs["Config"]["User"] not in ("", "0", "root", "0:0")
    # Nothing of the host; in the place of secrets that nobody named, nothing at all.
    sources = {mount["Source"] for mount in container.attrs["Mounts"] if mount["Type"] == "bind"}
    assert sources <= {"/dev/null"}


@pytest.mark.parametrize("name", STAYING)
def test_the_first_process_has_no_capability_and_is_not_root(name: str, stack: Stack) -> None:
    code, status = stack.execute(name, "cat", "/proc/1/status")
    assert code == 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert int(lines["CapEff"], 16) == 0
    assert int(lines["CapPrm"], 16) == 0
    assert lines["NoNewPrivs"].strip() == "1"
    assert 0 not in [int(uid) for uid in lines["Uid"].split()]


@pytest.mark.parametrize("name", STAYING)
def test_the_root_cannot_be_written(name: str, stack: Stack) -> None:
    code, output = stack.execute(name, "touch", "/etc/written", "/written")
    assert code != 0
    assert "ead-only file system" in output or "ermission denied" in output
    assert stack.service(name).attrs["HostConfig"]["ReadonlyRootfs"]


@pytest.mark.parametrize(
    ("name", "absent"), [("api", "celery"), ("worker", "fastapi"), ("worker", "alembic")]
)
def test_an_image_lacks_what_it_does_not_need(name: str, absent: str, stack: Stack) -> None:
    code, output = stack.execute(name, "python", "-c", f"import {absent}")
    assert code == 1
    assert f"No module named '{absent}'" in output


@pytest.mark.parametrize("name", ["api", "worker"])
def test_product_images_hold_only_the_product(name: str, stack: Stack) -> None:
    _, listing = stack.execute(name, "ls", "-A", "/app")
    assert listing.split() == ["db", "services", "shared", "sources.sha256"]
    for tool in ("gcc", "cc", "make", "git"):
        assert stack.execute(name, "which", tool)[0] != 0
    assert stack.execute(name, "ls", "/root/.cache")[0] != 0


@pytest.mark.parametrize("name", ["api", "worker"])
def test_bytecode_is_compiled_in(name: str, stack: Stack) -> None:
    script = (
        "import os, sqlalchemy as s, nexus as n; print(*map(os.path.exists, (s.__cached__, n.__cached__)))"
    )
    assert stack.execute(name, "python", "-c", script) == (0, "True True\n")


def test_postgres_speaks_utf8(stack: Stack) -> None:
    code, output = stack.execute("postgres", "psql", "-U", "postgres", "-Atc", "SHOW server_encoding")
    assert (code, output) == (0, "UTF8\n")


def test_redis_never_evicts_a_queue(stack: Stack) -> None:
    code, output = stack.execute("redis", "redis-cli", "config", "get", "maxmemory-policy")
    assert (code, output.split()) == (0, ["maxmemory-policy", "noeviction"])
