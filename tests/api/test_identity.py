"""Who is asking: the bearer token and nothing else, after the internal header and before all the rest."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from nexus.db.models import User
from tests.api.conftest import TIMEOUT, Api, data, failure
from tests.api.jwks import USER, SigningKey, built_in_key, compact, ed_key, hmac

NO_UUIDS: tuple[object, ...] = (
    *("", " ", "reader", "auth0|6d2f1a3e", 5, True, [], {"id": 1}),
    *(USER.hex, f"{{{USER}}}", f"urn:uuid:{USER}", f"{USER}\n", f" {USER}", [str(USER)]),
    *(str(USER)[:-1], f"{USER}0", str(USER).replace("-", "_"), str(USER).replace("6", "g"), "-" * 36),
    # Digits, but not those of a uuid.
    str(USER).replace("1", "\N{ARABIC-INDIC DIGIT ONE}"),
)

WRONG: dict[str, tuple[object, ...]] = {
    "iss": (
        *("", "else", "nexus-loca", "nexus-local/x", "NEXUS-LOCAL", " nexus-local", "nexus-local//"),
        *("/nexus-local", ["nexus-local"], 5, {"nexus-local": 1}),
    ),
    "aud": (
        *("", "else", "nexu", "nexus/", "Nexus", [], ["else"], {"nexus": 1}, 5),
        *(["nexus", 5], [["nexus"]], [None]),
    ),
    "exp": ("soon", [], {}, True, float("nan"), float("-inf")),
}


@pytest.fixture(scope="module")
def key(api: Api) -> SigningKey:
    return built_in_key(api.settings)


def get_me(api: Api, *authorizations: str | bytes, internal: int = 1) -> httpx2.Response:
    """GET /me with these Authorization headers, byte for byte: httpx2 would put some of them right."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
    try:
        connection.putrequest("GET", "/me")
        for _ in range(internal):
            connection.putheader("X-Nexus-Internal", *api.internal.values())
        for value in authorizations:
            connection.putheader("Authorization", value)
        connection.endheaders()
        answer = connection.getresponse()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def assert_refused(answer: httpx2.Response) -> None:
    assert failure(answer) == (401, "E_UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


def user_of(answer: httpx2.Response) -> str:
    return str(data(answer)["user_id"])


def test_a_user_is_the_sub_of_their_token(api: Api, key: SigningKey) -> None:
    user = uuid4()
    assert user_of(get_me(api, f"Bearer {key.token(sub=str(user))}")) == str(user)
    assert user_of(get_me(api, f"Bearer {key.token(sub=str(user).upper())}")) == str(user)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEARER"])
def test_the_scheme_is_read_in_any_case(scheme: str, api: Api, key: SigningKey) -> None:
    assert user_of(get_me(api, f"{scheme} {key.token()}")) == str(USER)


def test_without_a_token_nobody_gets_in(api: Api) -> None:
    assert_refused(get_me(api))


@pytest.mark.parametrize(
    "template",
    [
        *("", "Bearer", "Bearer ", "Bearer   ", "Bearer .", "Bearer ..", "Bearer ...", "Bearer a.b.c"),
        *("Bearer not-a-jwt", "Bearer null", "Bearer undefined", "Bearer e30.e30.e30", "Bearer W10.W10.W10"),
        *("{good}", "Bearer{good}", "Bearer\t{good}", "Bearer:{good}", "Bearer={good}", "Bearer, {good}"),
        *("Basic {good}", "Token {good}", "JWT {good}", "Bearers {good}", "Basic cmVhZGVyOnNlY3JldA=="),
        *("Bearer {good}x", "Bearer {good}.", "Bearer {good}.e30", "Bearer {good}!", "Bearer {good} x"),
        *("Bearer {good},", "Bearer {good}, Bearer {good}", "Bearer Bearer {good}", 'Bearer "{good}"'),
        *("Bearer {head}.{body}", "Bearer {head}.{body}.", "Bearer .{body}.{seal}", "Bearer {head}..{seal}"),
        *("Bearer {body}.{head}.{seal}", "Bearer {head}.{body}.{body}", "Bearer {head}.{head}.{seal}"),
    ],
)
def test_what_is_no_token_is_refused(template: str, api: Api, key: SigningKey) -> None:
    good = key.token()
    head, body, seal = good.split(".")
    assert_refused(get_me(api, template.format(good=good, head=head, body=body, seal=seal)))


@pytest.mark.parametrize(
    "junk",
    [b"\xff\xfe", "é".encode(), b"\xc3", b"x" * 16_384, b"x" * 40_000, b".".join([b"e30"] * 5000)],
    ids=["latin", "utf-8", "half-a-character", "16-kB", "40-kB", "many-parts"],
)
def test_bytes_that_no_token_has_are_refused(junk: bytes, api: Api, key: SigningKey) -> None:
    assert_refused(get_me(api, b"Bearer " + junk))
    assert_refused(get_me(api, b"Bearer " + key.token().encode() + junk))
    assert_refused(get_me(api, junk + b"Bearer " + key.token().encode()))


def test_two_tokens_are_none(api: Api, key: SigningKey) -> None:
    good = f"Bearer {key.token()}"
    assert_refused(get_me(api, good, good))
    assert_refused(get_me(api, good, f"Bearer {key.token(sub=str(uuid4()))}"))
    assert_refused(get_me(api, "", good))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
def test_an_unsigned_token_is_refused(algorithm: str | None, api: Api, key: SigningKey) -> None:
    for seal in (b"", b"none", key.sign(b"something else")):
        token = compact({"alg": algorithm, "typ": "JWT"}, key.claims(), seal)
        assert_refused(get_me(api, f"Bearer {token}"))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_signed_with_what_others_may_know_is_refused(
    algorithm: str, api: Api, key: SigningKey
) -> None:
    ours = api.settings.NEXUS_INTERNAL_SECRET.get_secret_value().encode()
    public = key.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    for secret in (public, key.pem(), json.dumps(key.jwk()).encode(), ours, b""):
        token = compact({"alg": algorithm}, key.claims(), hmac(secret, algorithm))
        assert_refused(get_me(api, f"Bearer {token}"))


@pytest.mark.parametrize(
    "algorithm",
    ["RS256", "ES256", "PS256", "eddsa", "EdDSA ", "Ed25519", "ES256K", ["EdDSA"], {"EdDSA": 1}, 5],
)
def test_a_token_that_names_another_algorithm_than_its_keys_own_is_refused(
    algorithm: object, api: Api, key: SigningKey
) -> None:
    token = compact({"alg": algorithm}, key.claims(), key.sign)
    assert_refused(get_me(api, f"Bearer {token}"))


def test_a_token_of_another_key_is_refused_also_when_it_brings_that_key_along(
    api: Api, key: SigningKey
) -> None:
    other = ed_key(None)
    claims = key.claims()
    headers: list[dict[str, Any]] = [
        *({}, {"jwk": other.jwk()}, {"jku": "http://127.0.0.1:1/jwks"}, {"x5u": "http://127.0.0.1:1/"}),
        *({"kid": "../../dev/null"}, {"kid": ""}, {"kid": 0}, {"kid": ["a"]}, {"crit": ["exp"], "exp": 1}),
    ]
    for header in headers:
        token = compact({"alg": "EdDSA"} | header, claims, other.sign)
        assert_refused(get_me(api, f"Bearer {token}"))


def test_a_changed_payload_is_refused(api: Api, key: SigningKey) -> None:
    (head, _, seal), (_, body, _) = key.token().split("."), key.token(sub=str(uuid4())).split(".")
    assert_refused(get_me(api, f"Bearer {head}.{body}.{seal}"))


def at(claim: str, offset: int) -> dict[str, Any]:
    """A claim that is so many seconds from now."""
    return {claim: int(time.time()) + offset}


@pytest.mark.parametrize(
    ("claim", "offset"), [("exp", -90), ("exp", -86_400), ("nbf", 120), ("iat", 120), ("nbf", 86_400)]
)
def test_a_token_whose_time_is_not_now_is_refused(claim: str, offset: int, api: Api, key: SigningKey) -> None:
    assert_refused(get_me(api, f"Bearer {key.token(**at(claim, offset))}"))


@pytest.mark.parametrize(("claim", "offset"), [("exp", -20), ("nbf", 40), ("iat", 40), ("nbf", -40)])
def test_clocks_may_differ_by_a_minute(claim: str, offset: int, api: Api, key: SigningKey) -> None:
    token = key.token(**at(claim, offset))
    assert user_of(get_me(api, f"Bearer {token}")) == str(USER)


def test_a_token_needs_no_iat(api: Api, key: SigningKey) -> None:
    assert user_of(get_me(api, f"Bearer {key.token(iat=None)}")) == str(USER)


@pytest.mark.parametrize("claim", ["exp", "iss", "sub", "aud"])
def test_a_token_that_lacks_a_claim_is_refused(claim: str, api: Api, key: SigningKey) -> None:
    assert_refused(get_me(api, f"Bearer {key.token(**{claim: None})}"))
    null = compact({"alg": "EdDSA"}, key.claims() | {claim: None}, key.sign)
    assert_refused(get_me(api, f"Bearer {null}"))


@pytest.mark.parametrize("payload", [[], "text", 5, None, b"", b"{", b"\xff", b'{"exp":1}{}'])
def test_a_signed_token_without_claims_is_refused(payload: object, api: Api, key: SigningKey) -> None:
    assert_refused(get_me(api, f"Bearer {compact({'alg': 'EdDSA'}, payload, key.sign)}"))


@pytest.mark.parametrize(
    ("claim", "value"), [(claim, value) for claim, values in WRONG.items() for value in values]
)
def test_a_claim_that_is_not_what_we_ask_for_is_refused(
    claim: str, value: Any, api: Api, key: SigningKey
) -> None:
    changed: dict[str, Any] = {claim: value}
    assert_refused(get_me(api, f"Bearer {key.token(**changed)}"))


@pytest.mark.parametrize(
    "claims", [{"iss": "nexus-local/"}, {"aud": ["else", "nexus"]}, {"aud": ["nexus"]}, {"azp": 5, "x": [{}]}]
)
def test_what_makes_no_difference_is_accepted(claims: dict[str, Any], api: Api, key: SigningKey) -> None:
    assert user_of(get_me(api, f"Bearer {key.token(**claims)}")) == str(USER)


@pytest.mark.parametrize("sub", NO_UUIDS)
def test_a_sub_that_is_no_uuid_is_refused(sub: object, api: Api, key: SigningKey) -> None:
    assert_refused(get_me(api, f"Bearer {key.token(sub=sub)}"))


def test_the_header_comes_before_the_token(api: Api, key: SigningKey) -> None:
    good = {"Authorization": f"Bearer {key.token()}"}
    bad = {"Authorization": "Bearer bad"}
    http = api.client()
    for headers in (good, bad, {}):
        assert failure(http.get("/me", headers=headers)) == (403, "E_INTERNAL_ONLY")
        wrong = headers | {"X-Nexus-Internal": "wrong"}
        assert failure(http.get("/nowhere", headers=wrong)) == (403, "E_INTERNAL_ONLY")


def test_a_header_that_is_sent_twice_is_none(api: Api, key: SigningKey) -> None:
    good = f"Bearer {key.token()}"
    assert failure(get_me(api, good, internal=2)) == (403, "E_INTERNAL_ONLY")
    assert get_me(api, good, internal=1).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content", "then"),
    [
        ("GET", "/nowhere", b"", (404, "E_NOT_FOUND")),
        ("GET", "/me/", b"", (404, "E_NOT_FOUND")),
        ("PUT", "/me", b"", (405, "E_METHOD_NOT_ALLOWED")),
        ("POST", "/libraries", b"{", (400, "E_INVALID_REQUEST")),
        ("GET", "/libraries?limit=0", b"", (400, "E_INVALID_REQUEST")),
        ("GET", "/media/no-uuid", b"", (400, "E_INVALID_REQUEST")),
        ("GET", f"/media/{UUID(int=5)}", b"", (404, "E_MEDIA_NOT_FOUND")),
    ],
)
def test_the_token_comes_before_everything_that_follows(
    method: str, path: str, content: bytes, then: tuple[int, str], api: Api
) -> None:
    stranger = api.client(api.internal)
    assert_refused(stranger.request(method, path, content=content))
    assert_refused(stranger.request(method, path, content=content, headers={"Authorization": "Bearer bad"}))
    assert failure(api.user().http.request(method, path, content=content)) == then


