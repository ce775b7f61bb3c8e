"""What people and probes ask: /health, /ready, /model, /models, /metrics, and a page that lists them. Off the hot path: plain FastAPI."""

import html
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from zebra_assets.contracts.code_approval import CodeApproval
from zebra_assets.errors import ZebraError
from zebra_serving.deployment import Deployment
from zebra_serving.description import describe
from zebra_serving.fleet import Fleet
from zebra_serving.guard import Guard
from zebra_serving.loader import Loader
from zebra_serving.problems import MethodNotAllowed, NoSuchPath, answer_to
from zebra_serving.routing.figures import RouteView
from zebra_serving.routing.figures import view as view_of
from zebra_serving.standing import Failure


class Health(BaseModel):
    """The process answers; nothing is said about the model."""

    status: str = "alive"


class Ready(BaseModel):
    """A version is loaded. `stale_since` is set while the ledger is away or silent, and the last good version serves."""

    ready: bool = True
    model: str
    version: str
    ledger_age_s: float | None
    stale_since: datetime | None
    stale_reason: str | None


class ReloadFailure(BaseModel):
    """The last version that was not taken, and why."""

    version: str
    reason: str
    message: str
    fix: str | None
    at: datetime
    attempts: int


class Drift(BaseModel):
    """MLflow's alias differs from the ledger."""

    mlflow: str | None
    ledger: str
    since: datetime
    fix: str


class CodeView(BaseModel):
    """Whose word lets this version run code of its own, and where the audit log says so."""

    approved_by: str
    approved_at: datetime
    reason: str
    entry: int


class ModelView(BaseModel):
    """The version in force, what it reads, and what stands in the way of another one. Fields are null while nothing is loaded."""

    name: str
    alias: str
    version: str | None
    run_id: str | None = None
    manifest_id: str | None = None
    digest: str | None = None
    promoted_at: datetime | None = None
    loaded_at: datetime | None = None
    form: str | None = None
    form_checked: str | None = None
    refused_forms: dict[str, str] = {}
    self_test: str | None = None
    columns: list[dict[str, Any]] = []
    keys: list[str] = []
    metrics: dict[str, float] = {}
    own_code: CodeView | None = None
    previous_version: str | None = None
    memory_bytes: int = 0
    last_reload_failure: ReloadFailure | None = None
    stale_since: datetime | None = None
    stale_reason: str | None = None
    alias_drift: Drift | None = None
    alias_unknown: str | None = None
    route: RouteView | None = None


def control_app(fleet: Fleet, guard: Guard, metrics: Callable[[], tuple[bytes, str]]) -> FastAPI:
    """The control routes as an application of their own; `app` mounts the doors beside it.

    Args:
        metrics: the page of /metrics and its content type.
    """
    default = fleet.default
    loader = default.loader
    # FastAPI's docs pages fetch their scripts from a CDN and stay blank without one; `/` is ours and needs nothing.
    app = FastAPI(title=f"{loader.model} ({loader.alias})", docs_url=None, redoc_url=None)

    @app.get("/health", summary="Is the process alive")
    async def health() -> Health:
        return Health()

    @app.get("/ready", summary="Can it predict", responses={503: {"description": "nothing is loaded; the reason and what to do"}})
    async def ready() -> Ready:
        return _ready(loader)

    @app.get("/model", summary="Which version serves")
    async def model() -> ModelView:
        return _view(default)

    @app.get("/models", summary="Which models there are")
    async def models() -> list[ModelView]:
        return [_view(one) for one in fleet]

    absent: dict[int | str, dict[str, Any]] = {
        404: {"description": "another name"},
        503: {"description": "nothing is loaded; the reason and what to do"},
    }

    @app.get("/models/{name}/ready", summary="Can a model predict", responses=absent)
    async def named_ready(name: str) -> Ready:
        return _ready(fleet[name].loader)

    @app.get("/models/{name}", summary="Which version of a model serves", responses={404: {"description": "another name"}})
    async def named(name: str) -> ModelView:
        one = fleet[name]
        return _view(one)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def figures() -> Response:
        page, kind = metrics()
        return Response(page, media_type=kind)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()))

    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            path, fix = request.url.path, "GET / lists the paths"
            if error.status_code == 405:
                error = MethodNotAllowed(f"{path} is not asked with {request.method}.", allow="GET", fix=fix)
            else:
                error = NoSuchPath(f"There is no {path} here.", fix=fix)
        status, headers, raw = answer_to(error, request.state.request_id)
        return Response(raw, status, headers)

    for kind_of_error in (ZebraError, HTTPException):
        app.add_exception_handler(kind_of_error, refuse)

    app.openapi = lambda: describe(app, fleet, callers_are_known=guard.callers_are_known)  # type: ignore[method-assign]
    return app


def _ready(loader: Loader) -> Ready:
    served = loader.current
    if served is None:
        raise loader.not_ready()
    age, (since, reason) = loader.ledger_age_s, loader.stale
    return Ready(
        model=loader.model, version=served.promotion.version, ledger_age_s=None if age is None else round(age, 3),
        stale_since=since, stale_reason=reason,
    )  # fmt: skip


def _view(one: Deployment) -> ModelView:
    loader, watch = one.loader, one.watch
    served, previous, failure = loader.current, loader.previous, loader.standing.failure
    since, reason = loader.stale
    view = ModelView(
        name=loader.model, alias=loader.alias, version=None, last_reload_failure=_failure(failure) if failure else None,
        stale_since=since, stale_reason=reason,
        alias_drift=Drift(**vars(watch.drift)) if watch.drift else None, alias_unknown=watch.unknown,
        previous_version=previous.promotion.version if previous else None, memory_bytes=one.weight, route=view_of(one.router),
    )  # fmt: skip
    if served is None:
        return view
    p = served.promotion
    about = {
        "version": p.version, "run_id": p.run_id, "manifest_id": p.manifest_id, "digest": p.model_digest, "promoted_at": p.created_at,
        "loaded_at": served.loaded_at, "form": served.model.form, "form_checked": served.checked,
        "refused_forms": dict(served.refused), "self_test": served.self_test,
        "columns": served.schema.columns(), "keys": [k.name for k in served.schema.keys], "metrics": dict(served.metrics),
        "own_code": _code(served.approval) if served.approval else None,
    }  # fmt: skip
    return view.model_copy(update=about)


def _code(word: CodeApproval) -> CodeView:
    return CodeView(approved_by=word.actor, approved_at=word.created_at, reason=word.reason, entry=word.seq)


def _failure(failure: Failure) -> ReloadFailure:
    return ReloadFailure.model_validate({name: getattr(failure, name) for name in ReloadFailure.model_fields})


def _page(openapi: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{method.upper()} {path}</code></td><td>{html.escape(entry.get('summary', ''))}</td></tr>"
        for path, methods in sorted(openapi["paths"].items())
        for method, entry in methods.items()
    )
    title = html.escape(openapi["info"]["title"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<style>body{font:16px system-ui;margin:3rem auto;max-width:44rem}td{padding:.3rem 1rem .3rem 0}</style>"
        f"<h1>{title}</h1><table>{rows}</table><p>The whole interface: <a href=openapi.json>openapi.json</a></p>"
    )
