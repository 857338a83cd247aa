"""Settings: the only reader of the environment.

Each field carries the name of its environment variable; `.env.example` says what each one means.
"""

import sys
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nexus.secret_files import SecretFileError, read_secret

#: Exit code of a process whose settings are wrong (EX_CONFIG of sysexits.h).
EXIT_SETTINGS = 78

#: What .env.example and compose.yml use. Fine on a laptop, refused in staging and prod.
PUBLIC_SECRETS = frozenset({"local-dev-secret", "test-secret-for-ci"})
PUBLIC_PASSWORDS = frozenset({"postgres"})


class SettingsError(Exception):
    """One or more settings are missing or wrong; `faults` holds one line for each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


def _postgres_url(value: SecretStr) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):
        raise ValueError("is no URL; expected postgresql+psycopg://user:password@host:5432/name") from None
    if url.drivername != "postgresql+psycopg":
        raise ValueError(f"must begin with postgresql+psycopg://, not {url.drivername}://")
    if not url.host or not url.database:
        raise ValueError("must name a host and a database: postgresql+psycopg://user:password@host:5432/name")
    return value


#: What redis-py, kombu and Celery all understand in a URL as `ssl_cert_reqs`.
CERTIFICATES = {"required", "optional", "none"}


def _redis_url(value: SecretStr) -> SecretStr:
    try:
        url = urlsplit(value.get_secret_value())
        number = url.path.strip("/") or "0"
        valid = (
            url.scheme in {"redis", "rediss"} and bool(url.hostname) and url.port != 0 and number.isdecimal()
        )
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must look like redis://host:6379/0")
    if url.scheme == "rediss" and parse_qs(url.query).get("ssl_cert_reqs", [""])[0] not in CERTIFICATES:
        # Without it redis-py checks, Celery's broker does not, and its result backend does not start.
        raise ValueError(
            "must say that the certificate is checked: rediss://host:6380/0?ssl_cert_reqs=required"
        )
    return value


def _header_value(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ValueError("must be printable ASCII without spaces at its ends: it travels in an HTTP header")
    return value


def _http_url(value: str) -> str:
    try:
        url = urlsplit(value)
        valid = (
            url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0 and "@" not in url.netloc
        )
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must look like https://provider.example/path, without a user or password")
    return value


def _networks(value: str) -> str:
    for part in _parts(value):
        try:
            ip_network(part)
        except ValueError as error:
            raise ValueError(f"must be addresses or networks with commas between them: {error}") from None
    return value


def _no_fault(value: object) -> object:
    """Raises what reading the secret's file has raised, now that the name of the setting is known."""
    if isinstance(value, ValueError):
        raise value
    return value


