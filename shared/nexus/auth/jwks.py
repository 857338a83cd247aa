"""The keys of an OIDC provider, fetched from its JWKS address and remembered."""

import asyncio
import json
import time
from urllib.parse import urlsplit

import httpx2

from nexus.auth.keys import Key, usable_key
from nexus.errors import AuthUnavailableError
from nexus.log import get_logger

#: Bound of one fetch, seconds: name lookup, connection and body together.
FETCH_TIMEOUT = 3.0
#: A set is fetched anew, beside the requests, when it is older than this. Seconds.
MAX_AGE = 300.0
#: A set older than this (nobody asked for a while) is waited for, unless the provider is away. Seconds.
MAX_IDLE_AGE = 600.0
#: While the provider is away its last set is trusted for so long. Seconds.
MAX_STALE_AGE = 3600.0
#: Least time between two fetches while we hold keys: what a flood of unknown kids costs them. Seconds.
PAUSE = 30.0
#: The same while we hold none and no token can be verified. Seconds.
PAUSE_WITHOUT_KEYS = 2.0
#: No provider's set is larger. Bytes.
MAX_BYTES = 1 << 20

log = get_logger("nexus.auth")


class UselessAnswerError(Exception):
    """The provider answered, but not with a set of keys."""


async def fetch_keys(url: str) -> list[Key]:
    """The usable keys at this address; never none.

    Raises:
        TimeoutError, httpx2.HTTPError: the provider is out of reach, or too slow.
        UselessAnswerError: its answer is no JWK set, or one without a key that we can use.
    """
    _, body = await ask_provider(url)
    return keys_in(body)


async def ask_provider(url: str) -> tuple[httpx2.Headers, bytes]:
    """The headers and the body of its answer.

    Raises:
        TimeoutError, httpx2.HTTPError: the provider is out of reach, or too slow.
        UselessAnswerError: its answer is another than 200, or too long.
    """
    async with (
        asyncio.timeout(FETCH_TIMEOUT),
        # In a thread, since loading the system's certificates takes 18 ms.
        await asyncio.to_thread(httpx2.AsyncClient, timeout=FETCH_TIMEOUT) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code != 200:
            raise UselessAnswerError(f"it answered {answer.status_code}")
        body = bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MAX_BYTES:
                raise UselessAnswerError(f"its answer is longer than {MAX_BYTES} bytes")
    return answer.headers, bytes(body)


def keys_in(body: bytes) -> list[Key]:
    """The usable keys of an answer; never none.

    Raises:
        UselessAnswerError: it is no JWK set, or one without a key that we can use.
    """
    try:
        entries = json.loads(body)["keys"]
        keys = [key for key in map(usable_key, entries) if key]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UselessAnswerError("its answer is no JWK set") from None
    if not keys:
        raise UselessAnswerError("its JWK set holds no key for RS256, ES256 or EdDSA")
    return keys


class JwksKeys:
    """Keys are found in the last good set; whoever needs a newer one waits for a fetch that all share."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: list[Key] = []
        self._fetched = self._tried = float("-inf")
        self._failed = False
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        found = self._match(kid, algorithm)
        if not found or self._age > MAX_AGE:
            self._start_fetch()
        if found and (self._age <= MAX_IDLE_AGE or self._failed):
            return found
        if self._fetch is not None:
            # Shielded: it is everybody's, and a request that is given up must not end it.
            await asyncio.shield(self._fetch)
            found = self._match(kid, algorithm)
        if not found and self._failed:
            raise AuthUnavailableError
        return found

    @property
    def _age(self) -> float:
        """Seconds since the last good fetch."""
        return time.monotonic() - self._fetched

    def _match(self, kid: str | None, algorithm: str) -> list[Key]:
        if self._age > MAX_STALE_AGE:
            return []
        return [key for key in self._keys if key.algorithm == algorithm and (kid is None or key.kid == kid)]

    def _start_fetch(self) -> None:
        now = time.monotonic()
        pause = PAUSE if self._age <= MAX_STALE_AGE else PAUSE_WITHOUT_KEYS
        if self._fetch is None and now - self._tried >= pause:
            self._tried = now
            self._fetch = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            self._keys = await fetch_keys(self._url)
            self._fetched = time.monotonic()
            self._failed = False
        except Exception as error:  # noqa: BLE001  whatever it is, nobody can be verified: 503, never 401
            self._failed = True
            reason = str(error) or type(error).__name__
            # Not the whole address: a key may be in its query.
            log.warning(
                "the identity provider gives no keys", host=urlsplit(self._url).hostname, reason=reason
            )
        finally:
            self._fetch = None
