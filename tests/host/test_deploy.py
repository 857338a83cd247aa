"""docs/deploy.md, typed as it stands; then what a deployment must refuse, and what it must believe."""

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.checkout import REPO, checkout_copy
from tests.host.oidc import Provider, provider
from tests.host.support import Stack, secret_file, stack_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]

USER = str(uuid4())
#: The gateway of a compose network, and what a client may type itself.
THROUGH_PROXY = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Forwarded-Proto": "https"}


@dataclass(frozen=True)
class Deployed:
    stack: Stack
    token: str
    #: What the page's last command printed.
    printed: str

    @property
    def secret(self) -> str:
        return (self.stack.directory / "secrets/internal_secret").read_text()

    def me(self, headers: dict[str, str] | None = None) -> httpx2.Response:
        url = f"http://127.0.0.1:{self.stack.ports['api']}/me"
        own = {"X-Nexus-Internal": self.secret, "Authorization": f"Bearer {self.token}"}
        return httpx2.get(url, headers=own | (headers or {}), timeout=10, trust_env=False)


def commands() -> str:
    """The indented blocks of the page's first part."""
    page = (REPO / "docs/deploy.md").read_text()
    part = page[page.index("## The first time") : page.index("## What refuses to start")]
    return "\n".join(re.findall(r"(?m)^    (.*)$", part))


def typed(stack: Stack, identity: Provider, token: str) -> str:
    """The output of the page's commands, with this provider and these ports in place of the page's."""
    known = identity.discovered()
    assert known["issuer"] == identity.url
    script = commands()
    for shown, here in {
        "https://id.example.org/jwks": known["jwks_uri"],
        "https://id.example.org": known["issuer"],
        "127.0.0.1:8000": f"127.0.0.1:{stack.ports['api']}",
    }.items():
        assert shown in script
        script = script.replace(shown, here)
    return stack.run("bash", "-euo", "pipefail", "-c", script, TOKEN=token).stdout


@pytest.fixture(scope="module")
def identity() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, identity: Provider) -> Iterator[Deployed]:
    directory = checkout_copy(tmp_path_factory.mktemp("deployed") / "nexus")
    with stack_of(directory) as stack:
        token = identity.token(USER)
        yield Deployed(stack, token, typed(stack, identity, token))


def test_the_page_leads_to_a_first_request(deployed: Deployed) -> None:
    answer = json.loads(deployed.printed.splitlines()[-1])
    assert answer["data"]["user_id"] == USER
    assert "make seed" not in deployed.printed  # refused there
    deployed.stack.await_ready()


def test_only_root_and_the_containers_may_read_the_secrets(deployed: Deployed) -> None:
    folder = deployed.stack.directory / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_gid) == (0o440, 10001)
        assert len(file.read_text()) >= 40


def test_no_secret_stands_in_what_the_engine_shows(deployed: Deployed) -> None:
    secrets = [file.read_text() for file in (deployed.stack.directory / "secrets").iterdir()]
    ids = deployed.stack.compose("ps", "--all", "--quiet").stdout.split()
    shown = deployed.stack.run("docker", "inspect", *ids).stdout + deployed.stack.compose("config").stdout
    assert [secret for secret in secrets if secret in shown] == []


def test_making_the_secrets_again_changes_nothing(deployed: Deployed) -> None:
    directory = deployed.stack.directory
    files = [directory / ".env", *(directory / "secrets").iterdir()]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    deployed.stack.run("make", "secrets")
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files} == before
    assert not list(directory.glob("secrets.*"))


def lines_of(stack: Stack, service: str) -> list[dict[str, object]]:
    """The log in JSON, as staging and prod write it."""
    text = stack.compose("logs", "--no-log-prefix", "--no-color", service).stdout
    return [json.loads(line) for line in re.findall(r"\{.*\}", text)]


def client_of(deployed: Deployed, headers: dict[str, str]) -> object:
    """Whose address the log gives to a request with these headers."""
    marked = uuid4().hex
    assert deployed.me(headers | {"X-Request-ID": marked}).status_code == 200

    def found() -> list[dict[str, object]]:
        # The request's own line: fetching keys for it has lines of that id too.
        wanted = {"event": "request", "request_id": marked}
        return [line for line in lines_of(deployed.stack, "api") if wanted.items() <= line.items()]

    return wait_until("the request is in the log", found, seconds=10)[0].get("client")


def test_a_trusted_proxy_is_believed(deployed: Deployed) -> None:
    assert client_of(deployed, THROUGH_PROXY) == "203.0.113.7"


