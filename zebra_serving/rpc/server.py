"""Listens for gRPC beside the HTTP port, in the same event loop. Started and stopped by `app`'s lifespan, where a port is set."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from starlette.types import ASGIApp

from zebra_assets.errors import Unavailable
from zebra_assets.settings import Settings
from zebra_serving.doors.wire import MAX_BYTES
from zebra_serving.guard import is_loopback
from zebra_serving.problems import answer_to
from zebra_serving.rpc.gateway import Gateway, Reply, answer_of, path_of
from zebra_serving.rpc.messages import CLASSES, METHODS, SERVICE

log = logging.getLogger("zebra_serving")

MOST_CALLS = 900
GRACE_S = 5.0
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND, 413: grpc.StatusCode.RESOURCE_EXHAUSTED, 415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT, 429: grpc.StatusCode.RESOURCE_EXHAUSTED, 431: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip


def rpc_server(settings: Settings, front: ASGIApp, bound: str, *, shared: bool) -> "RpcServer":
    """The server for the port that the settings name, at the address where HTTP is; it has a Host header that ``front`` accepts."""
    names = [name.strip().replace("*", "grpc") for name in settings.serving_allowed_hosts.split(",") if name.strip()]
    name = "localhost" if is_loopback(bound) or not names else names[0]
    return RpcServer(front, bound, settings.serving_grpc_port or 0, name=name, shared=shared)


class RpcServer:
    """The protocol's six calls.

    Args:
        front: what answers HTTP.
        name: a Host header that it accepts.
        shared: whether other processes of this server listen on the same port.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(self, front: ASGIApp, host: str, port: int, *, name: str, shared: bool = False) -> None:
        self.port = port
        self._gateway, self._host, self._shared = Gateway(front, name), host, shared
        self._server: Any = None

    async def start(self) -> None:
        """Listen. Raises `Unavailable` where the port is taken."""
        # A little more than REST reads, so that it is REST's limit that is told.
        options = [("grpc.so_reuseport", int(self._shared)), ("grpc.max_receive_message_length", MAX_BYTES + 65_536)]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                _told(getattr(self, method)),
                request_deserializer=CLASSES[f"{method}Request"].FromString,
                response_serializer=CLASSES[f"{method}Response"].SerializeToString,
            )
            for method in METHODS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError as error:
            raise Unavailable(f"Port {self.port} on {self._host} cannot be bound for gRPC.", fix="ZEBRA_SERVING_GRPC_PORT") from error
        await self._server.start()
        log.info("gRPC on %s:%d", host, self.port)

    async def stop(self) -> None:
        """Let the calls in flight end."""
        await self._server.stop(GRACE_S)

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's names
        await self._get("/v2/health/live", context)
        return CLASSES["ServerLiveResponse"](live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return CLASSES["ServerReadyResponse"](ready=await self._ready("/v2/health/ready", context))

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        ready = await self._ready(f"{path_of(request.name, request.version)}/ready", context)
        return CLASSES["ModelReadyResponse"](ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        said = (await self._get("/v2", context)).document()
        return CLASSES["ServerMetadataResponse"](name=said["name"], version=said["version"])

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        said = (await self._get(path_of(request.name, request.version), context)).document()
        answer = CLASSES["ModelMetadataResponse"](name=said["name"], versions=said["versions"], platform=said["platform"])
        for side in ("inputs", "outputs"):
            for one in said[side]:
                getattr(answer, side).add(**one)
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return answer_of(await _good(await self._gateway.infer(request, *_of(context)), context))

    async def _get(self, path: str, context: Any) -> Reply:
        return await _good(await self._gateway.get(path, *_of(context)), context)

    async def _ready(self, path: str, context: Any) -> bool:
        reply = await self._gateway.get(path, *_of(context))
        return reply.status != 503 and bool(await _good(reply, context))


def _of(context: Any) -> tuple[Any, float | None, str]:
    """Metadata, seconds left, and the address of a call: ``ipv4:127.0.0.1:4711`` -> ``127.0.0.1``."""
    kind, _, rest = context.peer().partition(":")
    return context.invocation_metadata() or (), context.time_remaining(), rest.rpartition(":")[0].strip("[]") if kind[:3] == "ipv" else rest


async def _good(reply: Reply, context: Any) -> Reply:
    """``reply``, or the end of the call with what it says."""
    if reply.status < 300:
        return reply
    said = reply.document()
    words = [said["error"], *(f"{e['field']}: expected {e['expected']}, got {e['got']}" for e in (said.get("errors") or [])[:5])]
    if said.get("fix"):
        words.append(f"fix: {said['fix']}")
    if (after := reply.headers.get(b"retry-after")) is not None:
        context.set_trailing_metadata((("retry-after", after.decode()),))
    await context.abort(_CODES.get(reply.status, grpc.StatusCode.INTERNAL), "\n".join(words)[:2000])
    raise AssertionError("abort raises")


def _told(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """``method``, with what the gateway itself refuses answered as the front answers problems."""

    async def call(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except (grpc.aio.AbortError, grpc.aio.BaseError):
            raise
        except Exception as error:
            status, _, body = answer_to(error, "-")
            return await _good(Reply(status, {}, bytearray(body)), context)

    return call
