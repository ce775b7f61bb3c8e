"""Composition root of the server: which real adapters, which doors, what starts and stops with the process.

`create_app` gives one ASGI application: a thin front (host, token, request id, metrics, problems as JSON) with the doors
on one side and the FastAPI control routes on the other. Called by `launch` and by tests; the only room here that
chooses adapters.
"""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra_assets.contracts.code_approval import Approvals
from zebra_assets.contracts.ports import EventStore, Ledger, Records
from zebra_assets.contracts.route import Routes
from zebra_assets.contracts.sketch import Sketches
from zebra_assets.settings import Settings
from zebra_serving.access.identities import Identity
from zebra_serving.access.log import ANSWERING, AccessLog
from zebra_serving.dataplane import PATIENCE_S
from zebra_serving.deployment import Deployment, Ports
from zebra_serving.doors.akerbp import AkerbpDoor
from zebra_serving.doors.explaining import Explaining, explained_routes
from zebra_serving.doors.mlflow_scoring import MlflowDoor
from zebra_serving.doors.native import NativeDoor
from zebra_serving.doors.open_inference import OpenInferenceDoor
from zebra_serving.doors.wire import Door
from zebra_serving.explain.helper import Helper
from zebra_serving.fetch import LightSource, Source
from zebra_serving.figures import Figures
from zebra_serving.fleet import Fleet
from zebra_serving.guard import Guard
from zebra_serving.metrics import collected, page_of
from zebra_serving.problems import answer_to
from zebra_serving.served import Served
from zebra_serving.state_file import StateFile

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zebra_serving.rpc.server import RpcServer
    from zebra_serving.tracing import Tracing

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Ids of our own: a process's random half and a count. Random throughout, each would cost 7 us for asking the kernel.
_PROCESS, _count = secrets.token_hex(4), itertools.count()
_INFER = "/v2/infer"  # predictions apart from V2's other answers: /v2/health/ready is 503 by design while nothing is loaded
_ROUTES = frozenset({"/", "/health", "/ready", "/model", "/models", "/models/", "/metrics", "/openapi.json"})


class App:
    """The front: an ASGI application.

    Args:
        life: answers the server when it starts and ends.
        control: makes the control routes.

    Attributes:
        rpc: what listens for gRPC, once started; None where no setting asks for it.
    """

    def __init__(
        self,
        life: ASGIApp,
        control: "Callable[[], FastAPI]",
        doors: list[Door],
        guard: Guard,
        fleet: Fleet,
        tracing: "Tracing | None" = None,
        log: AccessLog | None = None,
    ) -> None:
        self.fleet, self.metrics = fleet, fleet.default.metrics
        self._life, self._make_control = life, control
        self.loader, self.capture = fleet.default.loader, fleet.default.capture
        self._guard, self._tracing, self._log = guard, tracing, log
        self.rpc: RpcServer | None = None
        self._doors = {path: door for door in doors for path in door.paths}
        self._routes = {route: route for route in (*_ROUTES, *explained_routes(fleet))}
        self._routes |= {path: route for door in doors for path, route in door.paths.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._life(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"")
        request_id = asked.decode() if _REQUEST_ID.fullmatch(asked) else f"{_PROCESS}{next(_count):08x}"
        status = size = 0
        who: Identity | None = None
        if self._log is not None:
            served: list[Served] = []
            ANSWERING.set(served)

        async def answer(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            else:
                size += len(message.get("body", b""))
            await send(message)

        path = scope["path"]
        tracing = self._tracing
        trace = None if tracing is None else tracing.begin(headers, scope["method"], self._route(path), request_id)
        try:
            who = self._guard.known(scope, headers, began) or await self._guard.ask(headers)
            self._guard.admit(who, scope, began)
            if (door := self._doors.get(path) or self._doors.get(_first(path))) is not None:
                await door(scope, receive, answer, headers, request_id)
            else:
                scope["state"] = {**scope.get("state", {}), "request_id": request_id}
                control = self.control if "control" in self.__dict__ else await asyncio.to_thread(lambda: self.control)
                await control(scope, receive, answer)
        except ClientDisconnect:
            pass  # counted below, as a gRPC call is that was given up
        except Exception as error:
            if status:  # too late for another answer
                raise
            await _refuse(error, request_id, answer)
        finally:
            route, seconds, status = self._route(scope["path"]), time.perf_counter() - began, status or 499
            self.metrics.answered(route, status, seconds)
            if tracing is not None and trace is not None:
                tracing.end(trace, status)
            if self._log is not None:
                name, version = who.name if who else "", served[-1] if served else None
                self._log.note(request_id, scope["method"], route, status, seconds, size, name, version)

    @cached_property
    def control(self) -> "FastAPI":
        """The control routes, made when the first of them is asked for: FastAPI takes a quarter of the time from start to prediction."""
        return self._make_control()

    def _route(self, path: str) -> str:
        """A path as figures name it: never what a client made up."""
        found = self._routes.get(path) or self._routes.get(_first(path), "other")
        return _INFER if found == "/v2" and path.endswith("/infer") else found


def _first(path: str) -> str:
    """``/v2/models/churn`` -> ``/v2/``: the doors that own everything below a path."""
    return path[: path.find("/", 1) + 1]


async def _refuse(error: Exception, request_id: str, send: Send) -> None:
    status, headers, raw = answer_to(error, request_id)
    await send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]})
    await send({"type": "http.response.body", "body": raw})


