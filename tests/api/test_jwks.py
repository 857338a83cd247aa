"""Keys of an OIDC provider: which ones are used, what they cost it, and what happens while it is not well."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from nexus.auth import jwks
from nexus.auth.jwks import JwksKeys
from nexus.auth.tokens import TokenVerifier
from nexus.errors import NexusError
from tests.api.jwks import (
    AUDIENCE,
    ISSUER,
    UNUSABLE,
    USELESS,
    USER,
    Provider,
    SigningKey,
    compact,
    ec_key,
    ed_key,
    hmac,
    rsa_key,
    segment,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio

REFUSED, UNAVAILABLE = "E_UNAUTHENTICATED", "E_AUTH_UNAVAILABLE"
KINDS: dict[str, Callable[[], SigningKey]] = {"RS256": rsa_key, "ES256": ec_key, "EdDSA": ed_key}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(rsa_key(), ec_key(), ed_key()) as running:
        yield running


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """An answer that comes is waited for, however long this machine stands still."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jwks, "FETCH_TIMEOUT", 30)
        yield


@pytest.fixture
def verifier(provider: Provider) -> TokenVerifier:
    return verifier_of(provider.url)


def verifier_of(url: str) -> TokenVerifier:
    return TokenVerifier(JwksKeys(url), ISSUER, ["else", AUDIENCE])


async def ask(verifier: TokenVerifier, token: str) -> UUID | str:
    """Whose token it is, or the code of the error."""
    try:
        return await verifier.viewer(f"Bearer {token}".encode())
    except NexusError as error:
        return error.code


async def fetched(provider: Provider, times: int) -> None:
    """Waits until the provider was asked so often; the event loop goes on meanwhile."""
    what = f"the provider is asked {times} times"
    await asyncio.to_thread(wait_until, what, lambda: provider.fetches == times, seconds=20, pause=0.005)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_each_kind_is_used(kind: str, verifier: TokenVerifier) -> None:
    key = KINDS[kind]()
    assert await ask(verifier, key.token()) == USER
    assert await ask(verifier, key.token(iss=ISSUER.rstrip("/"), aud=["x", "else"])) == USER
    assert await ask(verifier, key.token(aud="nexus")) == REFUSED
    assert await ask(verifier, key.token(exp=1)) == REFUSED


@pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512", "PS512"])
async def test_a_key_is_used_with_its_own_algorithm_only(algorithm: str, verifier: TokenVerifier) -> None:
    assert await ask(verifier, rsa_key().token(algorithm=algorithm)) == REFUSED


@pytest.mark.parametrize("claimed", KINDS)
@pytest.mark.parametrize("signer", KINDS)
async def test_a_key_is_not_used_in_the_name_of_another(
    signer: str, claimed: str, verifier: TokenVerifier
) -> None:
    key, other = KINDS[signer](), KINDS[claimed]()
    for header in ({"alg": claimed, "kid": key.kid}, {"alg": claimed, "kid": other.kid}):
        right = signer == claimed
        assert await ask(verifier, key.token(header=header)) == (USER if right else REFUSED)
    assert await ask(verifier, key.token(header={"kid": other.kid})) == (USER if right else REFUSED)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_everybody_knows_of_a_key_signs_nothing(kind: str, verifier: TokenVerifier) -> None:
    key = KINDS[kind]()
    for secret in (key.pem(), json.dumps(key.jwk()).encode(), b""):
        token = compact({"alg": "HS256", "kid": key.kid}, key.claims(), hmac(secret))
        assert await ask(verifier, token) == REFUSED
    for seal in (b"", b"x", bytes(64), bytes(256)):
        for algorithm in ("none", kind):
            token = compact({"alg": algorithm, "kid": key.kid}, key.claims(), seal)
            assert await ask(verifier, token) == REFUSED


@pytest.mark.parametrize("case", UNUSABLE)
async def test_a_key_that_is_not_for_us_is_not_used(
    case: str, provider: Provider, verifier: TokenVerifier
) -> None:
    key, changes = UNUSABLE[case]()
    accepted = key.algorithm.replace("384", "256")
    provider.publish(key.jwk(**changes))
    assert await ask(verifier, key.token(header={"alg": accepted})) == UNAVAILABLE, "the set is useless"
    provider.publish(key.jwk(**changes), ed_key().jwk())
    beside = verifier_of(provider.url)
    assert await ask(beside, ed_key().token()) == USER
    for algorithm in (key.algorithm, accepted):
        assert await ask(beside, key.token(header={"alg": algorithm})) == REFUSED


