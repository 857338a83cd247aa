"""A bearer token ends in a user or in a refusal, whatever is in it; and what is remembered of good ones."""

import json
import time
import tracemalloc
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nexus.auth import tokens
from nexus.auth.keys import Key, usable_key
from nexus.auth.tokens import TokenVerifier
from nexus.errors import AuthUnavailableError, UnauthenticatedError
from tests.api.jwks import AUDIENCE, ISSUER, USER, SigningKey, compact, ec_key, ed_key, rsa_key, segment
from tests.waiting import wait_until

SIGNERS = (ed_key(), ec_key(), rsa_key())
fuzz = hypothesis_settings(max_examples=200, deadline=None, database=None)


class CountedKeys:
    """Keys that are at hand, and how often somebody looked for one."""

    def __init__(self, *signers: SigningKey) -> None:
        found = [usable_key(signer.jwk()) for signer in signers]
        self.keys = [key for key in found if key]
        self.asked = 0
        self.away = False

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        self.asked += 1
        if self.away:
            raise AuthUnavailableError
        return [key for key in self.keys if key.algorithm == algorithm and kid in (None, key.kid)]


def verifier_of(keys: CountedKeys) -> TokenVerifier:
    return TokenVerifier(keys, ISSUER, [AUDIENCE])


VERIFIER = verifier_of(CountedKeys(*SIGNERS))


def run(wanted: Coroutine[Any, Any, UUID]) -> UUID:
    """Its result: keys that are at hand make nobody wait, so this needs no event loop."""
    try:
        wanted.send(None)
    except StopIteration as done:
        user: UUID = done.value
        return user
    raise AssertionError("it waits for something")


def viewer(authorization: bytes, verifier: TokenVerifier = VERIFIER) -> UUID | None:
    """The user, or None where the token is refused. Any other exception is a fault."""
    try:
        return run(verifier.viewer(authorization))
    except UnauthenticatedError:
        return None


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


# What JSON can say: half a surrogate pair, NaN, and integers that no float holds, too.
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1e308, 2**63, 0, -1])
SCALARS = (
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=())) | st.just(str(USER))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ALGORITHMS = st.sampled_from(["RS256", "ES256", "EdDSA", "none", "HS256", "PS256", "ES384"])
NEAR_NOW = st.integers(-200, 200).map(lambda offset: time.time() + offset)


@fuzz
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda junk: b"Bearer " + junk))
def test_arbitrary_bytes_are_refused(authorization: bytes) -> None:
    assert viewer(authorization) is None


@fuzz
@given(st.tuples(st.binary() | JSON, st.binary() | JSON, st.binary()))
def test_three_arbitrary_parts_are_refused(parts: tuple[object, object, bytes]) -> None:
    assert viewer(bearer(compact(*parts))) is None


@fuzz
@given(
    st.sampled_from(SIGNERS),
    st.fixed_dictionaries(
        {"alg": ALGORITHMS | JSON},
        optional=dict.fromkeys(("typ", "crit", "b64", "jwk", "cty", "zip", "x5c"), JSON)
        | {"kid": st.sampled_from(["rsa", "ec", "ed"]) | JSON},
    ),
    st.none() | st.binary(max_size=300) | st.sampled_from([bytes(size) for size in (64, 256)]),
)
@example(ed_key(), {"alg": []}, None)
@example(ed_key(), {"alg": {"EdDSA": 1}}, None)
@example(ed_key(), {"alg": "EdDSA", "crit": ["b64"], "b64": False}, None)
def test_a_wild_header_is_never_more_than_refused(
    signer: SigningKey, header: dict[str, Any], seal: bytes | None
) -> None:
    user = viewer(bearer(compact(header, signer.claims(), signer.sign if seal is None else seal)))
    if user is not None:
        assert (seal, header["alg"], user) == (None, signer.algorithm, USER)
        assert header.get("kid", signer.kid) == signer.kid


def is_due(claims: dict[str, Any]) -> bool:
    """Whether these are claims that a user may come from; by other means than the verifier's."""
    audience = claims["aud"]
    return (
        claims["iss"] in (ISSUER, ISSUER.rstrip("/"))
        and AUDIENCE in (audience if isinstance(audience, list) else [audience])
        and str(UUID(claims["sub"])) == claims["sub"].lower()
        # A second more: fractions of it are not looked at.
        and Decimal(str(claims["exp"])) > int(time.time()) - tokens.LEEWAY - 1
    )


@fuzz
@given(
    st.sampled_from(SIGNERS),
    st.dictionaries(
        st.sampled_from(["exp", "iss", "sub", "aud", "iat", "nbf", "jti"]) | st.text(), JSON | NEAR_NOW
    ),
)
@example(ed_key(), {"exp": 10**400})
@example(ed_key(), {"exp": True})
@example(ed_key(), {"exp": "9" * 400})
@example(ed_key(), {"nbf": 10**400, "iat": -(10**400)})
def test_wild_claims_are_accepted_only_where_they_are_due(
    signer: SigningKey, changes: dict[str, Any]
) -> None:
    claims = {**signer.claims(), **changes}
    user = viewer(bearer(compact({"alg": signer.algorithm, "kid": signer.kid}, claims, signer.sign)))
    if user is not None:
        assert str(user) == str(claims["sub"]).lower()
        assert is_due(claims)


def with_claim(text: str) -> str:
    """A good payload with one more member, written as JSON by hand."""
    return json.dumps(ed_key().claims(exp=None))[:-1] + f", {text}}}"


