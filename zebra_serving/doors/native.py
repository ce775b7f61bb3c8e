"""`POST /predict`: the house's own protocol, as plain ASGI, because a framework's validation would cost more than the model.

    {"rows": [{"tenure": 5, …}, …]}   or by column   {"columns": {"tenure": [5, …], …}}   or one bare row   {"tenure": 5, …}
    -> {"model", "alias", "version", "manifest_id", "predictions": [{"prediction", "score", "event_id"}, …]}

`score` is the probability of the positive class and null unless the task is binary; `event_id` is null where the
prediction was not captured. Bodies of other media types than JSON are `arrow`'s, and what asks for an explanation is `explaining`'s.
"""

from itertools import repeat
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from zebra_serving.answer import Answer
from zebra_serving.doors import arrow, explaining
from zebra_serving.doors.explaining import Explaining
from zebra_serving.doors.wire import JSON, MAX_BYTES, PATIENCE, PROBLEM, SAID, patience, posted, send_json
from zebra_serving.fleet import Fleet
from zebra_serving.refusals import MAX_ROWS

_LIMITS = {JSON: MAX_BYTES, arrow.STREAM: arrow.MAX_BYTES, arrow.FILE: arrow.MAX_BYTES}
_encode = msgspec.json.Encoder().encode


class _Prediction(msgspec.Struct, gc=False):
    prediction: Any
    score: float | None
    event_id: str | None


class NativeDoor:
    """The ASGI application of `/predict` and `/models/{model}/predict`. Raises problems; whoever mounts it answers them."""

    def __init__(self, fleet: Fleet, why: Explaining) -> None:
        self._why = why
        self._planes = {"/predict": fleet.default.plane, **{f"/models/{one.model}/predict": one.plane for one in fleet}}
        self.paths = {path: path for path in self._planes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        """Answer one request.

        Raises:
            MethodNotAllowed, NotJson, TooLarge, and what `Explaining`, `DataPlane.answer` and `RowSchema.decode` raise.
        """
        if scope["query_string"] and explaining.asked(scope):
            await self._why(scope, receive, send, headers)
            return
        kind, body = await posted(scope, receive, headers, _LIMITS)
        quick = kind == JSON
        if not quick:
            await arrow.ready()
        answer = await self._planes[scope["path"]].answer(
            (lambda served: served.schema.decode(body)) if quick else (lambda served: arrow.read(served, body, kind)),
            _write if quick else arrow.write,
            headers=headers,
            size=len(body),
            request_id=request_id,
            patience_s=patience(headers),
        )
        await send_json(send, answer, kind=kind if quick else arrow.STREAM)


def _write(answer: Answer) -> bytes:
    promotion, scored = answer.served.promotion, answer.scored
    nothing = repeat(None)
    scores = nothing if scored.scores is None else scored.scores
    return _encode(
        {
            "model": promotion.model,
            "alias": promotion.alias,
            "version": promotion.version,
            "manifest_id": promotion.manifest_id,
            "predictions": list(map(_Prediction, scored.labels, scores, answer.event_ids or nothing)),
        }
    )


def openapi(row: dict[str, Any] | None) -> dict[str, Any]:
    """The path's OpenAPI entry; ``row`` is the JSON Schema of one row, None while nothing is loaded."""
    one = row or {"type": "object"}
    many = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_ROWS}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    # By column each list is as long as the others, which JSON Schema cannot say.
    lists = {
        name: {"type": "array" if name in one["required"] else ["array", "null"], "items": cell, "minItems": 1, "maxItems": MAX_ROWS}
        for name, cell in one.get("properties", {}).items()
    }
    cells = {**one, "properties": lists} if lists else {"type": "object"}
    columns = {"type": "object", "properties": {"columns": cells}, "required": ["columns"], "additionalProperties": False}
    said = {"prediction": {}, "score": {"type": ["number", "null"]}, "event_id": {"type": ["string", "null"]}}
    prediction = {
        "type": "object",
        "properties": {**said, "explanation": explaining.one(list(one.get("properties", {})))},
        "required": list(said),
    }
    names = ("model", "alias", "version", "manifest_id")
    answer = {
        "type": "object",
        "properties": {
            **{n: {"type": "string"} for n in names},
            "predictions": {"type": "array", "items": prediction},
            "explained": explaining.EXPLAINED,
        },
        "required": [*names, "predictions"],
    }
    responses = {
        str(status): {"description": text, "content": {"application/json": {"schema": PROBLEM}}}
        for status, text in {**SAID, **explaining.SAID}.items()
    }
    table = {arrow.STREAM.decode(): {"schema": {"type": "string", "format": "binary"}}}
    responses["200"] = {"description": "one prediction per row", "content": {"application/json": {"schema": answer}, **table}}
    return {
        "post": {
            "summary": "Predict",
            "description": "One bare row, or up to 10,000 as `rows` or by column as `columns`; more as Arrow, whose answer is Arrow too. "
            "All predictions of an answer come from the version it names.",
            "parameters": [explaining.PARAMETER, PATIENCE],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"anyOf": [many, one, columns]}}, **arrow.openapi()},
            },
            "responses": dict(sorted(responses.items())),
        }
    }
