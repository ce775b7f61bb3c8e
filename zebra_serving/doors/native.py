"""`POST /predict`: the house's own protocol, as plain ASGI, because a framework's validation would cost more than the model.

    {"rows": [{"tenure": 5, …}, …]}   or one bare row   {"tenure": 5, …}
    -> {"model", "alias", "version", "manifest_id", "predictions": [{"prediction", "score", "event_id"}, …]}

`score` is the probability of the positive class and null unless the task is binary; `event_id` is null where the
prediction was not captured.
"""

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from zebra_serving.dataplane import Answer, DataPlane
from zebra_serving.problems import MethodNotAllowed, NotJson, TooLarge
from zebra_serving.schema import MAX_ROWS

MAX_BYTES = 8 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


class NativeDoor:
    """The ASGI application of `/predict`. Raises problems; whoever mounts it answers them."""

    path = "/predict"

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        """Answer one request.

        Raises:
            MethodNotAllowed, NotJson, TooLarge, and what `DataPlane.answer` and `RowSchema.decode` raise.
        """
        if scope["method"] != "POST":
            raise MethodNotAllowed("Predictions are asked for with POST.", fix="curl -X POST …")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise NotJson("The Content-Type must be application/json.", fix="curl -H 'content-type: application/json' …")
        body = await _body(receive, headers)
        answer = await self._plane.answer(lambda served: served.schema.decode(body), _write, size=len(body), request_id=request_id)
        length = str(len(answer)).encode()
        start = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": answer})


def _write(answer: Answer) -> bytes:
    promotion, scored = answer.served.promotion, answer.scored
    scores = scored.scores if scored.scores is not None else [None] * len(scored.labels)
    return _encode(
        {
            "model": promotion.model,
            "alias": promotion.alias,
            "version": promotion.version,
            "manifest_id": promotion.manifest_id,
            "predictions": [
                {"prediction": label, "score": score, "event_id": event_id}
                for label, score, event_id in zip(scored.labels, scores, answer.event_ids, strict=True)
            ],
        }
    )


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


def openapi(row: dict[str, Any] | None) -> dict[str, Any]:
    """The path's OpenAPI entry; ``row`` is the JSON Schema of one row, None while nothing is loaded."""
    one = row or {"type": "object"}
    many = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_ROWS}},
        "required": ["rows"],
    }
    prediction = {
        "type": "object",
        "properties": {"prediction": {}, "score": {"type": ["number", "null"]}, "event_id": {"type": ["string", "null"]}},
        "required": ["prediction", "score", "event_id"],
    }
    names = ("model", "alias", "version", "manifest_id")
    answer = {
        "type": "object",
        "properties": {**{n: {"type": "string"} for n in names}, "predictions": {"type": "array", "items": prediction}},
        "required": [*names, "predictions"],
    }
    problem = {"type": "object", "properties": {"error": {"type": "string"}, "fix": {"type": ["string", "null"]}}, "required": ["error"]}
    said = {
        400: "not JSON", 401: "no token", 413: "too many rows or bytes", 415: "not application/json",
        422: "rows that do not fit; `errors` lists row, field, expected, got", 500: "the model failed", 503: "not ready, or too busy",
    }  # fmt: skip
    responses = {str(s): {"description": d, "content": {"application/json": {"schema": problem}}} for s, d in said.items()}
    responses["200"] = {"description": "one prediction per row", "content": {"application/json": {"schema": answer}}}
    return {
        "post": {
            "summary": "Predict",
            "description": "One bare row, or `rows` with up to 10,000. All predictions of an answer come from the version it names.",
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [many, one]}}}},
            "responses": dict(sorted(responses.items())),
        }
    }
