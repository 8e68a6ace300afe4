"""Errors of the API in OpenAI's form: a status, and an object with a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sottovoce.errors import CancelledError, SamplesError, SottovoceError, UsageError
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.responses import JSONResponse

RETRY_SECONDS = 5
"""Seconds after which a refused caller may try again."""


class ApiError(SottovoceError):
    """A request that is answered with an error."""

    longest = 500

    def __init__(
        self,
        status: int,
        message: object,
        *,
        parameter: str | None = None,
        code: str | None = None,
        allowed: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.parameter, self.code = status, parameter, code
        self._allowed = sorted(allowed)

    @property
    def kind(self) -> str:
        """OpenAI's name of the kind of error."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_SECONDS)}
        if self._allowed:
            return {"Allow": ", ".join(self._allowed)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's form."""
        error = {"message": str(self), "type": self.kind, "param": self.parameter, "code": self.code}
        return {"error": error}


def as_api_error(error: BaseException) -> ApiError:
    """Return the answer to an error of the work on a request."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, CancelledError):
        return ApiError(499, "the request was cancelled before the work was done", code="cancelled")
    if isinstance(error, SamplesError | UsageError):
        return ApiError(400, error)
    if isinstance(error, SottovoceError):
        return ApiError(500, error, code="model_error")
    if isinstance(error, MemoryError):
        return ApiError(507, "the machine has too little memory for this request; send shorter audio")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ApiError(507, "the machine has no room left for the upload; try again later", code="disk_full")
    # A library's message could quote the request.
    return ApiError(500, f"the work on this request failed ({type(error).__name__})", code="internal_error")


def error_response(error: ApiError) -> JSONResponse:
    """Return the response for an error."""
    from fastapi.responses import JSONResponse

    return JSONResponse(error.to_dict(), error.status, error.headers)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an exception that a route raised."""
    from starlette.exceptions import HTTPException

    if isinstance(error, HTTPException):
        sentences = {404: "there is no such address", 405: "this address does not take this method"}
        message = sentences.get(error.status_code, one_line(error.detail, 300))
        error = ApiError(error.status_code, message)
    return error_response(as_api_error(error))