def test_a_public_path_asks_for_no_token_and_minds_no_bad_one(api: Api) -> None:
    http = api.client()
    assert http.get("/health").status_code == 200
    assert http.get("/health", headers={"Authorization": "Bearer bad"}).status_code == 200


def test_a_token_anywhere_else_than_in_its_header_is_none(api: Api, key: SigningKey) -> None:
    token = key.token()
    http = api.client(api.internal)
    cookies = [f"{name}={token}" for name in ("token", "session", "access_token", "Authorization")]
    for cookie in (*cookies, "; ".join(cookies), f"Authorization=Bearer {token}"):
        assert_refused(http.get("/me", headers={"Cookie": cookie}))
    for name in ("X-Access-Token", "X-Authorization", "Proxy-Authorization", "X-Forwarded-Authorization"):
        assert_refused(http.get("/me", headers={name: f"Bearer {token}"}))
    assert_refused(http.get("/me", params={"access_token": token, "token": token}))
    assert_refused(http.post("/libraries", data={"access_token": token}))
    assert_refused(http.post("/libraries", json={"name": "Mine", "access_token": token}))


def test_a_user_id_from_anywhere_else_than_the_token_is_ignored(api: Api) -> None:
    me, other = api.user(), api.user()
    assert other.default
    names = ("X-User-Id", "X-Nexus-User", "X-Nexus-Viewer", "X-Forwarded-User", "Remote-User", "User")
    claims: dict[str, Any] = {"user_id": str(other.id), "owner_user_id": str(other.id), "sub": str(other.id)}
    headers = dict.fromkeys(names, str(other.id)) | {"Cookie": f"user_id={other.id}; sub={other.id}"}
    assert user_of(me.http.get("/me", params=claims, headers=headers)) == str(me.id)
    made = data(
        me.http.post("/libraries", json={"name": "Mine"} | claims, params=claims, headers=headers), 201
    )
    assert made["owner_user_id"] == str(me.id)
    assert made["id"] not in [each["id"] for each in data(other.http.get("/libraries"))]


