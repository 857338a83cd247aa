"""The devcontainer's files, started as the devcontainer tools start them, by an unprivileged user.

This is not the devcontainer tool itself (no registry to fetch it from): it takes the same steps with docker
alone. The tool builds the service's image, puts one more layer on it that gives its user the uid of whoever
owns the checkout, starts `runServices` with that image in place of the built one, and enters as `remoteUser`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.checkout import REPO, checkout_copy
from tests.host.support import clean_environment, rendered, run

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

FILES = ("-f", "compose.yml", "-f", ".devcontainer/compose.yml")
CONFIG = json.loads((REPO / ".devcontainer/devcontainer.json").read_text())
SERVICE, USER, FOLDER = CONFIG["service"], CONFIG["remoteUser"], CONFIG["workspaceFolder"]
# Root may give the checkout away; anybody else already is unprivileged.
UID = os.getuid() or 12345
GID = os.getgid() or 12345

# What the tool does to the image. It runs with the SHELL that the image was built with, and reads variables
# that nobody has set: `set -u` in there would end it.
TAKE_OVER_UID = r"""
ARG IMAGE
FROM ${IMAGE}
USER root
RUN if [ -z "$EXISTING_USER" ]; then \
      sed -i "s/^nexus:x:[0-9]*:[0-9]*/nexus:x:__UID__:__GID__/" /etc/passwd && \
      sed -i "s/^nexus:x:[0-9]*/nexus:x:__GID__/" /etc/group && chown -R __UID__:__GID__ /home/nexus; fi
USER 10001:10001
"""


class Devcontainer:
    """A private checkout of that user's, and a compose project of its own."""

    def __init__(self, checkout: Path) -> None:
        self.project = f"nexus-devcontainer-{uuid4().hex[:8]}"
        self.image = f"{self.project}-{SERVICE}"
        self.checkout = checkout
        self.files: tuple[str, ...] = FILES

    def docker(self, *arguments: str, **variables: str) -> str:
        environment = clean_environment() | {"COMPOSE_PROJECT_NAME": self.project} | variables
        return run("docker", *arguments, cwd=self.checkout, env=environment, timeout=500).stdout

    def compose(self, *arguments: str, **variables: str) -> str:
        return self.docker("compose", "--progress", "quiet", *self.files, *arguments, **variables)

    def enter(self, command: str) -> str:
        """What the editor's terminal does: as remoteUser, in workspaceFolder."""
        return self.compose("exec", "-T", "--workdir", FOLDER, "--user", USER, SERVICE, "bash", "-c", command)

    def start(self, recipe: Path) -> None:
        """`recipe` is an empty folder outside the checkout, as the tool has one."""
        self.compose("build", "--quiet", SERVICE)
        text = TAKE_OVER_UID.replace("__UID__", str(UID)).replace("__GID__", str(GID))
        (recipe / "Dockerfile").write_text(text)
        tag = f"{self.image}-uid"
        self.docker("build", "--quiet", "--tag", tag, "--build-arg", f"IMAGE={self.image}", str(recipe))
        (recipe / "compose.yml").write_text(f"services: {{{SERVICE}: {{image: {tag}}}}}\n")
        self.files = (*FILES, "-f", str(recipe / "compose.yml"))
        self.compose("up", "--detach", *CONFIG["runServices"])

    def remove(self) -> None:
        """Whatever state it is in, with the images made for it."""
        try:
            down = ("down", "--volumes", "--remove-orphans", "--timeout", "5", "--rmi", "local")
            self.compose("--profile", "*", *down)
        finally:
            # By name: by number, one that another is built on could not go.
            for name in self.docker("images", "--format", "{{.Repository}}", f"{self.project}-*").split():
                self.docker("image", "rm", "--force", name)


def private_checkout(target: Path) -> Path:
    """As a clone of that user's under umask 077: nobody else may even enter."""
    checkout_copy(target)
    if os.getuid() == 0:
        for path in [target, *target.rglob("*")]:
            os.chown(path, UID, GID, follow_symlinks=False)
    target.chmod(0o700)
    return target


@pytest.fixture(scope="module")
def devcontainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devcontainer]:
    started = Devcontainer(private_checkout(tmp_path_factory.mktemp("devcontainer") / "nexus"))
    try:
        started.start(tmp_path_factory.mktemp("recipe"))
        yield started
    finally:
        started.remove()


def states(devcontainer: Devcontainer) -> dict[str, str]:
    listed = devcontainer.compose("ps", "--all", "--format", "{{.Service}} {{.State}} {{.ExitCode}}")
    return dict(line.split(" ", 1) for line in listed.splitlines())


@pytest.mark.long
def test_it_starts_what_it_names_and_nothing_else(devcontainer: Devcontainer) -> None:
    assert states(devcontainer) == {
        "postgres": "running 0",
        "redis": "running 0",
        "migrator": "exited 0",
        "workspace": "running 0",
    }


