"""An OIDC provider for the tests: keys that sign whatever they are told to, and a server that shows them."""

import itertools
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from nexus.config import Settings

ISSUER = "https://id.example/"
AUDIENCE = "reader"
#: Whoever a token speaks for, unless the test says otherwise.
USER = UUID("6d2f1a3e-0c53-4f0e-9f2a-6f1b8f1d7c11")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def segment(content: object) -> str:
    """One of the three parts of a token: bytes as they are, anything else as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def compact(header: object, payload: object, seal: bytes | Callable[[bytes], bytes]) -> str:
    """A token by hand: no library looks at what is in it. `seal` is the signature, or what makes it."""
    message = f"{segment(header)}.{segment(payload)}"
    return f"{message}.{segment(seal if isinstance(seal, bytes) else seal(message.encode()))}"


def hmac(secret: bytes, algorithm: str = "HS256") -> Callable[[bytes], bytes]:
    """Seals with a secret that both sides know."""
    hashing = HMACAlgorithm(getattr(HMACAlgorithm, algorithm.replace("HS", "SHA")))
    return lambda message: hashing.sign(message, secret)


@dataclass(frozen=True)
class SigningKey:
    """A key of an issuer."""

    kid: str | None
    algorithm: str
    private: PrivateKey
    issuer: str = ISSUER
    audience: str = AUDIENCE

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """What a provider publishes of it, and these members besides."""
        return self._jwk(self.private.public_key()) | ({"kid": self.kid} if self.kid else {}) | changes

    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def secret_jwk(self) -> dict[str, Any]:
        """What no provider should publish."""
        return self._jwk(self.private) | {"kid": self.kid}

    @staticmethod
    def _jwk(key: Any) -> dict[str, Any]:
        if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
            entry = RSAAlgorithm.to_jwk(key, as_dict=True)
        elif isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
            entry = ECAlgorithm.to_jwk(key, as_dict=True)
        else:
            entry = OKPAlgorithm.to_jwk(key, as_dict=True)
        entry.pop("key_ops", None)
        return entry

    def sign(self, message: bytes, algorithm: str | None = None) -> bytes:
        return jwt.get_algorithm_by_name(algorithm or self.algorithm).sign(message, self.private)

    def claims(self, **changes: Any) -> dict[str, object]:
        """Those of a good token, with these changes; None leaves a claim out."""
        now = int(time.time())
        good: dict[str, object] = {"iss": self.issuer, "aud": self.audience, "sub": str(USER)}
        # No two tokens are the same: a verifier remembers them.
        good |= {"iat": now, "exp": now + 600, "jti": str(uuid4())}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(
        self, *, algorithm: str | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Good, unless the changes make it a bad one. A header of None is left out."""
        head = {"alg": algorithm or self.algorithm, "typ": "JWT", "kid": self.kid} | (header or {})
        return compact(
            {name: value for name, value in head.items() if value is not None},
            self.claims(**claims),
            lambda message: self.sign(message, algorithm),
        )


@cache
def rsa_key(kid: str | None = "rsa", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, "RS256", rsa.generate_private_key(65537, bits))


@cache
def ec_key(kid: str | None = "ec", curve: str = "P-256") -> SigningKey:
    if curve == "P-256":
        return SigningKey(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))
    return SigningKey(kid, "ES384", ec.generate_private_key(ec.SECP384R1()))


@cache
def ed_key(kid: str | None = "ed", nth: int = 0) -> SigningKey:
    """The same arguments give the same key."""
    return SigningKey(
        kid, "EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(f"{kid}-{nth}".encode().rjust(32, b"."))
    )


def built_in_key(settings: Settings) -> SigningKey:
    """The key of the built-in issuer: to make what `nexus token` never would."""
    secret = settings.NEXUS_INTERNAL_SECRET.get_secret_value().encode()
    seed = HKDF(SHA256(), length=32, salt=None, info=b"nexus local issuer").derive(secret)
    private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return SigningKey(None, "EdDSA", private, issuer="nexus-local", audience="nexus")


