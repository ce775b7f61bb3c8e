"""The service contract of akerbp.mlops, for programs that call their models by it: `status`, `prediction`, `model_id`.

    POST /akerbp/predict, /akerbp/{model}/predict with any JSON body of /predict
    -> {"status": "ok", "prediction": [label, …], "score": [… or null], "model_id": "churn-prod-7"}
    -> {"status": "error", "message": …, "fix": …, "errors": […]} with the HTTP status that /predict would give

`model_id` is model, alias (their environment) and version. Who is not let in gets the house's own refusal, for it is given before any
door is reached.
"""

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from zebra_serving.answer import Answer
from zebra_serving.doors.wire import PATIENCE, PROBLEM, SAID, patience, posted_json, send_json
from zebra_serving.fleet import Fleet
from zebra_serving.problems import answer_to

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


class AkerbpDoor:
    """The prediction service of every model of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._planes = {"/akerbp/predict": fleet.default.plane, **{f"/akerbp/{one.model}/predict": one.plane for one in fleet}}
        self.paths = {path: path for path in self._planes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        """Answer one request, refusals too."""
        try:
            body = await posted_json(scope, receive, headers)
            answer = await self._planes[scope["path"]].answer(
                lambda served: served.schema.decode(body),
                _write,
                headers=headers,
                size=len(body),
                request_id=request_id,
                patience_s=patience(headers),
            )
        except ClientDisconnect:
            raise
        except Exception as error:
            status, body, more = refusal(error, request_id)
            await send_json(send, body, status, more=more)
            return
        await send_json(send, answer)


def refusal(error: Exception, request_id: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers that tell a client of this contract about ``error``; for the training service, too."""
    status, more, raw = answer_to(error, request_id)
    said = _decode(raw)
    body = _encode({"status": "error", "message": said.pop("error"), **said})
    return status, body, [(name.encode(), value.encode()) for name, value in more.items() if not name.startswith("content-")]


def _write(answer: Answer) -> bytes:
    p, scored = answer.served.promotion, answer.scored
    said = {"status": "ok", "prediction": scored.labels, "score": scored.scores, "model_id": f"{p.model}-{p.alias}-{p.version}"}
    return _encode(said)


def openapi(row: dict[str, Any]) -> dict[str, Any]:
    """The path's OpenAPI entry; ``row`` is the entry of /predict, whose bodies it takes."""
    error = {
        "type": "object", "required": ["status", "message"],
        "properties": {"status": {"const": "error"}, "message": {"type": "string"}, "fix": {"type": ["string", "null"]}},
    }  # fmt: skip
    fields = {
        "status": {"const": "ok"},
        "prediction": {"type": "array"},
        "score": {"type": ["array", "null"]},
        "model_id": {"type": "string"},
    }
    done = {"type": "object", "required": ["status", "prediction", "model_id"], "properties": fields}
    responses: dict[str, Any] = {
        str(s): {"description": text, "content": {"application/json": {"schema": {"anyOf": [error, PROBLEM]}}}}
        for s, text in {**SAID, 405: "asked with another method"}.items()
    }
    responses["200"] = {"description": "one prediction per row", "content": {"application/json": {"schema": done}}}
    body = {"required": True, "content": {"application/json": row["post"]["requestBody"]["content"]["application/json"]}}
    said = {"summary": "akerbp.mlops: predict", "parameters": [PATIENCE], "requestBody": body}
    return {"post": {**said, "responses": dict(sorted(responses.items()))}}