def _parts(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


Secret = Annotated[SecretStr, BeforeValidator(_no_fault)]
PostgresUrl = Annotated[Secret, Field(min_length=1), AfterValidator(_postgres_url)]
RedisUrl = Annotated[Secret, Field(min_length=1), AfterValidator(_redis_url)]
HeaderSecret = Annotated[Secret, Field(min_length=1), AfterValidator(_header_value)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Networks = Annotated[str, AfterValidator(_networks)]


class Settings(BaseSettings):
    """All settings, validated once at start. An empty variable counts as one that is not set.

    A secret may come from a file: then the variable with `_FILE` after its name says which.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, case_sensitive=True, extra="ignore", frozen=True
    )

    NEXUS_ENV: Literal["local", "test", "staging", "prod"]
    NEXUS_INTERNAL_SECRET: HeaderSecret

    DATABASE_URL: PostgresUrl
    #: Used when DATABASE_URL holds no password, so that any character may be in it.
    DATABASE_PASSWORD: Secret | None = None
    REDIS_URL: RedisUrl
    CELERY_BROKER_URL: RedisUrl
    CELERY_RESULT_BACKEND: RedisUrl

    NEXUS_INTERNAL_SECRET_FILE: Path | None = None
    DATABASE_URL_FILE: Path | None = None
    DATABASE_PASSWORD_FILE: Path | None = None
    REDIS_URL_FILE: Path | None = None
    CELERY_BROKER_URL_FILE: Path | None = None
    CELERY_RESULT_BACKEND_FILE: Path | None = None

    #: Where the OIDC provider publishes its keys. Without it, local and test have the built-in issuer.
    AUTH_JWKS_URL: HttpUrl | None = None
    #: The `iss` a token must have; a slash at its end is no difference.
    AUTH_ISSUER: str | None = None
    #: The `aud` values of which a token must have one, separated by commas.
    AUTH_AUDIENCES: str | None = None

    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: auto: text in local and test, JSON in staging and prod.
    LOG_FORMAT: Literal["auto", "text", "json"] = "auto"

    #: Processes of the api container. Never derived from the host's cores: a container has its own share.
    API_WORKERS: int = Field(default=2, ge=1, le=64)
    #: Connections of each API process to Postgres: so many for reads, and so many for writes.
    API_POOL_SIZE: int = Field(default=4, ge=1, le=64)
    #: How long a request may take, its body's arrival included, seconds. Below gunicorn's graceful_timeout.
    API_REQUEST_TIMEOUT_SECONDS: float = Field(default=10.0, gt=0, le=20)
    #: The reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks,
    #: separated by commas.
    TRUSTED_PROXIES: Networks | None = None
    #: How long api and worker wait at their start for somebody to migrate the database, seconds. In compose
    #: they start after the migrator; a swarm starts all at once.
    SCHEMA_WAIT_SECONDS: float = Field(default=0.0, ge=0, le=3600)
    #: Upper bound of each check behind GET /ready, seconds.
    READY_TIMEOUT_SECONDS: float = Field(default=2.0, gt=0, le=30)
    #: Child processes of the worker container.
    WORKER_CONCURRENCY: int = Field(default=2, ge=1, le=64)
    #: How long the migrator waits for Postgres, for another migrator, for users of the tables; seconds each.
    MIGRATOR_WAIT_SECONDS: float = Field(default=60.0, gt=0, le=3600)

    @property
    def is_public_deployment(self) -> bool:
        """Whether other people's data may be in reach: staging and prod."""
        return self.NEXUS_ENV in {"staging", "prod"}

    @property
    def logs_json(self) -> bool:
        return self.LOG_FORMAT == "json" or (self.LOG_FORMAT == "auto" and self.is_public_deployment)

    @property
    def database_url(self) -> URL:
        """DATABASE_URL with its password filled in from DATABASE_PASSWORD where it has none."""
        url = make_url(self.DATABASE_URL.get_secret_value())
        if url.password is None and self.DATABASE_PASSWORD is not None:
            url = url.set(password=self.DATABASE_PASSWORD.get_secret_value())
        return url

    @property
    def audiences(self) -> list[str]:
        """AUTH_AUDIENCES as a list."""
        return _parts(self.AUTH_AUDIENCES)

    @property
    def trusted_proxies(self) -> list[str]:
        """TRUSTED_PROXIES as a list."""
        return _parts(self.TRUSTED_PROXIES)

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Secrets from their files. What is wrong with one is raised by the secret's own validation."""
        files = {name: values[f"{name}_FILE"] for name in cls.model_fields if values.get(f"{name}_FILE")}
        return values | {name: _from_file(name, values.get(name), file) for name, file in files.items()}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        faults = [*self._incomplete_provider()]
        if self.is_public_deployment:
            faults += self._published_secrets()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _incomplete_provider(self) -> Iterator[str]:
        given = {
            "AUTH_JWKS_URL": self.AUTH_JWKS_URL,
            "AUTH_ISSUER": self.AUTH_ISSUER,
            "AUTH_AUDIENCES": self.audiences,
        }
        if not self.is_public_deployment and not any(given.values()):
            return
        reason = (
            f"required in {self.NEXUS_ENV}"
            if self.is_public_deployment
            else "needed as soon as one AUTH_ is set"
        )
        for name in (name for name, value in given.items() if not value):
            yield f"{name}: is missing ({reason})"

    def _published_secrets(self) -> Iterator[str]:
        reason = f"is a published default, refused in {self.NEXUS_ENV}"
        if self.NEXUS_INTERNAL_SECRET.get_secret_value() in PUBLIC_SECRETS:
            yield f"NEXUS_INTERNAL_SECRET: {reason}"
        if self.database_url.password in PUBLIC_PASSWORDS:
            yield f"DATABASE_URL: its password {reason}"


def _from_file(name: str, given: object, file: str) -> object:
    if given:
        return ValueError(f"is given twice: empty either {name} or {name}_FILE")
    try:
        return read_secret(Path(file))
    except SecretFileError as fault:
        return fault


def _fault_lines(error: ValidationError) -> list[str]:
    """One line per fault, naming the variable, never its value: it may be a secret."""
    lines: list[str] = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"])
        message = "is missing" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        # What concerns several settings comes without a name and with a line for each.
        lines += [f"{name}: {message}"] if name else message.split("\n")
    return lines


def load_settings() -> Settings:
    """Read and validate the environment, and a `.env` in the working directory below it.

    Raises:
        SettingsError: something is missing or wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_fault_lines(error)) from None


@cache
def get_settings() -> Settings:
    """The settings of this process, read on first use."""
    return load_settings()


def settings_or_exit() -> Settings:
    """For launchers: the settings, or one line per fault on stderr and exit code 78."""
    try:
        return get_settings()
    except SettingsError as error:
        for fault in error.faults:
            sys.stderr.write(f"nexus: setting {fault} (see .env.example)\n")
        sys.exit(EXIT_SETTINGS)


class _LazySettings:
    """Stands in for Settings at import time; reads the environment at the first attribute."""

    def __getattr__(self, name: str) -> object:
        return getattr(get_settings(), name)


settings = cast("Settings", _LazySettings())
