"""Anything wrong in shape is 400 E_INVALID_REQUEST: never 422, never 500, before the database is asked."""

from uuid import uuid4

import httpx2
import pytest

from tests.api.conftest import NOBODYS, Viewer, data, failure

INVALID = (400, "E_INVALID_REQUEST")
JSON = {"Content-Type": "application/json"}

#: Bodies that are no body of any route.
MALFORMED = {
    "nothing": b"",
    "half": b'{"name": "x"',
    "no JSON": b"name=x",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "an empty object": b"{}",
    "another field": b'{"title": "x"}',
    "null inside": b'{"name": null, "media_id": null}',
    "a number inside": b'{"name": 1, "media_id": 1}',
    "a list inside": b'{"name": ["x"], "media_id": []}',
    "an object inside": b'{"name": {}, "media_id": {}}',
    "a bool inside": b'{"name": true, "media_id": true}',
    "a NUL inside": b'{"name": "a\\u0000b", "media_id": "\\u0000"}',
    "half a surrogate pair": b'{"name": "\\ud800", "media_id": "\\udfff"}',
    "bytes that are no UTF-8": b'{"name": "\xff", "media_id": "\xff"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "deep": b"[" * 20_000 + b"]" * 20_000,
    "a number too long": b'{"name": ' + b"9" * 5000 + b"}",
}


def requests_with_body(viewer: Viewer) -> list[tuple[str, str]]:
    return [
        ("POST", "/libraries"),
        ("PATCH", f"/libraries/{NOBODYS}"),
        ("POST", f"/libraries/{NOBODYS}/media"),
        ("PATCH", f"/libraries/{viewer.default}"),
    ]


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body(content: bytes, viewer: Viewer) -> None:
    answers = [
        viewer.http.request(method, path, content=content, headers=JSON)
        for method, path in requests_with_body(viewer)
    ]
    assert [failure(answer) for answer in answers] == [INVALID] * len(answers)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
def test_a_body_of_another_type(content_type: str, viewer: Viewer) -> None:
    headers = {"Content-Type": content_type}
    assert failure(viewer.http.post("/libraries", content=b'{"name": "x"}', headers=headers)) == INVALID


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
def test_a_body_of_the_right_type(content_type: str, viewer: Viewer) -> None:
    headers = {"Content-Type": content_type}
    assert data(viewer.http.post("/libraries", content=b'{"name": "x"}', headers=headers), 201)


def test_fields_nobody_asked_for_change_nothing(viewer: Viewer) -> None:
    body = {"name": "x", "owner_user_id": str(uuid4()), "is_default": True, "id": str(uuid4())}
    made = data(viewer.http.post("/libraries", json=body), 201)
    assert (made["owner_user_id"], made["is_default"]) == (str(viewer.id), False)
    assert made["id"] != body["id"]


NO_UUIDS = (
    *("x", "1", "%00", "null", "me", "ä", "%ff", "' OR 1=1 --"),
    *(f"{NOBODYS}x", NOBODYS[:-1], f"%20{NOBODYS}"),
)


@pytest.mark.parametrize("bad", NO_UUIDS)
def test_a_path_with_something_that_is_no_uuid(bad: str, viewer: Viewer) -> None:
    good = uuid4()
    asked = [
        ("PATCH", f"/libraries/{bad}", {"name": "x"}),
        ("DELETE", f"/libraries/{bad}", None),
        ("GET", f"/libraries/{bad}/media", None),
        ("POST", f"/libraries/{bad}/media", {"media_id": str(good)}),
        ("DELETE", f"/libraries/{good}/media/{bad}", None),
        ("DELETE", f"/libraries/{bad}/media/{good}", None),
        ("GET", f"/media/{bad}", None),
        ("GET", f"/media/{bad}/fragments", None),
    ]
    answers = [viewer.http.request(method, path, json=body) for method, path, body in asked]
    assert [failure(answer) for answer in answers] == [INVALID] * len(answers)


@pytest.mark.parametrize("bad", ["", "x", 1, None, [], {}, True, "\0", f"{NOBODYS} "])
def test_a_media_id_that_is_no_uuid(bad: object, viewer: Viewer) -> None:
    answer = viewer.http.post(f"/libraries/{viewer.default}/media", json={"media_id": bad})
    assert failure(answer) == INVALID


def test_the_message_says_where(viewer: Viewer) -> None:
    answers = {
        "body.name": viewer.http.post("/libraries", json={"name": 1}),
        "query.limit": viewer.http.get("/libraries?limit=x"),
        "path.media_id": viewer.http.get("/media/x"),
    }
    for place, answer in answers.items():
        assert answer.json()["error"]["message"].startswith(f"{place}: ")


@pytest.mark.parametrize("path", ["/", "/nothing", "/libraries/", "/me/", "//me", "/ME", "/me/x", "/media"])
def test_a_path_that_is_none(path: str, viewer: Viewer) -> None:
    request = viewer.http.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert failure(viewer.http.send(request)) == (404, "E_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/me", {"GET"}),
        ("PUT", "/libraries", {"GET", "POST"}),
        ("GET", f"/libraries/{NOBODYS}", {"PATCH", "DELETE"}),
        ("PATCH", f"/media/{NOBODYS}", {"GET"}),
        ("HEAD", "/me", {"GET"}),
        ("OPTIONS", "/me", {"GET"}),
    ],
)
def test_a_method_that_is_none(method: str, path: str, allowed: set[str], viewer: Viewer) -> None:
    answer = viewer.http.request(method, path)
    assert answer.status_code == 405
    if method != "HEAD":
        assert failure(answer) == (405, "E_METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_a_wrong_method_on_a_public_path_needs_no_token(viewer: Viewer) -> None:
    answer = httpx2.post(viewer.http.base_url.join("/health"), trust_env=False)
    assert failure(answer) == (405, "E_METHOD_NOT_ALLOWED")


def test_a_method_that_http_does_not_know_is_no_http(viewer: Viewer) -> None:
    assert failure(viewer.http.request("BREW", "/me")) == INVALID
