"""`nexus doctor` and the identity provider: every way in which one is of no use, and its clock."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from nexus.config import Settings
from nexus.doctor.findings import Finding
from nexus.doctor.provider import check_provider
from tests.api.jwks import AUDIENCE, ISSUER, USELESS, Provider, ec_key, rsa_key


def check(settings: Settings, url: str) -> list[Finding]:
    changes = {"AUTH_JWKS_URL": url, "AUTH_ISSUER": ISSUER, "AUTH_AUDIENCES": AUDIENCE}
    return list(check_provider(Settings.model_validate(settings.model_dump() | changes)))


def test_without_a_provider_there_is_nothing_to_reach(settings: Settings) -> None:
    (found,) = check_provider(settings)
    assert (found.name, found.state) == ("provider", "ok")
    assert "built-in issuer" in found.message


def test_a_provider_that_gives_keys(settings: Settings) -> None:
    with Provider(rsa_key(), ec_key()) as provider:
        found, clock = check(settings, provider.url)
    assert found == Finding("provider", "ok", "the identity provider 127.0.0.1 gives 2 usable keys")
    assert (clock.name, clock.state) == ("clock", "ok")


@pytest.mark.parametrize("useless", USELESS.values(), ids=USELESS)
def test_a_provider_that_gives_none(settings: Settings, useless: Callable[[Provider], None]) -> None:
    with Provider(rsa_key()) as provider:
        useless(provider)
        (found,) = check(settings, f"{provider.url}?key=hidden")
    assert (found.name, found.state) == ("provider", "fault")
    assert found.message.startswith("the identity provider 127.0.0.1 gives no keys: ")
    assert "AUTH_JWKS_URL" in found.remedy
    assert "hidden" not in str(found)


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [(120, "fault", r"1(19|20) s ahead of"), (-120, "fault", "s behind"), (30, "warning", "s ahead of")],
)
def test_a_provider_whose_clock_is_wrong(settings: Settings, ahead: float, state: str, words: str) -> None:
    with Provider(rsa_key()) as provider:
        provider.ahead = ahead
        found, clock = check(settings, provider.url)
    assert (found.state, clock.name, clock.state) == ("ok", "clock", state)
    assert clock.message.startswith("the clock of the identity provider 127.0.0.1 is ")
    assert re.search(words, clock.message)  # its Date has no fractions


def check_dated(settings: Settings, monkeypatch: pytest.MonkeyPatch, date: str) -> list[Finding]:
    """With a provider whose header Date is this."""
    with Provider(rsa_key()) as provider:
        monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: date)
        return check(settings, provider.url)


@pytest.mark.parametrize(
    "date",
    ["yesterday", "", "Sun, 06 Nov 1994 08:49:37 CXT", f"Sun, 06 Nov {10**20} 08:49:37 GMT"],
    ids=["words", "nothing", "a zone not known", "a year too large"],
)
def test_a_provider_that_tells_no_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    assert [each.state for each in check_dated(settings, monkeypatch, date)] == ["ok"]


@pytest.mark.parametrize(
    "form", ["%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S -0000"]
)
@pytest.mark.parametrize(("ahead", "state"), [(0, "ok"), (120, "fault")])
def test_a_date_without_a_zone_is_in_utc(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str, ahead: int, state: str
) -> None:
    """asctime's form has none, and must be understood (RFC 9110, 5.6.7)."""
    date = f"{datetime.now(UTC) + timedelta(seconds=ahead):{form}}"
    found, clock = check_dated(settings, monkeypatch, date)
    assert (found.state, clock.name, clock.state) == ("ok", "clock", state)