@pytest.mark.parametrize("changes", [{"use": "sig"}, {"alg": "RS256"}, {"x5c": ["?"], "n2": 5}], ids=str)
async def test_what_a_key_says_besides_does_not_matter(
    changes: dict[str, object], provider: Provider, verifier: TokenVerifier
) -> None:
    provider.publish(rsa_key().jwk(**changes))
    assert await ask(verifier, rsa_key().token()) == USER


ODD: tuple[object, ...] = (
    *(None, 5, "key", [], {}, {"kty": 5}, {"kty": []}, {"kty": "EC", "crv": []}, {"kty": "OKP", "crv": {}}),
    *(
        {"kty": "RSA"},
        {"kty": "RSA", "n": 5, "e": 5},
        {"kty": "RSA", "n": "", "e": ""},
        {"kty": "RSA", "d": "AQ"},
    ),
    *({"kty": "RSA", "n": "é", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
    *({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, {"kty": "OKP", "crv": "Ed25519", "x": "\ud800"}),
    *(ed_key().jwk(kid=5), ed_key().jwk(kid=["odd"]), ed_key().jwk(alg=["EdDSA"]), ed_key().jwk(use={})),
)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: json.dumps(odd)[:40])
async def test_an_entry_that_nobody_understands_spoils_no_set(
    odd: object, provider: Provider, verifier: TokenVerifier
) -> None:
    provider.publish(odd, ec_key().jwk(), odd)
    assert await ask(verifier, ec_key().token()) == USER


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_whose_secret_half_is_published_is_not_used(
    kind: str, provider: Provider, verifier: TokenVerifier
) -> None:
    key = KINDS[kind]()
    provider.publish(key.secret_jwk(), ed_key("other").jwk())
    assert await ask(verifier, key.token()) == REFUSED


async def test_a_modulus_beyond_all_measure_is_no_reason_to_crash(
    provider: Provider, verifier: TokenVerifier
) -> None:
    huge = SigningKey("huge", "RS256", rsa_key().private)
    provider.publish(huge.jwk(n=segment(b"\xff" * 5000)), ed_key().jwk())
    for seal in (huge.sign(b""), bytes(5000), b"\xee" * 5000):
        token = compact({"alg": "RS256", "kid": "huge"}, huge.claims(), seal)
        assert await ask(verifier, token) == REFUSED


async def test_a_token_without_a_kid_is_tried_with_every_key_of_its_algorithm(
    provider: Provider, verifier: TokenVerifier
) -> None:
    provider.publish(
        *(ed_key(f"k{nth}").jwk() for nth in range(3)), rsa_key().jwk(), ed_key("nameless").jwk(kid=None)
    )
    for name in ("k0", "k1", "k2"):
        assert await ask(verifier, ed_key(name).token(header={"kid": None})) == USER
    assert await ask(verifier, rsa_key().token(header={"kid": None})) == USER
    assert await ask(verifier, ed_key("elsewhere").token(header={"kid": None})) == REFUSED
    assert provider.fetches == 1


async def test_two_keys_of_one_name_are_both_tried(provider: Provider, verifier: TokenVerifier) -> None:
    provider.publish(ed_key("same", 1).jwk(), ed_key("same", 2).jwk())
    for nth, wanted in ((1, USER), (2, USER), (3, REFUSED)):
        assert await ask(verifier, ed_key("same", nth).token()) == wanted


async def test_the_first_requests_share_one_fetch(provider: Provider, verifier: TokenVerifier) -> None:
    provider.hold()
    keys = [rsa_key(), ec_key(), ed_key(), ed_key("unknown")] * 20
    asked = [asyncio.create_task(ask(verifier, key.token())) for key in keys]
    await fetched(provider, 1)
    provider.release()
    assert await asyncio.gather(*asked) == [USER, USER, USER, REFUSED] * 20
    assert provider.fetches == 1


async def test_a_request_that_is_given_up_does_not_end_the_fetch_of_the_others(
    provider: Provider, verifier: TokenVerifier
) -> None:
    provider.hold()
    given_up, patient = (asyncio.create_task(ask(verifier, ed_key().token())) for _ in range(2))
    await fetched(provider, 1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    provider.release()
    assert await patient == USER
    assert provider.fetches == 1


async def test_known_keys_cost_the_provider_nothing(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "PAUSE", 0)
    idle = asyncio.all_tasks()
    for key in [rsa_key(), ec_key(), ed_key()] * 10:
        assert await ask(verifier, key.token()) == USER
        assert asyncio.all_tasks() == idle, "no fetch has begun unasked"
    assert provider.fetches == 1


async def test_a_new_key_is_found_with_one_fetch(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(verifier, ed_key("old").token()) == REFUSED
    provider.publish(ed_key("new").jwk())
    assert await ask(verifier, ed_key("new").token()) == REFUSED, "too early to ask again"
    assert provider.fetches == 1
    monkeypatch.setattr(jwks, "PAUSE", 0)
    assert await ask(verifier, ed_key("new").token()) == USER
    assert provider.fetches == 2
    assert await ask(verifier, ed_key().token()) == REFUSED, "it was withdrawn"
    assert provider.fetches == 3


async def test_a_flood_of_unknown_keys_costs_one_fetch(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jwks.PAUSE >= 30
    assert await ask(verifier, ed_key().token()) == USER
    flood = [ed_key(f"unknown-{nth}").token() for nth in range(100)]
    monkeypatch.setattr(jwks, "PAUSE", 0)
    assert set(await asyncio.gather(*(ask(verifier, token) for token in flood))) == {REFUSED}
    assert provider.fetches == 2
    monkeypatch.undo()
    for token in flood:
        assert await ask(verifier, token) == REFUSED
    assert provider.fetches == 2


async def test_no_key_is_looked_for_because_of_junk(provider: Provider, verifier: TokenVerifier) -> None:
    good = rsa_key().token()
    algorithms = ("none", "HS256", "PS256", "ES384", "ES256K", "RS1", "", 5, True)
    junk = [
        *("", ".", "..", "junk", "a.b.c", f"{good}!", f"{good}.x", good.split(".", 1)[1], f"{good[:-1]}="),
        *(rsa_key().token(header={"alg": algorithm}) for algorithm in algorithms),
        *(rsa_key().token(header={"kid": kid}) for kid in (5, True, ["rsa"], {"rsa": 1})),
    ]
    assert {await ask(verifier, token) for token in junk} == {REFUSED}
    assert provider.fetches == 0


@pytest.mark.parametrize("case", USELESS)
async def test_a_useless_answer_is_told_and_a_good_one_found_soon_after(
    case: str, provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    USELESS[case](provider)
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 0.3)
    monkeypatch.setattr(jwks, "PAUSE_WITHOUT_KEYS", 3600)
    async with asyncio.timeout(20):
        assert [await ask(verifier, ed_key().token()) for _ in range(5)] == [UNAVAILABLE] * 5
    assert provider.fetches <= 1, "and is not asked for again at once"
    monkeypatch.undo()
    monkeypatch.setattr(jwks, "PAUSE_WITHOUT_KEYS", 0)
    provider.close()
    with Provider(ed_key(), port=provider.port):
        assert await ask(verifier, ed_key().token()) == USER
        assert await ask(verifier, ed_key("unknown").token()) == REFUSED


async def test_a_small_answer_is_not_blown_up_in_memory(provider: Provider, verifier: TokenVerifier) -> None:
    provider.answer(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip")
    tracemalloc.start()
    try:
        assert await ask(verifier, ed_key().token()) == UNAVAILABLE
        assert tracemalloc.get_traced_memory()[1] < 10 * jwks.MAX_BYTES
    finally:
        tracemalloc.stop()


async def test_while_the_provider_is_away_the_keys_that_are_known_are_good_for_a_while(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(verifier, ed_key().token()) == USER
    provider.close()
    monkeypatch.setattr(jwks, "PAUSE", 0)
    monkeypatch.setattr(jwks, "MAX_AGE", 0)
    for _ in range(3):
        assert await ask(verifier, ed_key("unknown").token()) == UNAVAILABLE
        assert await ask(verifier, ed_key().token()) == USER
        assert await ask(verifier, ec_key().token(header={"kid": None})) == USER
    monkeypatch.setattr(jwks, "MAX_STALE_AGE", 0)
    assert await ask(verifier, ed_key().token()) == UNAVAILABLE


async def test_old_keys_are_renewed_beside_the_requests(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(verifier, ed_key().token()) == USER
    monkeypatch.setattr(jwks, "MAX_AGE", 0)
    assert await ask(verifier, ed_key().token()) == USER
    assert provider.fetches == 1, "not at each request"
    monkeypatch.setattr(jwks, "PAUSE", 0)
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 60)
    provider.hold()
    async with asyncio.timeout(20):
        assert await ask(verifier, ed_key().token()) == USER
        await fetched(provider, 2)
        assert await ask(verifier, ed_key().token()) == USER, "though the provider has not answered yet"
        provider.publish(ec_key().jwk())
        provider.release()
        while await ask(verifier, ed_key().token()) != REFUSED:
            await asyncio.sleep(0.005)
        assert await ask(verifier, ec_key().token()) == USER