def test_a_refused_token_makes_no_user(api: Api, key: SigningKey, rows: Engine) -> None:
    users = [uuid4(), uuid4(), uuid4()]
    count = select(func.count()).select_from(User).where(User.id.in_(users))
    bad: list[Callable[[UUID], str]] = [
        lambda user: key.token(sub=str(user), exp=1),
        lambda user: key.token(sub=str(user), aud="else"),
        lambda user: compact({"alg": "EdDSA"}, key.claims(sub=str(user)), ed_key(None).sign),
    ]
    for make, user in zip(bad, users, strict=True):
        assert_refused(get_me(api, f"Bearer {make(user)}"))
    with Session(rows) as session:
        assert session.scalar(count) == 0
        assert get_me(api, f"Bearer {key.token(sub=str(users[0]))}").status_code == 200
        assert session.scalar(count) == 1


def test_no_token_is_ever_logged_or_sent_back(api: Api, key: SigningKey) -> None:
    tokens = [key.token(sub=str(uuid4())), key.token(exp=1), key.token(iss="else")]
    answers = [get_me(api, f"Bearer {token}") for token in tokens]
    assert [answer.status_code for answer in answers] == [200, 401, 401]
    shown = api.log.read_text() + "".join(str(answer.headers) + answer.text for answer in answers)
    for part in (part for token in tokens for part in token.split(".")[1:]):
        assert part not in shown
