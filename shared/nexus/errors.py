"""Errors the API answers with. One class per code, each with its status; one handler renders them.

NexusError
├── InvalidRequestError          400 E_INVALID_REQUEST
├── NameInvalidError             400 E_NAME_INVALID
├── UnauthenticatedError         401 E_UNAUTHENTICATED
├── InternalOnlyError            403 E_INTERNAL_ONLY
├── ForbiddenError               403 E_FORBIDDEN
├── DefaultLibraryForbiddenError 403 E_DEFAULT_LIBRARY_FORBIDDEN
├── LastAdminForbiddenError      403 E_LAST_ADMIN_FORBIDDEN, reserved: no route of S0 gives it
├── NotFoundError                404 E_NOT_FOUND
│   ├── LibraryNotFoundError     404 E_LIBRARY_NOT_FOUND
│   └── MediaNotFoundError       404 E_MEDIA_NOT_FOUND
├── MethodNotAllowedError        405 E_METHOD_NOT_ALLOWED
├── InternalError                500 E_INTERNAL
└── UnavailableError             503 E_UNAVAILABLE
    └── AuthUnavailableError     503 E_AUTH_UNAVAILABLE
"""

from typing import ClassVar


class NexusError(Exception):
    """Something the caller is told about: a status, a code for programs, a message for people."""

    status: ClassVar[int]
    code: ClassVar[str]
    message: ClassVar[str]
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str | None = None) -> None:
        self.text = message or self.message
        super().__init__(self.text)

    def envelope(self) -> dict[str, object]:
        """The body of the answer: `{"error": {"code", "message"}}`."""
        return {"error": {"code": self.code, "message": self.text}}


class InvalidRequestError(NexusError):
    status = 400
    code = "E_INVALID_REQUEST"
    message = "The request is malformed."


class NameInvalidError(NexusError):
    status = 400
    code = "E_NAME_INVALID"
    message = "A name has 1 to 100 characters, not counting spaces at its ends."


class UnauthenticatedError(NexusError):
    status = 401
    code = "E_UNAUTHENTICATED"
    message = "A valid bearer token is needed: Authorization: Bearer <token>."
    headers = {"WWW-Authenticate": "Bearer"}  # noqa: RUF012  RFC 9110, 15.5.2


class InternalOnlyError(NexusError):
    status = 403
    code = "E_INTERNAL_ONLY"
    message = "This API is internal: the header X-Nexus-Internal is missing or wrong."


class ForbiddenError(NexusError):
    status = 403
    code = "E_FORBIDDEN"
    message = "Only an admin of this library may do that."


class DefaultLibraryForbiddenError(NexusError):
    status = 403
    code = "E_DEFAULT_LIBRARY_FORBIDDEN"
    message = "A default library is neither renamed nor deleted."


class LastAdminForbiddenError(NexusError):
    status = 403
    code = "E_LAST_ADMIN_FORBIDDEN"
    message = "A library keeps at least one admin."


class NotFoundError(NexusError):
    status = 404
    code = "E_NOT_FOUND"
    message = "There is nothing at this path."


class LibraryNotFoundError(NotFoundError):
    code = "E_LIBRARY_NOT_FOUND"
    message = "There is no such library."


class MediaNotFoundError(NotFoundError):
    code = "E_MEDIA_NOT_FOUND"
    message = "There is no such media."


class MethodNotAllowedError(NexusError):
    status = 405
    code = "E_METHOD_NOT_ALLOWED"
    message = "This path does not know that method."


class InternalError(NexusError):
    status = 500
    code = "E_INTERNAL"
    message = "Something went wrong on our side."


class UnavailableError(NexusError):
    status = 503
    code = "E_UNAVAILABLE"
    message = "A service that Nexus needs is away."


class AuthUnavailableError(UnavailableError):
    code = "E_AUTH_UNAVAILABLE"
    message = "The identity provider is away, so no token can be verified."
