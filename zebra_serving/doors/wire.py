"""What all doors share: reading a JSON body with its limits, sending one, and how a door is described to clients."""

from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from zebra_serving.dataplane import PATIENCE_S
from zebra_serving.problems import MethodNotAllowed, NotJson, TooLarge

MAX_BYTES = 8 * 1024 * 1024

PROBLEM = {"type": "object", "properties": {"error": {"type": "string"}, "fix": {"type": ["string", "null"]}}, "required": ["error"]}
SAID = {
    400: "not JSON", 401: "no token", 413: "too many rows or bytes", 415: "not application/json",
    422: "rows that do not fit; `errors` lists row, field, expected, got", 500: "the model failed", 503: "not ready, or too busy",
}  # fmt: skip


class Door(Protocol):
    """One protocol. Raises problems; the front answers them."""

    @property
    def paths(self) -> dict[str, str]:
        """Where it is asked, and what /metrics calls it there; ``/v2/`` stands for everything below."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None: ...


async def posted_json(scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The body of a POST that says it is JSON.

    Raises:
        MethodNotAllowed, NotJson, TooLarge.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed("Predictions are asked for with POST.", fix="curl -X POST …")
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise NotJson("The Content-Type must be application/json.", fix="curl -H 'content-type: application/json' …")
    return await _body(receive, headers)


def expect_get(scope: Scope) -> None:
    """Raises `MethodNotAllowed`."""
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"{scope['path']} is not asked with {scope['method']}.", fix="curl -X GET …")


def patience(headers: dict[bytes, bytes]) -> float:
    """Seconds this client will wait: its `x-timeout-ms`, at most our own patience."""
    asked = headers.get(b"x-timeout-ms", b"")
    return min(int(asked) / 1000, PATIENCE_S) if asked.isdigit() and len(asked) < 9 and int(asked) else PATIENCE_S


async def send_json(send: Send, body: bytes, status: int = 200, kind: bytes = b"application/json") -> None:
    """One whole answer."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > MAX_BYTES:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > MAX_BYTES:
            raise _too_large()
        return body
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large() -> TooLarge:
    return TooLarge(f"The body has more than {MAX_BYTES // 1024 // 1024} MiB.", fix="send the rows in several requests")
