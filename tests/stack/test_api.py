"""The API of the disposable stack: what the README does there works in the containers that ship."""

import json

import httpx2
import pytest

from tests.conftest import auth_headers
from tests.stack.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.docker


def token(stack: Stack, name: str) -> str:
    code, output = stack.execute("api", "nexus", "token", name)
    assert code == 0
    assert output.count("\n") == 1
    return output.strip()


def test_a_token_of_the_container_reads_and_writes(stack: Stack, api_url: str) -> None:
    headers = auth_headers() | {"Authorization": f"Bearer {token(stack, 'alice')}"}
    with httpx2.Client(base_url=api_url, headers=headers, timeout=20) as http:
        default = http.get("/me").json()["data"]["default_library_id"]
        made = http.post("/libraries", json={"name": "Tea"})
        assert made.status_code == 201
        ids = [each["id"] for each in http.get("/libraries").json()["data"]]
        assert {default, made.json()["data"]["id"]} <= set(ids)
        assert http.delete(f"/libraries/{made.json()['data']['id']}").status_code == 204


def test_the_worker_has_no_tokens_and_says_where_they_are(stack: Stack) -> None:
    code, output = stack.execute("worker", "nexus", "token")
    assert code == 1
    assert output.count("\n") == 1
    assert "docker compose exec api nexus token" in output


def test_each_request_is_one_line_in_the_containers_log(stack: Stack, api_url: str) -> None:
    answer = httpx2.get(f"{api_url}/me", headers={"X-Request-ID": "a-line-of-its-own"}, timeout=20)
    assert answer.status_code == 403

    def log() -> str:
        return stack.service("api").logs(tail=200).decode()

    def lines() -> list[str]:
        return [line for line in log().splitlines() if "a-line-of-its-own" in line]

    (line,) = wait_until("it is in the log", lines, seconds=10)
    assert "status=403" in line
    assert json.dumps(answer.json()) not in log()