def create_app(
    settings: Settings,
    model: str | Sequence[str],
    alias: str = "prod",
    *,
    host: str | None = None,
    ledger: Ledger | None = None,
    registry: Source | None = None,
    events: EventStore | None = None,
    records: Records | None = None,
    sketches: Sketches | None = None,
    routes: Routes | None = None,
    on_settled: Callable[[str, Served | None], None] = lambda model, served: None,
    workers: int = 1,
    figures: tuple[Path, str] | None = None,
) -> App:
    """Compose a server for one alias of one or several models; nothing runs until the application's lifespan starts.

    Args:
        model: the first is the default, meant where a request names none and loaded at start; the others with their first request.
        host: where it will be bound, default `settings.serving_host`; decides which Host headers are accepted.
        ledger, registry, events, records, sketches, routes: default the real ones of ``settings``.
        on_settled: see `Deployment`.
        workers: processes of the server that this is one of.
        figures: where those put their figures, and what this one is called there; see `Figures`.

    Raises:
        UsageError, SpecInvalid: see `Deployment`.
    """
    ports = Ports(
        ledger=ledger or _ledger(settings),
        registry=registry or LightSource(settings.tracking),
        events=events or _events(settings),
        records=records or _records(settings),
        sketches=sketches or _sketches(settings),
        routes=routes or _routes(settings),
        approvals=_approvals(settings),
        reachable=StateFile(settings.state).check,
    )
    models = dict.fromkeys([model] if isinstance(model, str) else model)
    deployments = (Deployment(settings, name, alias, ports, on_settled, lazy=i > 0, workers=workers) for i, name in enumerate(models))
    fleet = Fleet(deployments, settings.serving_memory_bytes)
    helper = Helper(settings.home / "serving" / "compiled", settings.serving_explain_s, settings.serving_explain_memory_bytes)

    tracing = _tracing(settings, fleet)
    own = collected({one.model: one.metrics for one in fleet})
    shared = Figures(*figures, own) if figures else None
    log = AccessLog(settings.serving_access_log) if settings.serving_access_log else None

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        fleet.start()
        if log is not None:
            log.start()
        if settings.serving_grpc_port is not None:
            from zebra_serving.rpc.server import rpc_server  # nobody else pays for gRPC's import

            front.rpc = rpc_server(settings, front, bound, shared=shared is not None)
            await front.rpc.start()
        if shared is not None:
            shared.start()
            # Connections wait in the worker's socket until it can answer; elsewhere they would be told that it cannot yet.
            await fleet.default.settled(PATIENCE_S)
        yield
        if front.rpc is not None:
            await front.rpc.stop()
        helper.close()
        fleet.stop()
        if shared is not None:
            shared.stop()
        if log is not None:
            log.stop()
        if tracing is not None:
            tracing.close()

    doors: list[Door] = [NativeDoor(fleet, Explaining(fleet, helper)), OpenInferenceDoor(fleet), MlflowDoor(fleet), AkerbpDoor(fleet)]
    bound = host or settings.serving_host
    guard = Guard(bound, settings)

    def control() -> "FastAPI":
        from zebra_serving.routes import control_app

        return control_app(fleet, guard, shared.page if shared else lambda: page_of(own))

    front = App(Router(lifespan=lifespan), control, doors, guard, fleet, tracing, log)
    return front


def _tracing(settings: Settings, fleet: Fleet) -> "Tracing | None":
    """What sends spans, where somebody wants them; nobody else pays for OpenTelemetry's import."""
    if not settings.serving_otlp_endpoint:
        return None
    from zebra_serving.tracing import Tracing

    tracing = Tracing(settings.serving_otlp_endpoint, settings.serving_trace_share)
    for deployment in fleet:
        deployment.metrics.stages.traced = tracing.open
    return tracing


def _ledger(settings: Settings) -> Ledger:
    from zebra_assets.adapters.ledger import SqlLedger

    return SqlLedger(settings.state)


def _events(settings: Settings) -> EventStore:
    from zebra_assets.adapters.event_store import SqlEvents

    return SqlEvents(settings.state)


def _sketches(settings: Settings) -> Sketches:
    from zebra_assets.adapters.sketches import SqlSketches

    return SqlSketches(settings.state)


def _routes(settings: Settings) -> Routes:
    from zebra_assets.adapters.routes import SqlRoutes

    return SqlRoutes(settings.state)


def _approvals(settings: Settings) -> Approvals:
    from zebra_assets.adapters.approvals import SqlApprovals

    return SqlApprovals(settings.state)


def _records(settings: Settings) -> Records:
    from zebra_assets.adapters.records import SqlRecords

    return SqlRecords(settings.state)
