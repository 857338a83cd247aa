"""The description of the API is true, and its pages need nothing from the internet."""

import json
import re
import sys
from typing import Any

import httpx2
import pytest

from nexus import errors
from nexus.api.app import PROBE_PATHS
from nexus.api.libraries import LibraryName
from nexus.errors import NexusError
from tests.api.conftest import Api


@pytest.fixture(scope="module")
def description(api: Api) -> dict[str, Any]:
    answer = httpx2.get(f"{api.url}/openapi.json", trust_env=False)
    assert answer.status_code == 200
    described: dict[str, Any] = answer.json()
    return described


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def guarded(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: operation
        for name, operation in operations(description).items()
        if name.split()[1] not in PROBE_PATHS
    }


def documented_codes(operation: dict[str, Any]) -> dict[str, int]:
    """Every error code of an operation with its status, read off the examples."""
    found = {}
    for status, answer in operation["responses"].items():
        for code, example in (
            answer.get("content", {}).get("application/json", {}).get("examples", {}).items()
        ):
            assert example["value"]["error"]["code"] == code
            assert example["value"]["error"]["message"]
            found[code] = int(status)
    return found


#: The contract's table: what each route can answer beside what all can.
FAILURES = {
    "GET /me": set(),
    "GET /libraries": set(),
    "POST /libraries": {"E_NAME_INVALID"},
    "PATCH /libraries/{library_id}": {
        "E_NAME_INVALID", "E_LIBRARY_NOT_FOUND", "E_DEFAULT_LIBRARY_FORBIDDEN", "E_FORBIDDEN"
    },
    "DELETE /libraries/{library_id}": {"E_LIBRARY_NOT_FOUND", "E_DEFAULT_LIBRARY_FORBIDDEN", "E_FORBIDDEN"},
    "GET /libraries/{library_id}/media": {"E_LIBRARY_NOT_FOUND"},
    "POST /libraries/{library_id}/media": {"E_LIBRARY_NOT_FOUND", "E_MEDIA_NOT_FOUND", "E_FORBIDDEN"},
    "DELETE /libraries/{library_id}/media/{media_id}": {
        "E_LIBRARY_NOT_FOUND", "E_MEDIA_NOT_FOUND", "E_FORBIDDEN"
    },
    "GET /media/{media_id}": {"E_MEDIA_NOT_FOUND"},
    "GET /media/{media_id}/fragments": {"E_MEDIA_NOT_FOUND"},
}  # fmt: skip
EVERYWHERE = {
    *("E_INVALID_REQUEST", "E_UNAUTHENTICATED", "E_INTERNAL_ONLY"),
    *("E_INTERNAL", "E_UNAVAILABLE", "E_AUTH_UNAVAILABLE"),
}
STATUS = {
    error.code: error.status
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, NexusError) and error is not NexusError
}


def test_each_route_documents_every_code_it_can_give(description: dict[str, Any]) -> None:
    found = {name: documented_codes(operation) for name, operation in guarded(description).items()}
    assert found == {
        name: {code: STATUS[code] for code in codes | EVERYWHERE} for name, codes in FAILURES.items()
    }


def test_ready_documents_its_failure(description: dict[str, Any]) -> None:
    assert documented_codes(operations(description)["GET /ready"]) == {"E_UNAVAILABLE": 503}


def test_each_success_has_a_schema(description: dict[str, Any]) -> None:
    for name, operation in operations(description).items():
        (status,) = [each for each in operation["responses"] if each.startswith("2")]
        content = operation["responses"][status].get("content")
        if status == "204":
            assert content is None
        else:
            assert "$ref" in content["application/json"]["schema"], name


def test_nothing_speaks_of_422(description: dict[str, Any]) -> None:
    assert "422" not in json.dumps(description["paths"])
    assert not [name for name in description["components"]["schemas"] if "ValidationError" in name]


def test_both_security_schemes_are_asked_for_together(description: dict[str, Any]) -> None:
    schemes = description["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["internal"]["in"], schemes["internal"]["name"]) == ("header", "X-Nexus-Internal")
    for name, operation in operations(description).items():
        public = name.split()[1] in PROBE_PATHS
        assert operation["security"] == ([] if public else [{"bearer": [], "internal": []}]), name


def test_every_operation_says_what_it_does(description: dict[str, Any]) -> None:
    for name, operation in operations(description).items():
        assert operation["description"].endswith("."), name
        assert operation["tags"], name


def is_taken(name: str) -> bool:
    try:
        return bool(LibraryName(name=name).checked())
    except NexusError:
        return False


NAMES = [
    "x",
    "x" * 100,
    "x" * 101,
    f"  {'x' * 100}\x1f",
    "a\x1c\nb",
    "x\n",
    "\ufeff",
    "",
    " ",
    "\x1f",
    "\u3000\x85",
]


def test_the_description_of_a_name_says_which_are_taken(description: dict[str, Any]) -> None:
    """Spaces at its ends do not count; they are those of str.strip."""
    described = description["components"]["schemas"]["LibraryName"]["properties"]["name"]
    spaces = [chr(number) for number in range(sys.maxunicode) if chr(number).isspace()]
    for name in [*NAMES, *spaces, *(f"{space}x{space}" for space in spaces)]:
        described_so = (
            re.search(described["pattern"], name) is not None and len(name) >= described["minLength"]
        )
        assert described_so == is_taken(name), repr(name)
    assert "maxLength" not in described


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_loads_only_from_us(page: str, api: Api) -> None:
    html = httpx2.get(f"{api.url}{page}", trust_env=False)
    assert html.status_code == 200
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", html.text)
    assert loaded
    for address in loaded:
        assert address.startswith("/docs/"), address
        asset = httpx2.get(f"{api.url}{address}", trust_env=False)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
    assert not re.findall(r"https?://(?!127\.0\.0\.1)[^\s\"'<>]+\.(?:js|css)", html.text)


@pytest.mark.parametrize(
    "path", ["/docs/", "/docs/assets/", "/docs/assets/none.js", "/docs/assets/..%2f..%2fcore.py"]
)
def test_nothing_else_lies_below_the_pages(path: str, api: Api) -> None:
    answer = httpx2.get(f"{api.url}{path}", trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "E_NOT_FOUND")


def test_every_code_of_the_contract_has_its_status() -> None:
    assert STATUS == {
        "E_UNAUTHENTICATED": 401,
        "E_INTERNAL_ONLY": 403,
        "E_FORBIDDEN": 403,
        "E_DEFAULT_LIBRARY_FORBIDDEN": 403,
        "E_LAST_ADMIN_FORBIDDEN": 403,
        "E_INVALID_REQUEST": 400,
        "E_NAME_INVALID": 400,
        "E_NOT_FOUND": 404,
        "E_LIBRARY_NOT_FOUND": 404,
        "E_MEDIA_NOT_FOUND": 404,
        "E_METHOD_NOT_ALLOWED": 405,
        "E_AUTH_UNAVAILABLE": 503,
        "E_UNAVAILABLE": 503,
        "E_INTERNAL": 500,
    }
