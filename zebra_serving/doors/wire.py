"""What all doors share: reading a JSON body with its limits, sending one, and how a door is described to clients."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from zebra_serving.dataplane import PATIENCE_S
from zebra_serving.problems import MethodNotAllowed, NotJson, TooLarge

JSON = b"application/json"
MAX_BYTES = 8 * 1024 * 1024
_JSON_ONLY = {JSON: MAX_BYTES}

PROBLEM = {"type": "object", "properties": {"error": {"type": "string"}, "fix": {"type": ["string", "null"]}}, "required": ["error"]}
SAID = {
    400: "not JSON", 401: "no token", 413: "too many rows or bytes", 415: "not application/json",
    422: "rows that do not fit; `errors` lists row, field, expected, got", 500: "the model failed", 503: "not ready, or too busy",
}  # fmt: skip

# Text to a schema, because nothing is refused: what is no such number counts as none.
PATIENCE = {
    "name": "x-timeout-ms",
    "in": "header",
    "description": f"Milliseconds the client will wait, 1 to 99999999 in digits; more than {PATIENCE_S * 1000:.0f}, none, and anything "
    "else mean that many. What cannot be answered by then is refused with 503, an explanation with 504.",
    "schema": {"type": "string"},
    "example": "2000",
}


class Door(Protocol):
    """One protocol. Raises problems; the front answers them."""

    @property
    def paths(self) -> dict[str, str]:
        """Where it is asked, and what /metrics calls it there; ``/v2/`` stands for everything below."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None: ...


async def posted_json(scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The body of a POST that says it is JSON. Raises what `posted` raises."""
    return (await posted(scope, receive, headers, _JSON_ONLY))[1]


async def posted(scope: Scope, receive: Receive, headers: dict[bytes, bytes], limits: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The media type of a POST, which must be one of ``limits``, and its body of at most so many bytes.

    Raises:
        MethodNotAllowed, NotJson, TooLarge.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{scope['path']} is asked with POST.", allow="POST", fix="curl -X POST …")
    kind = headers.get(b"content-type", b"")
    limit = limits.get(kind)
    if limit is None:
        kind = kind.partition(b";")[0].strip().lower()
        limit = limits.get(kind)
    if limit is None:
        known = " or ".join(name.decode() for name in limits)
        raise NotJson(f"The Content-Type must be {known}.", fix="curl -H 'content-type: application/json' …")
    return kind, await _body(receive, headers, limit)


async def posted_by_program(scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The body of a POST whose Content-Type says nothing, as Triton's clients send it; no page of another site can have sent it.

    Raises:
        MethodNotAllowed, NotJson, TooLarge.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{scope['path']} is asked with POST.", allow="POST", fix="curl -X POST …")
    # Browsers name the page's site in each of these, and sent no such request without asking us first.
    if b"origin" in headers or b"sec-fetch-site" in headers:
        raise NotJson("The Content-Type must be application/json.", fix="curl -H 'content-type: application/json' …")
    return await _body(receive, headers, MAX_BYTES)


def expect_get(scope: Scope) -> None:
    """Raises `MethodNotAllowed`."""
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"{scope['path']} is not asked with {scope['method']}.", allow="GET, HEAD", fix="curl -X GET …")


def patience(headers: dict[bytes, bytes]) -> float:
    """Seconds this client will wait: its `x-timeout-ms`, at most our own patience."""
    asked = headers.get(b"x-timeout-ms", b"")
    return min(int(asked) / 1000, PATIENCE_S) if asked.isdigit() and len(asked) < 9 and int(asked) else PATIENCE_S


async def send_json(send: Send, body: bytes, status: int = 200, kind: bytes = JSON, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """One whole answer, JSON unless ``kind`` says otherwise."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body has more than {limit // 1024 // 1024} MiB.", fix="send the rows in several requests")
