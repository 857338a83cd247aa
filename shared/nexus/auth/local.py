"""The built-in issuer of local and test: a fresh clone has tokens without an OIDC provider."""

import time
from uuid import UUID, uuid5

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nexus.auth.keys import Key
from nexus.config import Settings

#: How long a token of ours is good, seconds.
LIFETIME = 24 * 3600
_NAMESPACE = UUID("6e657875-7300-5000-8000-000000706572")


def user_id(name: str) -> UUID:
    """The id of a local user: the same name is the same user in every database."""
    return uuid5(_NAMESPACE, name)


class LocalIssuer:
    """Signs with an Ed25519 key derived from NEXUS_INTERNAL_SECRET: whoever knows it may mint tokens.

    Raises:
        ValueError: the settings are those of staging or prod.
    """

    name = "nexus-local"
    audience = "nexus"

    def __init__(self, settings: Settings) -> None:
        if settings.is_public_deployment:
            raise ValueError(f"the built-in issuer is refused in {settings.NEXUS_ENV}")
        secret = settings.NEXUS_INTERNAL_SECRET.get_secret_value().encode()
        seed = HKDF(SHA256(), length=32, salt=None, info=b"nexus local issuer").derive(secret)
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = jwt.PyJWK(
            jwt.algorithms.OKPAlgorithm.to_jwk(self._private.public_key(), as_dict=True), "EdDSA"
        )
        self._key = Key(None, "EdDSA", public)

    def mint(self, user: UUID, lifetime: float = LIFETIME) -> str:
        """A token for this user, good for so many seconds."""
        now = int(time.time())
        claims = {
            "iss": self.name,
            "aud": self.audience,
            "sub": str(user),
            "iat": now,
            "exp": now + int(lifetime),
        }
        return jwt.encode(claims, self._private, algorithm="EdDSA")

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        return [self._key] if kid is None and algorithm == self._key.algorithm else []
