"""Verifies bearer tokens and remembers for a short while which ones were good."""

import re
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import jwt

from nexus.auth.keys import ALGORITHMS, Key, KeySource
from nexus.errors import UnauthenticatedError

#: How far the clocks of provider and API may differ, seconds.
LEEWAY = 60
#: A verified token is remembered for so long, but never past its `exp`. Seconds.
MEMORY = 60.0
#: How many are remembered at most.
MEMORY_SIZE = 4096
#: No header with a token is longer, bytes.
MAX_LENGTH = 16_384

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuerError: "its issuer is not ours",
    jwt.InvalidAudienceError: "its audience is not ours",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.MissingRequiredClaimError: "it lacks one of exp, iss, sub and aud",
}


def _refused(reason: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"The bearer token is refused: {reason}.")


class TokenVerifier:
    """Turns the Authorization header of a request into the id of its viewer.

    A signature is checked on the event loop: that takes 50 to 150 µs, and handing it to a thread as long.
    Only fetching keys waits, and that is asynchronous.
    """

    def __init__(self, keys: KeySource, issuer: str, audiences: Sequence[str]) -> None:
        self._keys = keys
        # A slash at the end of `iss` is no difference.
        self._issuers = [issuer.rstrip("/"), issuer.rstrip("/") + "/"]
        self._audiences = list(audiences)
        self._remembered: dict[bytes, tuple[UUID, float]] = {}

    async def viewer(self, authorization: bytes | None) -> UUID:
        """The user that the token speaks for.

        Raises:
            UnauthenticatedError: no token, or a bad one.
            AuthUnavailableError: its key cannot be had at the moment.
        """
        if authorization is None:
            raise UnauthenticatedError
        known = self._remembered.get(authorization)
        if known and time.time() < known[1]:
            return known[0]
        claims = await self._verify(_bearer_token(authorization))
        user = _user_of(claims)
        self._remember(authorization, user, claims["exp"])
        return user

    async def _verify(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused("it is no JWT") from None
        kid, algorithm = header.get("kid"), header.get("alg")
        # Before any key is looked for: no provider is asked because of junk.
        if not isinstance(kid, str | None) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _refused("it is signed in a way that is not accepted")
        error = _refused("its key is not one of the issuer's")
        for key in await self._keys.find(kid, algorithm):
            try:
                return self._decode(token, key)
            except UnauthenticatedError as refused:
                error = refused
        raise error

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                issuer=self._issuers,
                audience=self._audiences,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError, TypeError) as error:
            raise _refused(_REASONS.get(type(error), "it is no valid token")) from None

    def _remember(self, authorization: bytes, user: UUID, expires: Any) -> None:
        now = time.time()
        if len(self._remembered) >= MEMORY_SIZE:
            # The oldest: a dict keeps the order in which its keys came.
            del self._remembered[next(iter(self._remembered))]
        self._remembered.pop(authorization, None)
        # As PyJWT reads it; an integer has no upper bound, and a float would.
        self._remembered[authorization] = (user, min(now + MEMORY, int(expires)))


def _bearer_token(authorization: bytes) -> str:
    scheme, _, token = authorization.partition(b" ")
    token = token.strip(b" ")
    # The whole header is bounded, since it is what is remembered.
    if scheme.lower() != b"bearer" or not token or len(authorization) > MAX_LENGTH or not token.isascii():
        raise UnauthenticatedError
    return token.decode("ascii")


def _user_of(claims: dict[str, Any]) -> UUID:
    subject = claims["sub"]
    if not isinstance(subject, str) or not _UUID.fullmatch(subject):
        raise _refused("its sub is no uuid")
    return UUID(subject)
