"""Plain ASGI middleware: BaseHTTPMiddleware would cost each request 116 to 180 microseconds."""

import asyncio
import hmac
import re
import time
from typing import NamedTuple
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from nexus.api.errors import CHANGE_NOT_KNOWN, error_response, translate
from nexus.api.metrics import Requests
from nexus.auth.tokens import TokenVerifier
from nexus.errors import InternalOnlyError, InvalidRequestError, NexusError, UnavailableError
from nexus.log import get_logger

#: A request id of somebody else's that we take over; anything else might be made for those who read logs.
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: What an address of IPv4 or IPv6 is made of. A proxy passes on what somebody else has typed.
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
#: No body of ours is larger: a name has at most 100 characters. Bytes. Starlette's limit has no envelope.
MAX_BODY_SIZE = 64 * 1024

_TOO_LARGE = f"The body is longer than {MAX_BODY_SIZE} bytes."

log = get_logger("nexus.request")


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    """A header that was sent once. Twice is as good as not: a proxy may have let one of them through."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return values[0] if len(values) == 1 else None


class Paths(NamedTuple):
    """What lies at them needs less than header and token."""

    #: Nothing.
    public: frozenset[str]
    #: Nothing either, below this one.
    public_folder: str | None
    #: The header only.
    machines: frozenset[str]


class GuardMiddleware:
    """Lets a request to a public path pass; any other needs `X-Nexus-Internal`, then a bearer token.

    What it learns is in the scope: `nexus.viewer`.
    """

    def __init__(self, app: ASGIApp, *, secret: str, verifier: TokenVerifier, paths: Paths) -> None:
        self._app = app
        self._secret = secret.encode("ascii")
        self._verifier = verifier
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_public(scope["path"]):
            if not hmac.compare_digest(_header(scope, b"x-nexus-internal") or b"", self._secret):
                raise InternalOnlyError
            if scope["path"] not in self._paths.machines:
                scope["nexus.viewer"] = await self._verifier.viewer(_header(scope, b"authorization"))
        await self._app(scope, receive, send)

    def _is_public(self, path: str) -> bool:
        folder = self._paths.public_folder
        return path in self._paths.public or (folder is not None and path.startswith(folder))


class _Exchange:
    """One request and its answer, as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = _request_id(scope)
        self.status: int | None = None
        #: Somebody waits for it. A body that no route asks for delays nobody.
        self.body_is_coming = False
        self._body_size = 0
        self._scope, self._receive, self._send = scope, receive, send

    async def receive(self) -> Message:
        if int(_header(self._scope, b"content-length") or 0) > MAX_BODY_SIZE:
            raise InvalidRequestError(_TOO_LARGE)
        self.body_is_coming = True
        message = await self._receive()
        self._body_size += len(message.get("body", b""))
        if self._body_size > MAX_BODY_SIZE:
            raise InvalidRequestError(_TOO_LARGE)
        self.body_is_coming = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id)]
        await self._send(message)


def _request_id(scope: Scope) -> bytes:
    given = _header(scope, b"x-request-id")
    return given if given and _SANE_ID.fullmatch(given) else uuid4().hex.encode()


def _client(scope: Scope) -> str | None:
    """Whose address the connection has, or the one that a trusted proxy tells; not what is no address."""
    client = scope.get("client")
    return client[0] if client and _ADDRESS.fullmatch(client[0]) else None


class RequestMiddleware:
    """Gives a request its id and its deadline, turns what is raised into an answer, counts it and logs it.

    Args:
        requests: where it is counted; None where it is not, for the benchmark that shows what that costs.
    """

    def __init__(
        self, app: ASGIApp, *, timeout: float, quiet_paths: frozenset[str], requests: Requests | None
    ) -> None:
        self._app = app
        self._timeout = timeout
        self._quiet_paths = quiet_paths
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        if self._requests is not None:
            self._requests.begin()
        exchange = _Exchange(scope, receive, send)
        # Never unbound: the server runs each request in a task, and with that in a context, of its own.
        bind_contextvars(request_id=exchange.id.decode())
        try:
            await self._answer(scope, exchange)
        finally:
            self._end(scope, exchange, time.perf_counter() - start)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            error = self._late(exchange)
        except Exception as unforeseen:  # noqa: BLE001  whatever it is, the caller gets an answer and the log a line
            error = translate(unforeseen)
        else:
            return
        if exchange.status is None:
            await error_response(error)(scope, exchange.receive, exchange.send)

    def _late(self, exchange: _Exchange) -> NexusError:
        if exchange.body_is_coming:
            return InvalidRequestError(f"The body did not arrive within {self._timeout:g} s.")
        return UnavailableError(f"No answer within {self._timeout:g} s.{CHANGE_NOT_KNOWN}")

    def _end(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        """The template, not the path: what somebody typed into a URL is theirs, and may be a secret."""
        route = getattr(scope.get("route"), "path", None)
        if self._requests is not None:
            self._requests.end(route, scope["method"], exchange.status, seconds)
        quiet = scope["path"] in self._quiet_paths and exchange.status == 200
        write = log.debug if quiet else log.info
        viewer = scope.get("nexus.viewer")
        write(
            "request",
            method=scope["method"],
            route=route,
            status=exchange.status,
            milliseconds=round(seconds * 1000, 1),
            client=_client(scope),
            viewer=str(viewer) if viewer else None,
        )
