"""Keys that nobody asked for in a long while, and failures of a fetch that nobody foresaw."""

from collections.abc import Iterator

import pytest

from nexus.auth import jwks
from tests.api.jwks import USER, Provider, ec_key, ed_key, rsa_key
from tests.api.test_jwks import REFUSED, UNAVAILABLE, ask, verifier_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(rsa_key(), ec_key(), ed_key()) as running:
        yield running


async def test_keys_withdrawn_while_nobody_asked_are_not_used_once_more(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = verifier_of(provider.url)
    assert await ask(verifier, ed_key().token()) == USER
    provider.publish(ec_key().jwk())
    monkeypatch.setattr(jwks, "MAX_AGE", 0)
    monkeypatch.setattr(jwks, "MAX_IDLE_AGE", 0)
    monkeypatch.setattr(jwks, "PAUSE", 0)
    assert await ask(verifier, ed_key().token()) == REFUSED
    assert await ask(verifier, ec_key().token()) == USER


async def test_but_they_are_while_the_provider_is_away(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = verifier_of(provider.url)
    assert await ask(verifier, ed_key().token()) == USER
    provider.close()
    for name in ("MAX_AGE", "MAX_IDLE_AGE", "PAUSE"):
        monkeypatch.setattr(jwks, name, 0)
    for _ in range(3):
        assert await ask(verifier, ed_key().token()) == USER


async def test_whatever_goes_wrong_in_a_fetch_is_never_the_tokens_fault(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = verifier_of(provider.url)

    def stumble(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(jwks, "usable_key", stumble)
        for _ in range(2):
            assert await ask(verifier, ed_key().token()) == UNAVAILABLE
    monkeypatch.setattr(jwks, "PAUSE_WITHOUT_KEYS", 0)
    assert await ask(verifier, ed_key().token()) == USER