def test_what_is_no_address_is_not_logged(deployed: Deployed) -> None:
    assert client_of(deployed, {"X-Forwarded-For": "hunter2 hunter2"}) is None


def test_a_token_of_the_built_in_issuer_is_refused(deployed: Deployed) -> None:
    done = deployed.stack.compose("exec", "-T", "api", "nexus", "token", check=False)
    assert done.returncode == 1
    assert "the built-in issuer is for local and test; NEXUS_ENV is prod" in done.stderr


def test_published_secrets_and_a_missing_provider_are_refused(deployed: Deployed) -> None:
    wrong = {
        "NEXUS_INTERNAL_SECRET": "local-dev-secret",
        "NEXUS_INTERNAL_SECRET_FILE": "",
        "POSTGRES_PASSWORD": "postgres",
        "POSTGRES_PASSWORD_FILE": "",
        "AUTH_JWKS_URL": "",
    }
    done = deployed.stack.compose("run", "--rm", "-T", "--no-deps", "migrator", check=False, **wrong)
    assert done.returncode == 78
    said = [line for line in done.stderr.splitlines() if line.startswith("nexus: ")]
    assert [re.sub(r" \(see .*", "", line) for line in said] == [
        "nexus: setting AUTH_JWKS_URL: is missing (required in prod)",
        "nexus: setting NEXUS_INTERNAL_SECRET: is a published default, refused in prod",
        "nexus: setting DATABASE_URL: its password is a published default, refused in prod",
    ]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("rm FILE", "is not there: make secrets writes it; or correct NEXUS_INTERNAL_SECRET_FILE"),
        (": > FILE", "is empty: write the secret into it"),
        (
            "rm FILE; mkdir FILE",
            "is no file: correct NEXUS_INTERNAL_SECRET_FILE: it names the file that holds the secret",
        ),
        ("chmod 444 FILE", "is open to every user of this machine: "),
    ],
)
def test_a_wrong_secret_file_stops_make_up(deployed: Deployed, tmp_path: Path, harm: str, said: str) -> None:
    file = tmp_path / "secret"
    file.write_text("a secret of the test")
    file.chmod(0o440)
    deployed.stack.run("sh", "-c", harm.replace("FILE", str(file)))
    before = deployed.stack.compose("ps", "--all", "--quiet").stdout
    done = deployed.stack.run("make", "up", check=False, NEXUS_INTERNAL_SECRET_FILE=str(file))
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("nexus: ")]
    assert line.startswith(f"nexus: the file of NEXUS_INTERNAL_SECRET_FILE ({file}) ")
    assert said in line
    assert deployed.stack.compose("ps", "--all", "--quiet").stdout == before


def test_secrets_are_made_where_nobody_has_filled_the_volume(tmp_path: Path) -> None:
    """Compose makes it for whatever is run first, as a backup that finds no database."""
    with stack_of(checkout_copy(tmp_path / "nexus")) as stack:
        assert stack.run("make", "backup", check=False).returncode != 0
        assert stack.volumes() != []
        stack.run("make", "secrets")
        assert (stack.directory / "secrets/postgres_password").exists()


def test_a_stack_that_has_data_keeps_them(tmp_path: Path, identity: Provider) -> None:
    """As the page says under "Secrets"."""
    page = " ".join((REPO / "docs/deploy.md").read_text().split())
    (command,) = re.findall(r"`(docker compose exec postgres .*?)`", page)
    with stack_of(checkout_copy(tmp_path / "nexus")) as stack:
        stack.run("make", "up")
        stack.run("make", "seed")
        media = stack.sql("SELECT count(*) FROM media")
        stack.run("sh", "-c", command.replace("exec postgres", "exec -T postgres").replace("…", "of-our-own"))
        (stack.directory / "secrets").mkdir()
        secret_file(stack.directory / "secrets/postgres_password", "of-our-own")
        typed(stack, identity, identity.token(USER))
        assert (stack.sql("SELECT count(*) FROM media"), int(media) > 0) == (media, True)


def test_secrets_for_a_volume_with_another_password_are_not_made(deployed: Deployed) -> None:
    """Postgres would never take them."""
    directory = deployed.stack.directory
    dotenv, file = directory / ".env", directory / "secrets/postgres_password"
    text, secret = dotenv.read_text(), file.read_text()
    dotenv.write_text(re.sub(r"(?m)^POSTGRES_PASSWORD.*\n", "", text))
    file.unlink()
    try:
        done = deployed.stack.run("make", "secrets", check=False)
        assert done.returncode != 0
        assert "was made with another password: 'make reset' removes it" in done.stderr
        assert not file.exists()
    finally:
        dotenv.write_text(text)
        secret_file(file, secret)
