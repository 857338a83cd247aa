"""The API as it is deployed: gunicorn with its own settings, in a process of its own, over real HTTP.

Its database is a clone of the migrated template. Tests make users of their own in it, so they can share it.
"""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from nexus.auth.local import LocalIssuer
from nexus.config import Settings
from tests.checkout import REPO, free_ports
from tests.conftest import scratch_database, settings_for
from tests.factories import make_media, make_user
from tests.waiting import wait_until

GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "services/api/gunicorn.conf.py"]
#: Nothing has it. Among parameters it is this one: every process of a run must find the same tests.
NOBODYS = "9c6d8ee4-54c1-4f0b-9f1b-0a3d1c7e55aa"
#: More than any answer may take.
TIMEOUT = 30
#: Loading the system's certificates would take each client longer than its request.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Api:
    """A running API, and clients of it."""

    #: gunicorn's first process.
    process: "subprocess.Popen[bytes]"

    def __init__(self, settings: Settings, port: int, log: Path) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        self._clients: list[httpx2.Client] = []

    @property
    def internal(self) -> dict[str, str]:
        return {"X-Nexus-Internal": self.settings.NEXUS_INTERNAL_SECRET.get_secret_value()}

    def headers(self, user: UUID) -> dict[str, str]:
        """What a request of this user carries."""
        return self.internal | {"Authorization": f"Bearer {LocalIssuer(self.settings).mint(user)}"}

    def client(self, headers: dict[str, str] | None = None) -> httpx2.Client:
        client = httpx2.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, trust_env=False, verify=_NO_TLS
        )
        self._clients.append(client)
        return client

    def user(self, user: UUID | None = None) -> "Viewer":
        """A client that speaks for a user; nobody has seen them before, unless an id is given."""
        user = user or uuid4()
        return Viewer(user, self.client(self.headers(user)))

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Viewer:
    """A user and what they do over HTTP."""

    def __init__(self, user: UUID, http: httpx2.Client) -> None:
        self.id = user
        self.http = http

    @property
    def default(self) -> str:
        return str(self.http.get("/me").json()["data"]["default_library_id"])

    def new_library(self, name: str = "Shelf") -> str:
        return str(data(self.http.post("/libraries", json={"name": name}), 201)["id"])

    def add(self, library: str, media: UUID) -> httpx2.Response:
        return self.http.post(f"/libraries/{library}/media", json={"media_id": str(media)})

    def remove(self, library: str, media: UUID) -> httpx2.Response:
        return self.http.delete(f"/libraries/{library}/media/{media}")

    def media_in(self, library: str) -> list[str]:
        return [each["id"] for each in data(self.http.get(f"/libraries/{library}/media?limit=200"))]

    def reads(self, media: UUID) -> bool:
        """Whether the media exist for this viewer: both routes that show them must agree."""
        answers = [self.http.get(f"/media/{media}"), self.http.get(f"/media/{media}/fragments")]
        seen = {answer.status_code for answer in answers}
        assert len(seen) == 1
        if seen == {200}:
            return True
        assert [failure(answer) for answer in answers] == [(404, "E_MEDIA_NOT_FOUND")] * 2
        return False


def data(response: httpx2.Response, status: int = 200) -> Any:
    """What a success holds."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"data"}
    return body["data"]


def failure(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of a failure, whose envelope is checked."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"]


@contextmanager
def running_api(settings: Settings, folder: Path) -> Iterator[Api]:
    """gunicorn with these settings on a port of its own. It must end well, and have answered everybody."""
    (port,) = free_ports(1)
    api = Api(settings, port, folder / f"api-{port}.log")
    environment = environment_of(settings)
    with api.log.open("w") as log:
        process = subprocess.Popen(
            [*GUNICORN, "--bind", f"127.0.0.1:{port}", "services.api.main:app"],
            env=os.environ | environment,
            cwd=REPO,
            stderr=log,
            start_new_session=True,
        )
        api.process = process
        try:
            wait_until("the API answers", lambda: _answers(api, process), seconds=30)
            yield api
        finally:
            api.close()
            process.terminate()
            try:
                assert process.wait(40) == 0, api.log.read_text()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def environment_of(settings: Settings) -> dict[str, str]:
    """These settings as a process is given them."""
    # Empty counts as not set.
    values = settings.model_dump() | {"PYTHONPATH": f"{REPO}/shared:{REPO}", "PYTHONUNBUFFERED": "1"}
    secrets = {
        name: value.get_secret_value() for name, value in values.items() if hasattr(value, "get_secret_value")
    }
    return {name: "" if value is None else str(value) for name, value in (values | secrets).items()}


def _answers(api: Api, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, api.log.read_text()
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{api.url}/health", timeout=5).status_code == 200
    return False


@pytest.fixture(scope="session")
def api_database(settings: Settings, template_url: URL) -> Iterator[URL]:
    with scratch_database(settings, template=str(template_url.database)) as url:
        yield url


@pytest.fixture(scope="session")
def api(settings: Settings, api_database: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One API for all tests that do it no harm; its log is JSON."""
    own = settings_for(settings, api_database, LOG_FORMAT="json")
    with running_api(own, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="session")
def rows(api_database: URL) -> Iterator[Engine]:
    """The database behind the API, for what no route can do or show."""
    engine = create_engine(api_database)
    yield engine
    engine.dispose()


@pytest.fixture
def new_media(rows: Engine) -> Callable[..., UUID]:
    """Makes media, as nobody can over HTTP."""

    def make(**columns: object) -> UUID:
        with Session(rows) as session, session.begin():
            return make_media(session, make_user(session), **columns).id

    return make


@pytest.fixture
def viewer(api: Api) -> Viewer:
    return api.user()
