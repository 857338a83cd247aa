"""Public keys and the one algorithm that each may be used with."""

from dataclasses import dataclass
from typing import Any, Protocol

import jwt

#: What we accept: kind of key and curve to algorithm (RFC 7518, RFC 8037). Never `none`, never HMAC.
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
ALGORITHMS = frozenset(_ALGORITHMS.values())
#: Shorter ones are refused: RFC 7518, 3.3.
MIN_RSA_BITS = 2048


@dataclass(frozen=True)
class Key:
    kid: str | None
    algorithm: str
    public: jwt.PyJWK


class KeySource(Protocol):
    """Where a verifier looks for keys."""

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys a token with this header may be signed with; none if there is no such key.

        Raises:
            AuthUnavailableError: nobody can say at the moment.
        """
        ...


def usable_key(entry: object) -> Key | None:
    """A key of a JWK set, or None where it is not one that signs tokens, or not one that we know."""
    # With a `d` it is a private key, which a provider that publishes it has lost (RFC 7517, 9.2).
    if not isinstance(entry, dict) or "d" in entry:
        return None
    kind = str(entry.get("kty"))
    algorithm = _ALGORITHMS.get((kind, None if kind == "RSA" else str(entry.get("crv"))))
    if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        return None
    public = _parse(entry, algorithm)
    return Key(kid, algorithm, public) if public else None


def _parse(entry: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if algorithm == "RS256" and key.key.key_size < MIN_RSA_BITS:
        return None
    return key
