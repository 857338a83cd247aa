"""A Postgres and a Redis of the operator's own in place of the stack's, both by TLS."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from nexus.beat import CLIENT_NAME
from tests.checkout import checkout_copy, chosen_images, free_ports
from tests.host.authority import Authority
from tests.host.conftest import AWKWARD_PASSWORD
from tests.host.doctor import report
from tests.host.oidc import host_address
from tests.host.support import Stack, secret_file, stack_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]

#: Where the containers have the file that EXTERNAL_CA names.
CA = "/run/secrets/external_ca"
REDIS_PASSWORD = "not-the-published-one"  # noqa: S105  a test's own


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *arguments], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


@contextmanager
def container(image: str, port: int, inside: int, *arguments: str) -> Iterator[str]:
    """Run in nobody's compose project, and reached from other networks as another machine would be."""
    name, command = f"nexus-host-peer-{uuid4().hex[:8]}", arguments[arguments.index("--") + 1 :]
    options = arguments[: arguments.index("--")]
    published = f"{host_address()}:{port}:{inside}"
    docker("run", "--detach", "--name", name, "--publish", published, *options, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class Foreign:
    stack: Stack
    redis: str

    def redis_cli(self, *arguments: str) -> str:
        known = ("--tls", "--cacert", "/tls/ca.pem", "-a", REDIS_PASSWORD, "--no-auth-warning")
        return docker("exec", self.redis, "redis-cli", *known, *arguments)


def postgres_by_tls(image: str, port: int, tls: Path, server: str) -> AbstractContextManager[str]:
    """Its key has to be its own."""
    told = {"POSTGRES_USER": "reader", "POSTGRES_PASSWORD": AWKWARD_PASSWORD, "POSTGRES_DB": "books"}
    made = [f"--env={name}={value}" for name, value in told.items()]
    start = (
        f"install -o postgres -g postgres -m 600 /tls/{server} /tmp/server.pem && exec docker-entrypoint.sh "
        "postgres -c ssl=on -c ssl_cert_file=/tmp/server.pem -c ssl_key_file=/tmp/server.pem"
    )
    return container(
        image, port, 5432, *made, f"--volume={tls}:/tls:ro", "--entrypoint=bash", "--", "-c", start
    )


def redis_by_tls(image: str, port: int, tls: Path, server: str) -> AbstractContextManager[str]:
    shown = f"--volume={tls}:/tls:ro"
    files = ("--tls-cert-file", f"/tls/{server}", "--tls-key-file", f"/tls/{server}", "--tls-ca-cert-file")
    only = ("--port", "0", "--tls-port", "6379", *files, "/tls/ca.pem", "--tls-auth-clients", "no")
    return container(image, port, 6379, shown, "--", "redis-server", "--requirepass", REDIS_PASSWORD, *only)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    images = {"POSTGRES_IMAGE": "postgres:15.8", "REDIS_IMAGE": "redis:7.2-alpine"} | chosen_images()
    directory = checkout_copy(tmp_path_factory.mktemp("foreign") / "nexus")
    tls = tmp_path_factory.mktemp("tls")
    tls.chmod(0o755)  # whatever uid is in the containers
    (postgres_port, redis_port), address = free_ports(2), host_address()
    checked = f"ssl_cert_reqs=required&ssl_ca_certs={CA}"
    secret_file(directory / "redis_url", f"rediss://:{REDIS_PASSWORD}@{address}:{redis_port}/3?{checked}\n")
    postgres = f"postgresql+psycopg://reader@{address}:{postgres_port}/books"
    variables = {
        "EXTERNAL_POSTGRES": f"{postgres}?sslmode=verify-full&sslrootcert={CA}",
        "EXTERNAL_CA": str(tls / "ca.pem"),
        "POSTGRES_PASSWORD": AWKWARD_PASSWORD,
        "OWN_POSTGRES": "0",
        "EXTERNAL_REDIS": "",
        "EXTERNAL_REDIS_FILE": "./redis_url",
        "OWN_REDIS": "0",
        # Each process keeps for a second what it found: of two, one may be ready again before the other.
        "API_WORKERS": "1",
    }
    server = Authority(tls).certify(address).name
    with (
        postgres_by_tls(images["POSTGRES_IMAGE"], postgres_port, tls, server),
        redis_by_tls(images["REDIS_IMAGE"], redis_port, tls, server) as redis,
        stack_of(directory, **variables) as stack,
    ):
        stack.run("make", "up")
        yield Foreign(stack, redis)


def test_nexus_runs_on_them_and_on_nothing_else(foreign: Foreign) -> None:
    services = foreign.stack.compose("ps", "--all", "--format", "{{.Service}}").stdout.split()
    assert sorted(services) == ["api", "migrator", "worker"]
    foreign.stack.await_ready()

    def the_worker_consumes() -> bool:
        connections = re.findall(r" name=(\S*) .* db=(\d+) ", foreign.redis_cli("CLIENT", "LIST"))
        return (CLIENT_NAME, "3") in connections

    wait_until("the worker consumes from it", the_worker_consumes, seconds=60)
    assert foreign.stack.migrator("check").returncode == 0


def test_a_backup_goes_there_and_back(foreign: Foreign, tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    foreign.stack.run("make", "backup", f"FILE={file}")
    assert "restored: revision" in foreign.stack.run("make", "restore", f"FILE={file}", REPLACE="yes").stdout


def test_peers_whose_certificate_is_of_somebody_else_are_not_talked_to(
    foreign: Foreign, tmp_path: Path
) -> None:
    # Another setting too: Compose does not see a file that changes, and the doctor would ask who runs.
    other = {"EXTERNAL_CA": str(Authority(tmp_path).file), "LOG_LEVEL": "DEBUG"}
    done = foreign.stack.migrator("check", check=False, **other)
    assert done.returncode == 3
    assert f"Postgres at {host_address()} shows no certificate that we trust (" in done.stderr
    said = report(foreign.stack.run("dev/doctor", "--json", check=False, **other))
    untrusted = "has a certificate that we do not trust"
    assert said.faults("postgres") == [f"Postgres at {host_address()} {untrusted}"]
    assert said.faults("redis") == [f"Redis at {host_address()} (CELERY_BROKER_URL) {untrusted}"]


def exit_of(stack: Stack, service: str) -> tuple[int, list[str]]:
    """A new start of a service: its exit code and the lines of ours that say why."""
    done = stack.compose("run", "--rm", "-T", "--no-deps", service, check=False)
    return done.returncode, re.findall(r"Nexus does not start on.*", done.stdout + done.stderr)


@contextmanager
def policy_of(foreign: Foreign, policy: str) -> Iterator[None]:
    foreign.redis_cli("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        yield
    finally:
        foreign.redis_cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        # What was found is good for a second, and other tests follow in any order.
        foreign.stack.await_ready()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_redis_that_may_evict_queues_is_refused(foreign: Foreign, policy: str) -> None:
    with policy_of(foreign, policy):
        for service in ("api", "worker"):
            code, (line,) = exit_of(foreign.stack, service)
            assert code == 1
            assert line.startswith("Nexus does not start on this Redis: set noeviction")
        # Who runs already says it.
        answer = foreign.stack.await_ready(503)
        assert "may drop queued tasks" in answer.json()["error"]["message"]


def test_a_redis_that_spares_what_has_no_expiry_is_not(foreign: Foreign) -> None:
    with policy_of(foreign, "volatile-ttl"):
        foreign.stack.compose("restart", "api", "worker")
        foreign.stack.await_ready(seconds=60)


def test_the_doctor_asks_them(foreign: Foreign) -> None:
    """Of the stack's own, which does not run here, it asks neither port nor volume nor container."""
    # Tests before this one ran `compose run`, which builds: containers of what is an image now.
    foreign.stack.run("make", "up")
    said = report(foreign.stack.run("dev/doctor", "--json", check=False))
    assert [line for line in said.lines if line.state != "ok"] == []
    assert said.of("postgres") == [f"Postgres at {host_address()} answers"]
    assert said.of("secrets") == ["1 file, closed to others, open to the containers"]
    assert said.of("ports") == [f"{foreign.stack.ports['api']} are free or ours"]
    with policy_of(foreign, "allkeys-lru"):
        said = report(foreign.stack.run("dev/doctor", "--json", check=False))
    (evicts,) = said.faults("redis")
    assert evicts.endswith("may drop queued tasks: its maxmemory-policy is allkeys-lru")