@pytest.mark.long
def test_inside_you_are_yourself_without_any_privilege(devcontainer: Devcontainer) -> None:
    assert devcontainer.enter("id -u; id -g; id -un").split() == [str(UID), str(GID), "nexus"]
    status = devcontainer.enter("cat /proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    # Room for an editor's server, and no way to the engine.
    said = devcontainer.enter("touch ~/.editor-server && test ! -e /var/run/docker.sock && echo yes")
    assert said == "yes\n"


@pytest.mark.long
def test_pytest_runs_on_the_mounted_checkout(devcontainer: Devcontainer) -> None:
    """The checkout and not the image's copy: a module that only the checkout has can be imported."""
    only_here = devcontainer.checkout / "shared/nexus/only_here.py"
    only_here.write_text("")
    only_here.chmod(0o644)
    said = devcontainer.enter("python -c 'import nexus.only_here as o; print(o.__file__)'")
    only_here.unlink()
    assert said == "/workspace/shared/nexus/only_here.py\n"
    # One file of each kind: nothing but our code, gunicorn and Postgres, Postgres alone.
    files = "tests/unit/test_config.py tests/api/test_libraries.py tests/db/test_constraints.py"
    assert " passed" in devcontainer.enter(f"pytest -q {files}")
    # pytest leaves its cache in the checkout; it is yours, like everything else in there.
    assert (devcontainer.checkout / ".pytest_cache").exists()
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in devcontainer.checkout.rglob("*")}
    assert owners == {(UID, GID)}


@pytest.mark.long
def test_make_lint_runs_inside(devcontainer: Devcontainer) -> None:
    said = devcontainer.enter("make lint")
    assert "nexus: ruff check" in said
    assert "nexus: zizmor" in said


@pytest.mark.long
def test_without_the_tool_two_variables_do(devcontainer: Devcontainer) -> None:
    """DEV_UID and DEV_GID, as the head of .devcontainer/compose.yml says."""
    own = {"DEV_UID": str(UID), "DEV_GID": str(GID)}
    script = "id -u; cd /workspace; touch made-by-hand; pytest -q tests/unit/test_config.py"
    command = ("run", "--rm", "--no-deps", "-T", "workspace", "bash", "-ec", script)
    said = devcontainer.compose(*command, **own)
    assert said.startswith(f"{UID}\n")
    assert (devcontainer.checkout / "made-by-hand").stat().st_uid == UID


def test_the_configuration_names_what_there_is(checkout: Path) -> None:
    files = [(checkout / ".devcontainer" / name).resolve() for name in CONFIG["dockerComposeFile"]]
    assert files == [checkout / FILES[1], checkout / FILES[3]]
    services = rendered(checkout, *FILES)["services"]
    assert set(CONFIG["runServices"]) == {"postgres", "redis", "migrator", "workspace"}
    assert {*CONFIG["runServices"], SERVICE} <= set(services)
    (mount,) = services[SERVICE]["volumes"]
    assert (mount["source"], mount["target"]) == (str(checkout), FOLDER)
    assert CONFIG["updateRemoteUserUID"] is True
    dockerfile = checkout / services[SERVICE]["build"]["dockerfile"]
    assert f"--create-home {USER} " in dockerfile.read_text()


def test_it_does_not_clash_with_the_local_stack(checkout: Path) -> None:
    document = rendered(checkout, "--profile", "*", *FILES)
    assert document["name"] == "nexus-devcontainer"
    assert document["volumes"]["postgres-data"]["name"] == "nexus-devcontainer_postgres-data"
    for name, service in document["services"].items():
        assert not service.get("ports"), name
        assert "container_name" not in service, name


def test_the_workspace_is_the_test_runner_with_stated_exceptions(checkout: Path) -> None:
    services = rendered(checkout, "--profile", "test", *FILES, DEV_UID="4711", DEV_GID="4712")["services"]
    workspace, tests = services[SERVICE], services["tests"]
    assert workspace["user"] == "4711:4712"
    assert "profiles" not in workspace
    # A build while the tool starts it would undo the user's uid in the image.
    assert "pull_policy" not in workspace
    assert not workspace.get("read_only")
    for setting in ("build", "cap_drop", "security_opt", "networks", "logging", "init", "restart"):
        assert workspace[setting] == tests[setting], setting
    own = {"PYTHONPATH", "PYTEST_ADDOPTS"}
    # HOME is the user's own in here, and no api runs beside it.
    others = {"HOME", "NEXUS_API_URL", "NEXUS_API_SECRET"}
    shared = {name: value for name, value in tests["environment"].items() if name not in others}
    assert {name: value for name, value in workspace["environment"].items() if name not in own} == shared
