"""Errors the API answers with. One class per code, each with its status; one handler renders them.

NexusError
├── InvalidRequestError      400 E_INVALID_REQUEST
├── InternalOnlyError        403 E_INTERNAL_ONLY
├── NotFoundError            404 E_NOT_FOUND
├── MethodNotAllowedError    405 E_METHOD_NOT_ALLOWED
├── InternalError            500 E_INTERNAL
└── UnavailableError         503 E_UNAVAILABLE
"""

from typing import ClassVar


class NexusError(Exception):
    """Something the caller is told about: a status, a code for programs, a message for people."""

    status: ClassVar[int]
    code: ClassVar[str]
    message: ClassVar[str]

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


class InternalOnlyError(NexusError):
    status = 403
    code = "E_INTERNAL_ONLY"
    message = "This API is internal: the header X-Nexus-Internal is missing or wrong."


class NotFoundError(NexusError):
    status = 404
    code = "E_NOT_FOUND"
    message = "There is nothing at this path."


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
