"""Settings: what is missing or wrong is named, and no secret is shown."""

import pytest

from nexus.config import SettingsError, load_settings
from nexus.config import settings as lazy_settings

GOOD = {
    "NEXUS_ENV": "local",
    "NEXUS_INTERNAL_SECRET": "local-dev-secret",
    "DATABASE_URL": "postgresql+psycopg://postgres:postgres@localhost:5432/nexus_dev",
    "REDIS_URL": "redis://localhost:6379/0",
    "CELERY_BROKER_URL": "redis://localhost:6379/0",
    "CELERY_RESULT_BACKEND": "redis://localhost:6379/0",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("no-dotenv"))
    for name in ("DATABASE_PASSWORD", "AUTH_JWKS_URL", "AUTH_ISSUER", "AUTH_AUDIENCES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def faults() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return caught.value.faults


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("empty", [True, False])
def test_a_required_setting_that_is_missing_or_empty_is_named(
    name: str, empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if empty:
        monkeypatch.setenv(name, "")
    else:
        monkeypatch.delenv(name)
    assert faults() == [f"{name}: is missing"]


def test_every_fault_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GOOD:
        monkeypatch.delenv(name)
    assert sorted(line.split(":")[0] for line in faults()) == sorted(GOOD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEXUS_ENV", "production"),
        ("NEXUS_INTERNAL_SECRET", "tab\there"),
        ("NEXUS_INTERNAL_SECRET", "schlüssel"),
        ("NEXUS_INTERNAL_SECRET", " spaces "),
        ("DATABASE_URL", "not a url"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/db"),
        ("DATABASE_URL", "postgresql+psycopg://u:hunter2@h"),
        ("DATABASE_URL", "postgresql+psycopg://u:hunter2@h:port/db"),
        ("REDIS_URL", "http://:hunter2@h/0"),
        ("REDIS_URL", "redis://:hunter2@h:port/0"),
        ("CELERY_BROKER_URL", "amqp://h"),
        ("CELERY_RESULT_BACKEND", "redis:///0"),
        ("REDIS_URL", "rediss://:hunter2@h/0"),
        ("CELERY_BROKER_URL", "rediss://:hunter2@h/0?ssl_cert_reqs=CERT_REQUIRED"),
        ("API_WORKERS", "0"),
        ("API_POOL_SIZE", "0"),
        ("API_REQUEST_TIMEOUT_SECONDS", "30"),
        ("AUTH_JWKS_URL", "ftp://id.example/jwks"),
        ("AUTH_JWKS_URL", "https://id.example:port/"),
        ("AUTH_JWKS_URL", "https://user:hunter2@id.example/"),
        ("LOG_LEVEL", "LOUD"),
        ("MIGRATOR_WAIT_SECONDS", "soon"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    lines = faults()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")
    assert "hunter2" not in lines[0]


PROVIDER = {
    "AUTH_JWKS_URL": "https://id.example/jwks",
    "AUTH_ISSUER": "https://id.example/",
    "AUTH_AUDIENCES": "nexus, reader",
}


@pytest.mark.parametrize("environment_name", ["staging", "prod"])
def test_published_secrets_are_refused_where_others_data_may_be(
    environment_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_ENV", environment_name)
    for name, value in PROVIDER.items():
        monkeypatch.setenv(name, value)
    assert [line.split(":")[0] for line in faults()] == ["NEXUS_INTERNAL_SECRET", "DATABASE_URL"]
    monkeypatch.setenv("NEXUS_INTERNAL_SECRET", "a-secret-of-our-own")
    assert [line.split(":")[0] for line in faults()] == ["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nexus:own@h/db")
    assert load_settings().is_public_deployment


@pytest.mark.parametrize("missing", PROVIDER)
@pytest.mark.parametrize("environment_name", ["local", "prod"])
def test_a_provider_is_described_whole(
    environment_name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_ENV", environment_name)
    monkeypatch.setenv("NEXUS_INTERNAL_SECRET", "a-secret-of-our-own")
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nexus:own@h/db")
    for name in PROVIDER.keys() - {missing}:
        monkeypatch.setenv(name, PROVIDER[name])
    (line,) = faults()
    assert line.startswith(f"{missing}: is missing")


def test_every_setting_of_the_provider_is_required_in_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_ENV", "prod")
    assert [line.split(":")[0] for line in faults()][:3] == list(PROVIDER)


def test_audiences_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PROVIDER.items():
        monkeypatch.setenv(name, value)
    assert load_settings().audiences == ["nexus", "reader"]


def test_a_password_beside_the_url_may_hold_any_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://nexus@h/db")
    monkeypatch.setenv("DATABASE_PASSWORD", "p@ss:w/rd%41#")
    assert load_settings().database_url.password == "p@ss:w/rd%41#"  # noqa: S105


def test_a_password_in_the_url_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "other")
    assert load_settings().database_url.password == "postgres"  # noqa: S105


def test_no_secret_shows_in_a_printed_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://u:hunter2@h/db")
    monkeypatch.setenv("NEXUS_INTERNAL_SECRET", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_importing_settings_reads_nothing_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from nexus import config  # noqa: PLC0415

    config.get_settings.cache_clear()
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/5")
    assert lazy_settings.REDIS_URL.get_secret_value() == "redis://elsewhere:6379/5"
    config.get_settings.cache_clear()
