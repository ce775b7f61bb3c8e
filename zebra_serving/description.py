"""What `/openapi.json` says: the control routes as FastAPI describes them, the doors' own entries, and what holds for all of them.

The front may refuse any request before a route sees it, and where callers are known every route but the open ones wants a
token; both are written into every operation here, so that a client's generator and a fuzzer find them. Called by `routes`.
"""

from typing import Any

from fastapi import FastAPI

from zebra_serving.access.scopes import OPEN, Scopes
from zebra_serving.doors import akerbp, mlflow_scoring, native, open_inference_openapi
from zebra_serving.doors.wire import PROBLEM
from zebra_serving.fleet import Fleet

# Of every operation, whatever it does.
_REFUSALS = {
    400: "a Host header that names somebody else, or a body that is not what the path takes", 404: "nothing is served there",
    405: "asked with another method", 415: "a compressed body, or one of another media type",
    429: "more requests than this caller may send", 431: "too many headers",
}  # fmt: skip
_STRANGERS = {401: "no token, or one that is worth nothing", 403: "a token without the scope for this"}


def describe(app: FastAPI, fleet: Fleet, *, callers_are_known: bool) -> dict[str, Any]:
    """The whole interface as an OpenAPI document, for the versions in force now.

    Args:
        callers_are_known: whether a token is asked for.
    """
    app.openapi_schema = None  # not kept: the columns of /predict change with the version
    document, default = FastAPI.openapi(app), fleet.default.loader.current
    for one in fleet:
        path = "/predict" if one is fleet.default else f"/models/{one.model}/predict"
        entry = native.openapi(one.loader.current.schema.openapi() if one.loader.current else None)
        document["paths"] |= {path: entry, f"/akerbp{path.removeprefix('/models')}": akerbp.openapi(entry)}
    document["paths"] |= open_inference_openapi.openapi(fleet) | mlflow_scoring.openapi(default.schema if default else None)
    scopes = Scopes()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            guarded = callers_are_known and scopes.needed(method.upper(), path) is not OPEN
            _complete(operation, guarded)
    if callers_are_known:
        document.setdefault("components", {})["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return document


def _complete(operation: dict[str, Any], guarded: bool) -> None:
    responses = operation["responses"]
    if "requestBody" not in operation:
        responses.pop("422", None)  # FastAPI's own word for a parameter that does not fit; ours are all strings
    for status, says in (_REFUSALS | _STRANGERS if guarded else _REFUSALS).items():
        responses.setdefault(str(status), {"description": says, "content": {"application/json": {"schema": PROBLEM}}})
    operation["responses"] = dict(sorted(responses.items()))
    if guarded:
        operation["security"] = [{"bearer": []}]
