"""An API beside an OIDC provider: whose tokens it takes, and what it does while that provider is late."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy.engine import URL

from nexus.auth.local import LocalIssuer
from nexus.config import Settings
from tests.api.conftest import Api, data, failure, running_api
from tests.api.jwks import AUDIENCE, ISSUER, USER, Provider, ec_key, ed_key, rsa_key
from tests.api.test_jwks import KINDS, REFUSED, UNAVAILABLE
from tests.conftest import settings_for
from tests.waiting import wait_until


def with_provider(settings: Settings, database: URL, provider: Provider) -> Settings:
    # One process, so that the fetches can be counted: each has a set of its own.
    own = {"AUTH_JWKS_URL": provider.url, "AUTH_ISSUER": ISSUER, "AUTH_AUDIENCES": AUDIENCE, "API_WORKERS": 1}
    return settings_for(settings, database, **own)


@pytest.fixture(scope="module")
def served(
    settings: Settings, api_database: URL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Api, Provider]]:
    """An API and its provider, which are well."""
    with Provider(rsa_key(), ec_key(), ed_key()) as provider:
        own = with_provider(settings, api_database, provider)
        with running_api(own, tmp_path_factory.mktemp("jwks")) as api:
            yield api, provider


def get_me(api: Api, token: str) -> httpx2.Response:
    return api.client(api.internal).get("/me", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_takes_the_tokens_of_its_provider(kind: str, served: tuple[Api, Provider]) -> None:
    (api, _), user = served, str(uuid4())
    assert data(get_me(api, KINDS[kind]().token(sub=user)))["user_id"] == user
    assert failure(get_me(api, KINDS[kind]().token(iss="https://else.example/"))) == (401, REFUSED)


def test_beside_a_provider_the_built_in_issuer_has_no_say(served: tuple[Api, Provider]) -> None:
    api, _ = served
    assert failure(get_me(api, LocalIssuer(api.settings).mint(USER))) == (401, REFUSED)
    assert failure(api.user().http.get("/me")) == (401, REFUSED)


def test_a_flood_of_unknown_keys_reaches_the_provider_once_at_most(served: tuple[Api, Provider]) -> None:
    api, provider = served
    assert get_me(api, ed_key().token()).status_code == 200
    before, http = provider.fetches, api.client(api.internal)
    flood = [{"Authorization": f"Bearer {ed_key(f'flood-{nth}').token()}"} for nth in range(100)]
    answers = [http.get("/me", headers=headers) for headers in flood]
    assert [failure(answer) for answer in answers] == [(401, REFUSED)] * len(flood)
    assert provider.fetches - before <= 1


def test_a_provider_that_is_late_holds_up_nobody_and_is_found_once_it_is_well(
    settings: Settings, api_database: URL, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Provider(ed_key()) as provider, ThreadPoolExecutor() as pool:
        provider.hold()
        own = with_provider(settings, api_database, provider)
        with running_api(own, tmp_path_factory.mktemp("late")) as api:
            http = api.client()
            late = [pool.submit(get_me, api, ed_key().token()) for _ in range(4)]
            wait_until("the API asks for the keys", lambda: provider.fetches == 1, seconds=20)
            healthy = [http.get("/health").status_code for _ in range(3)]
            assert (healthy, [each.done() for each in late]) == ([200] * 3, [False] * 4)
            assert [failure(each.result(20)) for each in late] == [(503, UNAVAILABLE)] * 4
            provider.answer(b"", 500)
            provider.release()
            assert failure(get_me(api, ed_key().token())) == (503, UNAVAILABLE)
            provider.publish(ed_key().jwk())
            wait_until("the keys are found", lambda: get_me(api, ed_key().token()).is_success, seconds=20)
