"""`POST /predict?explain=true`: the answer of `/predict`, and beside each prediction each column's share of it.

    -> {…, "predictions": [{"prediction", "score", "event_id": null, "explanation": {"base_value", "value", "contributions",
        "standard_error", "complete"}}, …], "explained": {"output", "method", "background_rows", "seconds", "complete"}}

``base_value + sum(contributions) = value``. Not captured: whoever asks why has asked what before, and that was captured. The version
in force is explained, also where a route shares requests out. Asked by `native`; the work is `explain/helper`'s.
"""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from zebra_serving.access.log import ANSWERING
from zebra_serving.dataplane import INLINE_BYTES
from zebra_serving.doors.wire import patience, posted_json, send_json
from zebra_serving.explain.helper import Helper
from zebra_serving.explain.words import Share, Told
from zebra_serving.fleet import Fleet
from zebra_serving.problems import FieldError, InputInvalid, NotExplainable, TooLarge
from zebra_serving.served import Served

MAX_ROWS = 16
_SUFFIX = "?explain"
_encode = msgspec.json.Encoder().encode


class _Explanation(msgspec.Struct, gc=False):
    base_value: float
    value: float
    contributions: dict[str, float]
    standard_error: float
    complete: bool


class Explaining:
    """Answers requests for an explanation. Raises problems, as a door does."""

    def __init__(self, fleet: Fleet, helper: Helper) -> None:
        self._helper = helper
        self._deployments = {"/predict": fleet.default, **{f"/models/{one.model}/predict": one for one in fleet}}

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        """Answer one request.

        Raises:
            MethodNotAllowed, NotJson, TooLarge, NotReady, and what `RowSchema.decode` and `Helper.explain` raise.
        """
        one = self._deployments[scope["path"]]
        scope["path"] += _SUFFIX  # a row of its own in the figures: seconds, where others take microseconds
        began, status = time.perf_counter(), 500
        try:
            body = await posted_json(scope, receive, headers)
            served = await one.plane.serving(headers, patience(headers))
            one.plane.used_at = time.monotonic()
            if (asked := ANSWERING.get()) is not None:
                asked.append(served)
            if served.approval is not None:
                raise NotExplainable("The version runs code of its own, which only its fenced process may do.", fix="GET /model")
            folder = one.staging.folder(served.promotion)
            rows = _rows(served, body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(_rows, served, body)
            told = await self._helper.explain(folder, served.promotion.model_digest, rows, patience(headers))
            status = 200
        except Exception as error:
            status = getattr(error, "http_status", 500)
            raise
        finally:
            seconds = time.perf_counter() - began
            one.metrics.explanations.labels(str(status)).inc()
            one.metrics.explanation.observe(seconds)
        await send_json(send, _written(served, told, seconds))


def asked(scope: Scope) -> bool:
    """Whether the query asks for an explanation. Raises `InputInvalid` where it cannot be told."""
    said = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("explain", ["false"])
    if said == ["true"]:
        return True
    if said == ["false"]:
        return False
    wrong = FieldError(0, "explain", "true or false", ", ".join(said)[:60])
    raise InputInvalid([wrong], message="The query's `explain` is neither true nor false.", fix="POST /predict?explain=true")


def explained_routes(fleet: Fleet) -> list[str]:
    """What the figures call requests for an explanation."""
    return [f"/predict{_SUFFIX}", *(f"/models/{one.model}/predict{_SUFFIX}" for one in fleet)]


def _rows(served: Served, body: bytes) -> list[dict[str, Any]]:
    rows, names = served.schema.decode(body), served.schema.names
    if len(rows) > MAX_ROWS:
        raise TooLarge(
            f"{len(rows):,} rows; {MAX_ROWS} can be explained at once.", fix=f"send {MAX_ROWS} or fewer, or leave out ?explain=true"
        )
    return [dict(zip(names, values, strict=False)) for values in rows.values]


def _written(served: Served, told: Told, seconds: float) -> bytes:
    promotion, names = served.promotion, served.schema.names

    def one(share: Share) -> dict[str, Any]:
        shares = dict(zip(names, share.contributions, strict=True))
        explanation = _Explanation(share.base, share.value, shares, share.standard_error, share.complete)
        return {"prediction": share.label, "score": share.score, "event_id": None, "explanation": explanation}

    about = {
        "output": told.output,
        "method": told.method,
        "background_rows": told.background,
        "seconds": round(seconds, 3),
        "complete": all(share.complete for share in told.rows),
    }
    return _encode(
        {
            "model": promotion.model,
            "alias": promotion.alias,
            "version": promotion.version,
            "manifest_id": promotion.manifest_id,
            "predictions": [one(share) for share in told.rows],
            "explained": about,
        }
    )


PARAMETER = {
    "name": "explain",
    "in": "query",
    "description": f"Say why: each column's share of the answer, for up to {MAX_ROWS} rows, as JSON.",
    "schema": {"type": "boolean", "default": False},
}
SAID = {409: "the model cannot be explained, or explanations are not installed", 504: "no explanation was found in time"}
EXPLAINED = {
    "type": "object",
    "description": "How it was explained; with ?explain=true only.",
    "properties": {
        "output": {"type": "string"},
        "method": {"type": "string"},
        "background_rows": {"type": "integer"},
        "seconds": {"type": "number"},
        "complete": {"type": "boolean", "description": "false: time was up before all rows were exact or precise enough"},
    },
    "required": ["output", "method", "background_rows", "seconds", "complete"],
}


def one(columns: list[str]) -> dict[str, Any]:
    """One row's explanation as JSON Schema."""
    return {
        "type": "object",
        "description": "base_value + the sum of contributions = value; with ?explain=true only.",
        "properties": {
            "base_value": {"type": "number", "description": "the mean over the background rows"},
            "value": {"type": "number"},
            "contributions": {"type": "object", "properties": {name: {"type": "number"} for name in columns}},
            "standard_error": {"type": "number", "description": "the largest of the contributions'; 0 where they are exact"},
            "complete": {"type": "boolean"},
        },
        "required": ["base_value", "value", "contributions", "standard_error", "complete"],
    }
