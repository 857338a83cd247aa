"""`nexus doctor` asks the identity provider: does it give keys, and what time does it have?"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2

from nexus.auth.jwks import FETCH_TIMEOUT, UselessAnswerError, ask_provider, keys_in
from nexus.config import Settings
from nexus.doctor.bounds import PATIENCE, bounded
from nexus.doctor.clock import skew
from nexus.doctor.findings import Finding, fault, ok


def check_provider(settings: Settings) -> Iterator[Finding]:
    url = settings.AUTH_JWKS_URL
    if url is None:
        yield ok("provider", "none is set: tokens are those of the built-in issuer")
        return
    # Not the whole address: a key may be in its query.
    host = urlsplit(url).hostname
    try:
        with bounded(PATIENCE):
            head, body = asyncio.run(ask_provider(url))
        keys = keys_in(body)
    except (UselessAnswerError, httpx2.HTTPError, TimeoutError) as error:
        reason = str(error) or f"no answer within {FETCH_TIMEOUT:g} s"
        yield fault(
            "provider",
            f"the identity provider {host} gives no keys: {reason}",
            "correct AUTH_JWKS_URL, or see to it that this machine reaches it",
        )
        return
    yield ok("provider", f"the identity provider {host} gives {len(keys)} usable keys")
    yield from _date(head.get("date"), host)


def _date(stated: str | None, host: str | None) -> Iterator[Finding]:
    """Its Date is of the second in which it answered, so half a second is added for the rest of that."""
    told = _time(stated or "")
    if told:
        yield skew(f"the identity provider {host}", (told - datetime.now(UTC)).total_seconds() + 0.5)


def _time(date: str) -> datetime | None:
    """What a Date says; None where that is nothing we could use."""
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if told.tzinfo:
        return told
    # Without a zone it is in UTC (RFC 9110, 5.6.7). One whose name Python does not know is lost on the way.
    return None if date.rstrip()[-1].isalpha() else told.replace(tzinfo=UTC)
