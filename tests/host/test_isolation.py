"""The promises of the rendered file, read off the running containers and the images."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.checkout import REPO
from tests.host.support import Stack, stack_of

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

STAYING = ("postgres", "redis", "api", "worker")
BUILT = ("api", "worker")
# /proc/1 may be docker's own init, so every process is asked. The shell that asks is one of them.
PROCESSES = "grep -hE '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/[0-9]*/status"


@pytest.mark.parametrize("service", STAYING)
def test_root_of_the_container_cannot_be_written(stack: Stack, service: str) -> None:
    answer = stack.shell(service, "touch /probe /usr/probe /etc/probe 2>&1; ls /probe 2>/dev/null; true")
    assert answer.count("Read-only file system") == 3, answer


@pytest.mark.parametrize("service", STAYING)
def test_processes_have_neither_root_nor_capabilities(stack: Stack, service: str) -> None:
    facts: dict[str, set[str]] = {}
    for line in stack.shell(service, PROCESSES).splitlines():
        name, values = line.split(":", 1)
        facts.setdefault(name, set()).update(values.split())
    assert facts["CapEff"] == facts["CapBnd"] == {"0" * 16}
    assert facts["NoNewPrivs"] == {"1"}
    assert "0" not in facts["Uid"]
    assert len(facts["Uid"]) == 1
    assert facts["Uid"] == {"10001"} or service not in BUILT


def test_data_are_out_of_reach_from_the_default_network(stack: Stack) -> None:
    ask = "for name in postgres redis; do getent hosts $name || echo unknown; done"
    network, image = f"{stack.project}_default", stack.image("api")
    outside = stack.run(
        "docker", "run", "--rm", "--network", network, "--entrypoint", "sh", image, "-c", ask
    )  # fmt: skip
    assert outside.stdout == "unknown\nunknown\n"
    # The same question from a container on both networks: it is the network that makes the difference.
    known = stack.shell("api", ask).split()
    assert known[1::2] == ["postgres", "redis"]


@pytest.mark.parametrize(
    ("service", "absent", "present"),
    [("api", ["celery", "kombu"], "fastapi"), ("worker", ["fastapi", "alembic"], "celery")],
)
def test_images_hold_only_their_own_libraries(
    stack: Stack, service: str, absent: list[str], present: str
) -> None:
    names = [*absent, present]
    script = f"from importlib.util import find_spec; print(*(n for n in {names!r} if find_spec(n)))"
    assert stack.shell(service, f'python -c "{script}"').split() == [present]


@pytest.mark.parametrize("service", BUILT)
def test_images_hold_only_the_product(stack: Stack, service: str) -> None:
    script = (
        "ls -A /app; command -v gcc cc g++ clang make;"
        " find /root/.cache /home/nexus/.cache /var/cache/apt/archives -type f -size +0 2>/dev/null; true"
    )
    # As uid 0, to look into root's own folders; without capabilities that is all it is good for.
    found = stack.shell(service, script, "--user", "0:0").split()
    assert found == ["db", "services", "shared", "sources.sha256"]


@pytest.fixture
def test_image() -> Iterator[str]:
    """The test-runner's image, from the checkout itself: after the container suite all of it is cached."""
    with stack_of(REPO) as stack:
        stack.compose("--profile", "test", "build", "--quiet", "tests")
        yield stack.image("tests")


def test_test_image_holds_every_tracked_file(test_image: str) -> None:
    command = [
        "docker",
        "run",
        "--rm",
        "--entrypoint",
        "find",
        test_image,
        "/app",
        "-type",
        "f",
        "-printf",
        "%P\\n",
    ]
    inside = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPO, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.split("\0")
    missing = [name for name in tracked if name and (REPO / name).is_file() and name not in set(inside)]
    assert missing == []
    assert ".env" not in inside


def test_drills_refuse_a_stack_that_is_not_disposable(stack: Stack) -> None:
    """Even with the Docker socket in their hands."""
    docker = "/var/run/docker.sock"
    options = ("--rm", "-T", "--no-deps", "--user", "0:0", "--volume", f"{docker}:{docker}")
    drill = ("pytest", "-m", "drill", "tests/stack/test_drills.py")
    done = stack.compose("--profile", "test", "run", *options, "tests", *drill, check=False)
    assert done.returncode == 3, done.stdout
    assert "is not marked disposable (label nexus.disposable)" in done.stdout
    assert "Use 'make test' or 'make drill'" in done.stdout
    assert "passed" not in done.stdout
