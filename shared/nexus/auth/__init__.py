"""Who is asking: bearer tokens of an OIDC provider, or of the built-in issuer in local and test."""

from nexus.auth.jwks import JwksKeys
from nexus.auth.local import LocalIssuer
from nexus.auth.tokens import TokenVerifier
from nexus.config import Settings


def create_verifier(settings: Settings) -> TokenVerifier:
    """The verifier that the settings ask for. Contacts nobody yet."""
    if settings.AUTH_JWKS_URL is None:
        issuer = LocalIssuer(settings)
        return TokenVerifier(issuer, issuer.name, [issuer.audience])
    assert settings.AUTH_ISSUER is not None  # noqa: S101  the settings demand the three together
    return TokenVerifier(JwksKeys(settings.AUTH_JWKS_URL), settings.AUTH_ISSUER, settings.audiences)