#: Keys that sign no tokens of ours, and what the provider says of them.
UNUSABLE: dict[str, Callable[[], tuple[SigningKey, dict[str, object]]]] = {
    "ES384": lambda: (ec_key("k", "P-384"), {}),
    "ES384 that says ES256": lambda: (ec_key("k", "P-384"), {"alg": "ES256"}),
    "RSA of 1024 bits": lambda: (rsa_key("k", 1024), {}),
    "RSA to encrypt with": lambda: (rsa_key("k"), {"use": "enc"}),
    "RSA for PS256": lambda: (rsa_key("k"), {"alg": "PS256"}),
    "RSA for RS512": lambda: (rsa_key("k"), {"alg": "RS512"}),
    "EC for ES384": lambda: (ec_key("k"), {"alg": "ES384"}),
    "EC to encrypt with": lambda: (ec_key("k"), {"use": "enc"}),
    "Ed25519 for nothing known": lambda: (ed_key("k"), {"alg": "none"}),
    "a secret": lambda: (ed_key("k"), {"kty": "oct", "k": "c2VjcmV0"}),
    "a kind not known": lambda: (ed_key("k"), {"kty": "XYZ"}),
    "no kind": lambda: (ed_key("k"), {"kty": None}),
    "a curve not known": lambda: (ed_key("k"), {"crv": "Ed448"}),
}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what several tests are about."""


class Provider:
    """Publishes keys at `url`, or answers whatever it is told to, and counts who asks."""

    def __init__(self, *keys: SigningKey, host: str = "127.0.0.1", port: int = 0) -> None:
        #: How far its clock is ahead, seconds.
        self.ahead = 0.0
        self._lock = threading.Lock()
        self._fetches = 0
        self._open = threading.Event()
        self._open.set()
        self._closing = threading.Event()
        self.publish(*(key.jwk() for key in keys))
        self._server = _Server((host, port), self._handler())
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}/jwks"
        # Looks often whether it is to end: each test has a provider of its own.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def fetches(self) -> int:
        """How many requests have come so far, those that still wait included."""
        with self._lock:
            return self._fetches

    def publish(self, *entries: object) -> None:
        """From now on it answers with a set of these."""
        self.answer(json.dumps({"keys": entries}).encode())

    def answer(self, body: bytes | Callable[[], Iterator[bytes]], status: int = 200, **headers: str) -> None:
        """From now on it answers with this; a function gives the pieces of a body without an end."""
        self._answer = (body, status, {name.replace("_", "-"): value for name, value in headers.items()})

    def dribble(self) -> Iterator[bytes]:
        """A body that never ends and never is worth anything."""
        while not self._closing.wait(0.02):
            yield b" "

    def hold(self) -> None:
        """From now on a request waits for its answer until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        """Go away: from now on nobody listens on its port."""
        self._closing.set()
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handler(provider) -> type[BaseHTTPRequestHandler]:  # noqa: N805  `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with provider._lock:
                    provider._fetches += 1
                provider._open.wait()
                body, status, headers = provider._answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):
                    for piece in [body] if isinstance(body, bytes) else body():
                        self.wfile.write(piece)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((timestamp or time.time()) + provider.ahead)

            def log_message(self, *_: object) -> None:
                """The tests count; nobody reads."""

        return Handler


GOOD = json.dumps({"keys": [ed_key().jwk()]}).encode()
#: No set, though most of them are JSON.
NO_SETS = (
    "null",
    "5",
    "[]",
    "{}",
    '"keys"',
    '{"keys": null}',
    '{"keys": 5}',
    '{"keys": "abc"}',
    '{"keys": {}}',
)


def _answering(body: bytes, status: int = 200, **headers: str) -> Callable[[Provider], None]:
    return lambda provider: provider.answer(body, status, **headers)


#: What a provider can do that helps nobody.
USELESS: dict[str, Callable[[Provider], None]] = {
    **{f"status {status}": _answering(GOOD, status) for status in (201, 400, 401, 404, 500, 503)},
    **{f"redirect {status}": _answering(GOOD, status, Location="/") for status in (301, 302, 307)},
    **{text: _answering(text.encode()) for text in NO_SETS},
    "nothing": _answering(b""),
    "HTML": _answering(b"<!doctype html><title>Sign in</title>", Content_Type="text/html"),
    "half a set": _answering(GOOD[:-2]),
    "no UTF-8": _answering(GOOD.replace(b"ed", b"\xff")),
    "depth": _answering(b'{"keys":' * 100_000),
    "an empty set": lambda provider: provider.publish(),
    "a set of other things": lambda provider: provider.publish(
        None, "k", [], {}, {"kty": "oct", "k": "c2Vj"}
    ),
    "more than a set has": _answering(GOOD + b" " * (1 << 20)),
    "no end": lambda provider: provider.answer(lambda: itertools.repeat(b" " * 65_536)),
    "no end, slowly": lambda provider: provider.answer(provider.dribble),
    "less than it promised": _answering(GOOD, Content_Length="999999"),
    "what is not compressed": _answering(GOOD, Content_Encoding="gzip"),
    "silence": lambda provider: provider.hold(),
    "nobody there": lambda provider: provider.close(),
}
