"""Composition root of the server: which real adapters, which doors, what starts and stops with the process.

`create_app` gives one ASGI application: a thin front (host, token, request id, metrics, problems as JSON) with the doors
on one side and the FastAPI control routes on the other. Called by `__main__` and by tests; the only room here that
chooses adapters.
"""

import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.contracts.model_folder import ModelFeature
from zebra_assets.contracts.model_spec import ModelSpec, load_model_spec
from zebra_assets.contracts.names import check_name, safe_join
from zebra_assets.contracts.ports import EventStore, Ledger, Records
from zebra_assets.contracts.sketch import Sketches
from zebra_assets.errors import ZebraError
from zebra_assets.settings import Settings
from zebra_serving.alias_watch import AliasWatch
from zebra_serving.capture import Capture, Recording
from zebra_serving.compile.workshop import Workshop
from zebra_serving.dataplane import DataPlane
from zebra_serving.doors.mlflow_scoring import MlflowDoor
from zebra_serving.doors.native import NativeDoor
from zebra_serving.doors.open_inference import OpenInferenceDoor
from zebra_serving.doors.wire import Door
from zebra_serving.fetch import LightSource, Source
from zebra_serving.guard import Guard
from zebra_serving.loader import Loader
from zebra_serving.metrics import Metrics
from zebra_serving.problems import answer_to
from zebra_serving.routes import control_app
from zebra_serving.served import Served
from zebra_serving.staging import Staging
from zebra_serving.state_file import StateFile

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Ids of our own: a process's random half and a count. Random throughout, each would cost 7 us for asking the kernel.
_PROCESS, _count = secrets.token_hex(4), itertools.count()
_ROUTES = frozenset({"/", "/health", "/ready", "/model", "/metrics", "/openapi.json"})


class App:
    """The front: an ASGI application."""

    def __init__(self, control: FastAPI, doors: list[Door], guard: Guard, metrics: Metrics, loader: Loader, capture: Capture) -> None:
        self.control, self.loader, self.capture, self.metrics = control, loader, capture, metrics
        self._guard = guard
        self._doors = {path: door for door in doors for path in door.paths}
        self._routes = {route: route for route in _ROUTES} | {path: route for door in doors for path, route in door.paths.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.control(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"")
        request_id = asked.decode() if _REQUEST_ID.fullmatch(asked) else f"{_PROCESS}{next(_count):08x}"
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        path = scope["path"]
        try:
            if (problem := self._guard.check(path, headers)) is not None:
                raise problem
            if (door := self._doors.get(path) or self._doors.get(_first(path))) is not None:
                await door(scope, receive, answer, headers, request_id)
            else:
                scope["state"] = {**scope.get("state", {}), "request_id": request_id}
                await self.control(scope, receive, answer)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            if status:  # too late for another answer
                raise
            await _refuse(error, request_id, answer)
        finally:
            self.metrics.answered(self._routes.get(path) or self._routes.get(_first(path), "other"), status, time.perf_counter() - began)


def _first(path: str) -> str:
    """``/v2/models/churn`` -> ``/v2/``: the doors that own everything below a path."""
    return path[: path.find("/", 1) + 1]


async def _refuse(error: Exception, request_id: str, send: Send) -> None:
    status, headers, raw = answer_to(error, request_id)
    await send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]})
    await send({"type": "http.response.body", "body": raw})


def create_app(
    settings: Settings,
    model: str,
    alias: str = "prod",
    *,
    host: str | None = None,
    ledger: Ledger | None = None,
    registry: Source | None = None,
    events: EventStore | None = None,
    records: Records | None = None,
    sketches: Sketches | None = None,
    on_settled: Callable[[Served | None], None] = lambda served: None,
) -> App:
    """Compose a server for one model and alias; nothing runs until the application's lifespan starts.

    Args:
        host: where it will be bound, default `settings.serving_host`; decides which Host headers are accepted.
        ledger, registry, events, records, sketches: default the real ones of ``settings``.
        on_settled: see `Loader`.

    Raises:
        UsageError: not a legal model or alias name.
        SpecInvalid: the model's model.yaml is wrong, so it is not known which columns are sensitive.
    """
    check_name(model, "model")
    check_name(alias, "alias")
    spec = _spec(settings, model)
    serving = settings.home / "serving"
    metrics = Metrics()
    registry = registry or LightSource(settings.tracking)
    records = records or _records(settings)
    reachable = StateFile(settings.state).check
    capture = Capture(
        events or _events(settings),
        metrics,
        # Without model.yaml nobody knows which columns are sensitive: nothing is recorded, and /metrics counts it as sampled out.
        Recording.of(spec) if spec else Recording(),
        sketches=(sketches or _sketches(settings)) if spec else None,
        reachable=reachable,
    )
    loader = Loader(
        model,
        alias,
        ledger=ledger or _ledger(settings),
        staging=Staging(serving / "cache", registry, records, Workshop(serving / "compiled", keys=_keys(settings, spec))),
        last_good=serving / f"{model}-{alias}.last-good.json",
        interval_s=settings.reload_interval_s,
        metrics=metrics,
        reachable=reachable,
        on_settled=on_settled,
    )
    watch = AliasWatch(registry, lambda: loader.current, metrics, interval_s=10 * settings.reload_interval_s)
    plane = DataPlane(lambda: loader.current, loader.not_ready, capture, metrics)

    @asynccontextmanager
    async def lifespan(control: FastAPI) -> AsyncIterator[None]:
        for part in (capture, loader, watch):
            part.start()
        yield
        watch.stop()
        loader.stop()
        plane.close()
        capture.stop()

    control = control_app(loader, watch, metrics, lifespan)
    doors: list[Door] = [NativeDoor(plane), OpenInferenceDoor(plane, model), MlflowDoor(plane)]
    return App(control, doors, Guard(host or settings.serving_host, settings.serving_token), metrics, loader, capture)


def _spec(settings: Settings, model: str) -> ModelSpec | None:
    """The model's spec where the server has the project's files; an image may come without them."""
    folder = safe_join(settings.models_dir, model)
    return load_model_spec(folder) if (folder / "model.yaml").is_file() else None


def _keys(settings: Settings, spec: ModelSpec | None) -> list[ModelFeature]:
    """The key columns of the data that the model was trained on: a row may bring them along, and its event keeps them."""
    folder = safe_join(settings.manifests_dir, spec.datasets.train) if spec else None
    if folder is None or not (folder / "dataset.yaml").is_file():
        return []
    try:
        data = load_dataset_spec(folder)
    except ZebraError as error:  # labels cannot be joined by key then; no reason not to predict
        log.warning("rows cannot bring a key: %s", error.message)
        return []
    return [ModelFeature(name=name, dtype=data.columns[name].dtype) for name in data.key]


def _ledger(settings: Settings) -> Ledger:
    from zebra_assets.adapters.ledger import SqlLedger

    return SqlLedger(settings.state)


def _events(settings: Settings) -> EventStore:
    from zebra_assets.adapters.event_store import SqlEvents

    return SqlEvents(settings.state)


def _sketches(settings: Settings) -> Sketches:
    from zebra_assets.adapters.sketches import SqlSketches

    return SqlSketches(settings.state)


def _records(settings: Settings) -> Records:
    from zebra_assets.adapters.records import SqlRecords

    return SqlRecords(settings.state)