@pytest.mark.parametrize(
    "payload",
    [
        *("[" * 5000, '{"sub":' * 2000, "[" * 5000 + "]" * 5000, '{"a":' * 1500 + "1" + "}" * 1500),
        *(with_claim(f'"exp": {number}') for number in ("9" * 5000, "-" + "9" * 5000, "1e999", "-1e999")),
        *(with_claim(f'"exp": {number}') for number in ("NaN", "Infinity", "-Infinity", "0.5e1")),
        *(with_claim(f'"exp": 1e10, "x": {deep}') for deep in ("[" * 5000 + "]" * 5000, "9" * 5000)),
        *("", " ", "\0", "{", "{}", "null", "\ufeff{}", '{"exp": 1}{"exp": 1}', '{"sub": "\\ud800"}'),
    ],
    ids=lambda payload: f"{payload[:12]!r} of {len(payload)}",
)
def test_json_that_no_issuer_writes_is_refused(payload: str) -> None:
    for raw in (payload.encode(), payload.encode("utf-16")):
        assert viewer(bearer(compact({"alg": "EdDSA", "kid": "ed"}, raw, ed_key().sign))) is None
        assert viewer(bearer(compact(raw, ed_key().claims(), ed_key().sign))) is None


@fuzz
@given(st.sampled_from(SIGNERS), st.data())
def test_a_token_in_which_anything_was_changed_is_refused(signer: SigningKey, data: st.DataObject) -> None:
    good = bearer(signer.token())
    place = data.draw(st.integers(0, len(good) - 1))
    odd = st.binary(max_size=2) | st.sampled_from([b"A", b"_", b"=", b"==", b".", b" "])
    changed = good[:place] + data.draw(odd) + good[place + 1 :]
    same = changed[:7].lower() == b"bearer " and changed[7:].strip(b" ") == good[7:]
    assert viewer(changed) == (USER if same else None)


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "kid", "p", "q", "k"]),
        st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", segment(b"\x05" * 32)]) | JSON,
    )
    | JSON
)
@example({"kty": "EC", "crv": []})
@example({"kty": "OKP", "crv": {}})
def test_an_entry_of_a_set_is_a_key_or_it_is_none(entry: object) -> None:
    key = usable_key(entry)
    assert key is None or key.algorithm in {"RS256", "ES256", "EdDSA"}


@pytest.fixture
def keys() -> CountedKeys:
    return CountedKeys(*SIGNERS)


def test_a_good_token_is_remembered(keys: CountedKeys) -> None:
    verifier, token = verifier_of(keys), bearer(ed_key().token())
    assert [viewer(token, verifier) for _ in range(5)] == [USER] * 5
    assert keys.asked == 1
    assert viewer(bearer(ed_key().token()), verifier) == USER
    assert keys.asked == 2, "another token is not"


def test_a_good_token_is_remembered_also_while_no_key_can_be_had(keys: CountedKeys) -> None:
    verifier, token = verifier_of(keys), bearer(ed_key().token())
    assert viewer(token, verifier) == USER
    keys.away = True
    assert viewer(token, verifier) == USER
    with pytest.raises(AuthUnavailableError):
        viewer(bearer(ed_key().token()), verifier)


def test_a_bad_token_is_not_remembered(keys: CountedKeys) -> None:
    verifier, token = verifier_of(keys), bearer(ed_key().token(aud="else"))
    assert [viewer(token, verifier) for _ in range(3)] == [None] * 3
    assert keys.asked == 3


def test_two_users_are_never_mixed_up(keys: CountedKeys) -> None:
    verifier, users = verifier_of(keys), [uuid4() for _ in range(20)]
    theirs = [bearer(ed_key().token(sub=str(user))) for user in users]
    for _ in range(2):
        assert [viewer(token, verifier) for token in theirs] == users


def test_a_token_is_remembered_for_a_minute_at_most(
    keys: CountedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokens.MEMORY <= 60
    monkeypatch.setattr(tokens, "MEMORY", 0)
    verifier, token = verifier_of(keys), bearer(ed_key().token())
    assert [viewer(token, verifier) for _ in range(3)] == [USER] * 3
    assert keys.asked == 3


def test_a_token_past_its_exp_is_not_remembered(keys: CountedKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = verifier_of(keys), bearer(ed_key().token(exp=int(time.time()) - 20))
    assert [viewer(token, verifier) for _ in range(3)] == [USER] * 3, "good by the leeway"
    assert keys.asked == 3
    monkeypatch.setattr(tokens, "LEEWAY", 5)
    assert viewer(token, verifier) is None


def test_what_is_remembered_ends_with_exp(keys: CountedKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LEEWAY", 0)
    verifier, token = verifier_of(keys), bearer(ed_key().token(exp=int(time.time()) + 4))
    assert viewer(token, verifier) == USER
    wait_until("it is refused", lambda: viewer(token, verifier) is None, seconds=20)


def test_the_memory_has_a_bound_and_keeps_the_newest(
    keys: CountedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MEMORY_SIZE", 8)
    verifier, many = verifier_of(keys), [bearer(ed_key().token()) for _ in range(20)]
    for token in many:
        assert viewer(token, verifier) == USER
    for token in many[-8:]:
        assert viewer(token, verifier) == USER
    assert keys.asked == 20
    for token in many[:8]:
        assert viewer(token, verifier) == USER
    assert keys.asked == 28


def test_spaces_around_a_token_cost_no_memory(keys: CountedKeys) -> None:
    verifier, token = verifier_of(keys), ed_key().token().encode()
    tracemalloc.start()
    try:
        # As large as the server lets a header be; accepted or refused is the same here.
        for size in range(60_000, 60_100):
            viewer(b"Bearer" + b" " * size + token, verifier)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
