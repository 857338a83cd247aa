"""One line for each request, whose id every answer carries, and never a token, a secret or a body in it."""

import json
import re
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from nexus.config import Settings
from tests.api.conftest import NOBODYS, Api, Viewer, running_api
from tests.conftest import settings_for
from tests.waiting import wait_until


def lines_about(api: Api, request_id: str) -> list[dict[str, Any]]:
    """All of them: that of the request itself is written last, after its answer."""

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in api.lines() if line.startswith("{")]
        about = [line for line in lines if line.get("request_id") == request_id]
        return about if "request" in {line["event"] for line in about} else []

    return wait_until(f"a line about {request_id}", found, seconds=10)


def test_the_line(api: Api, viewer: Viewer) -> None:
    answer = viewer.http.get(f"/libraries/{viewer.default}/media?limit=5")
    (line,) = lines_about(api, answer.headers["x-request-id"])
    assert line["event"] == "request"
    assert line["level"] == "info"
    assert line["route"] == "/libraries/{library_id}/media"
    assert (line["method"], line["status"]) == ("GET", 200)
    assert line["viewer"] == str(viewer.id)
    assert 0 < line["milliseconds"] < 30_000
    assert line["timestamp"].endswith("Z")


def test_every_answer_carries_an_id_of_its_own(viewer: Viewer) -> None:
    ids = [viewer.http.get("/me").headers["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "0" * 64, NOBODYS])
def test_a_sane_id_is_taken_over(given: str, viewer: Viewer) -> None:
    assert viewer.http.get("/me", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "0" * 65, "a b", "a\tb", "a;b", "ä", '{"a":1}'])
def test_any_other_id_is_replaced(given: str, viewer: Viewer) -> None:
    answer = viewer.http.get("/me", headers=[(b"X-Request-ID", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_two_ids_are_none(viewer: Viewer) -> None:
    twice = [*viewer.http.headers.items(), ("X-Request-ID", "one"), ("X-Request-ID", "two")]
    assert viewer.http.get("/me", headers=twice).headers["x-request-id"] not in ("one", "two")


def test_errors_carry_one_too_and_are_logged(api: Api, viewer: Viewer) -> None:
    asked = {
        403: httpx2.get(f"{api.url}/me", trust_env=False),
        401: httpx2.get(f"{api.url}/me", headers=api.internal, trust_env=False),
        404: viewer.http.get("/nothing"),
        405: viewer.http.post("/me"),
        400: viewer.http.get("/media/x"),
        413: viewer.http.post("/libraries", content=b" " * 100_000),
    }
    for status, answer in asked.items():
        (line,) = lines_about(api, answer.headers["x-request-id"])
        assert line["status"] == answer.status_code == (400 if status == 413 else status)
        assert line["route"] == {400: "/media/{media_id}", 405: "/me", 413: "/libraries"}.get(status)
        assert line["viewer"] == (None if status in (401, 403) else str(viewer.id))


def test_what_is_no_http_has_an_id_and_a_line_too(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as raw:
        raw.sendall(b"no http at all\r\n\r\n")
        head = raw.recv(65536).decode()
    (request_id,) = re.findall(r"(?m)^x-request-id: ([0-9a-f]{32})\r$", head)
    (line,) = lines_about(api, request_id)
    assert (line["event"], line["status"]) == ("request", 400)
    assert [each for each in api.lines() if not each.startswith("{")] == [], (
        "the server's own lines are JSON too"
    )


def test_an_error_of_the_database_tells_the_log_no_data(api: Api, viewer: Viewer, rows: Engine) -> None:
    """A constraint that the code knows nothing of fails, and Postgres quotes the row."""
    secret = f"secret-{uuid4().hex}"
    with rows.begin() as connection:
        connection.execute(text("ALTER TABLE libraries ADD CONSTRAINT c CHECK (name !~ 'secret') NOT VALID"))
    try:
        answer = viewer.http.post("/libraries", json={"name": secret})
    finally:
        with rows.begin() as connection:
            connection.execute(text("ALTER TABLE libraries DROP CONSTRAINT c"))
    assert answer.status_code == 500
    lines = lines_about(api, answer.headers["x-request-id"])
    assert {line.get("kind") for line in lines} == {"CheckViolation", None}
    assert "create_library" in str(lines), "where it happened is told"
    assert secret not in api.log.read_text()


def test_no_secret_no_token_no_body_and_no_address_is_logged(api: Api, viewer: Viewer) -> None:
    secret = f"secret-{uuid4().hex}"
    token = viewer.http.headers["authorization"].split()[1]
    asked = [
        viewer.http.post("/libraries", json={"name": secret}),
        viewer.http.post("/libraries", json={"name": [secret]}),
        viewer.http.get(f"/me?token={secret}"),
        viewer.http.get(f"/{secret}"),
        viewer.http.get("/me", headers={"Authorization": f"Bearer {secret}"}),
        viewer.http.get("/me", headers={"X-Nexus-Internal": secret}),
        viewer.http.get("/me", headers={"Cookie": secret, "X-Other": secret}),
    ]
    for answer in asked:
        lines_about(api, answer.headers["x-request-id"])
    text = api.log.read_text()
    for hidden in (secret, token, token.split(".")[2], api.internal["X-Nexus-Internal"]):
        assert hidden not in text


def test_probes_that_are_well_are_not_worth_a_line(api: Api) -> None:
    probe = httpx2.get(f"{api.url}/health", headers={"X-Request-ID": "a-probe"}, trust_env=False)
    assert probe.headers["x-request-id"] == "a-probe"
    after = httpx2.get(f"{api.url}/me", headers={"X-Request-ID": "after-it"}, trust_env=False)
    assert lines_about(api, after.headers["x-request-id"])
    assert not any("a-probe" in line for line in api.lines())


def test_in_local_lines_are_for_people(settings: Settings, api_database: URL, tmp_path: Path) -> None:
    own = settings_for(settings, api_database, NEXUS_ENV="local", LOG_FORMAT="auto")
    with running_api(own, tmp_path) as api:
        viewer = api.user()
        viewer.http.get("/me", headers={"X-Request-ID": "for-people"})
        wait_until("the line", lambda: any("for-people" in line for line in api.lines()), seconds=10)
    (line,) = [line for line in api.lines() if "for-people" in line]
    for part in ("[info] request", "method=GET", "route=/me", "status=200", f"viewer={viewer.id}"):
        assert part in line
