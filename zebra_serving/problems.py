"""What a request can do wrong, what the server can lack, and how each leaves the server.

Every refusal leaves the server as the same JSON: ``{"error", "fix", "request_id"}``, and ``"errors"`` where single fields
are to blame. Raised by the doors, the data plane, the guard and the routes.
"""

import logging
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import msgspec

from zebra_assets.errors import ZebraError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One value that does not fit. ``row`` counts from 0; ``field`` is None when the row as a whole is wrong."""

    row: int
    field: str | None
    expected: str
    got: str


class Problem(ZebraError):
    """Base of the refusals below."""

    retry_after_s: int | None = None
    headers: ClassVar[dict[str, str]] = {}

    def head(self) -> dict[str, str]:
        """Headers of the answer."""
        return dict(self.headers)

    def details(self) -> dict[str, Any]:
        """What the JSON answer says beyond `error` and `fix`."""
        return {}


class Malformed(Problem):
    """The body is not JSON."""

    http_status = 400


class UntrustedHost(Problem):
    """The Host header names somebody else: a page of another site, by DNS rebinding."""

    http_status = 400


class Unauthorized(Problem):
    """No bearer token, or one that is worth nothing."""

    http_status = 401
    headers: ClassVar[dict[str, str]] = {"www-authenticate": "Bearer"}


class Forbidden(Problem):
    """Known, and not allowed to ask this."""

    http_status = 403
    headers: ClassVar[dict[str, str]] = {"www-authenticate": 'Bearer error="insufficient_scope"'}


class NoSuchPath(Problem):
    """Nothing is served there."""

    http_status = 404


class MethodNotAllowed(Problem):
    """The path exists and is asked for differently.

    Args:
        allow: the method, or methods, that it knows.
    """

    http_status = 405

    def __init__(self, message: str, *, allow: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self._allow = allow

    def head(self) -> dict[str, str]:
        return {"allow": self._allow}


class NotExplainable(Problem):
    """There is nothing to explain this model with, or nothing that could be shared out between its columns."""

    http_status = 409


class TooLarge(Problem):
    """More bytes or rows than one request may bring."""

    http_status = 413


class Encoded(Problem):
    """A compressed body: a few bytes could become any number."""

    http_status = 415
    headers: ClassVar[dict[str, str]] = {"accept-encoding": "identity"}


class NotJson(Problem):
    """The Content-Type is not JSON. Insisted on, because other types pass between sites without a browser's preflight."""

    http_status = 415


class InputInvalid(Problem):
    """Rows that do not fit the model's columns.

    Args:
        errors: at most 100 of them.
        total: how many there are.
    """

    http_status = 422

    def __init__(self, errors: list[FieldError], total: int | None = None, *, message: str | None = None, fix: str | None = None) -> None:
        count = total or len(errors)
        super().__init__(
            message or f"{count} value{'s do' if count != 1 else ' does'} not fit the model's columns.",
            fix=fix or "mend the fields listed in `errors`; GET /model shows the columns",
        )
        self.errors = errors

    def details(self) -> dict[str, Any]:
        return {"errors": [asdict(e) for e in self.errors]}


class RateLimited(Problem):
    """More requests than this caller may send.

    Args:
        after_s: seconds until the next one would pass.
    """

    http_status = 429

    def __init__(self, message: str, *, after_s: float, fix: str | None = None) -> None:
        super().__init__(message, fix=fix or "ask more slowly")
        self.retry_after_s = max(1, math.ceil(after_s))


class HeadTooLarge(Problem):
    """More headers than a request needs."""

    http_status = 431


class NotReady(Problem):
    """No version is loaded (yet)."""

    http_status = 503
    retry_after_s = 1


class Overloaded(Problem):
    """More requests wait than can be answered soon."""

    http_status = 503
    retry_after_s = 1


class Crowded(Overloaded):
    """More connections than the server holds; this one is given up, so that there is room for the next."""

    headers: ClassVar[dict[str, str]] = {"connection": "close"}


class ModelFailed(Problem):
    """The model itself broke on rows that fit its columns."""

    http_status = 500


class TooSlow(Problem):
    """No whole explanation was found in time."""

    http_status = 504


def answer_to(error: Exception, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and JSON body that tell a client about ``error``.

    Of errors that are not meant for people only the request id is told; the traceback is in the log.
    """
    status, headers = 500, dict[str, str]()
    body: dict[str, Any] = {"error": "The server has a fault of its own.", "fix": f"look for {request_id} in its log"}
    if isinstance(error, ZebraError):
        status, body = error.http_status, {"error": error.message, "fix": error.fix}
    if isinstance(error, Problem):
        headers, body = error.head(), {**body, **error.details()}
        if error.retry_after_s is not None:
            headers["retry-after"] = str(error.retry_after_s)
    if status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    raw = msgspec.json.encode({**body, "request_id": request_id})
    return status, {**headers, "content-type": "application/json", "content-length": str(len(raw))}, raw
