"""The training service of akerbp.mlops, beside the server's prediction door: ``python -m zebra_assets.console.training_service``.

    POST /akerbp/{model}/train {"data": {name: value}, "manifest_id": "…"}
    GET  /akerbp/{model}/train/{run id}
    -> {"status": "ok", "training": {…}, "model_id": "churn-7"}        200, finished
    -> {"status": "ok", "training": {…}, "model_id": null}             202, waiting or running
    -> {"status": "error", "message": …, "fix": …}                     what went wrong

A process of its own: the server that predicts imports no station. Trains as `mlops train` does; ``data`` is laid over the spec's
hyper-parameters, and the same content is one run however often it is asked for. Callers and their tokens are the server's.
"""

import argparse
import asyncio
import itertools
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from zebra_assets.contracts.run import Run
from zebra_assets.control.training import Asked, Trainings
from zebra_assets.errors import TrainingFailed, UsageError, ZebraError
from zebra_assets.parts import Parts
from zebra_assets.settings import Settings, load_settings
from zebra_serving.access.scopes import OPEN, READ, TRAIN
from zebra_serving.doors.akerbp import refusal
from zebra_serving.doors.wire import expect_get, posted_json, send_json
from zebra_serving.endpoint import bind, url_of
from zebra_serving.guard import Guard, check_bind
from zebra_serving.problems import Malformed, NoSuchPath

ROUTES = {"GET /health": OPEN, "POST /akerbp/*/train": TRAIN, "GET /akerbp/*/train/*": TRAIN | READ}
# A client that says nothing waits this long before it is told to come back; `Prefer: wait=3600` waits longer.
WAIT_S, MOST_WAIT_S = 30.0, 3600.0
_PATH = re.compile(r"/akerbp/(?P<model>[^/]+)/train(?:/(?P<run>[^/]+))?")
_WAIT = re.compile(rb"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
LOG = "read train.log among the run's artifacts in MLflow"
_encode = msgspec.json.Encoder().encode
_count = itertools.count()


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What is posted. ``data`` overlays the spec's hyper-parameters; without ``manifest_id`` the newest data are meant."""

    data: dict[str, Any] = {}
    manifest_id: str | None = None


class TrainingService:
    """The ASGI application of one project."""

    def __init__(self, settings: Settings, host: str) -> None:
        self._guard, self._trainings = Guard(host, settings, ROUTES), Trainings(Parts(settings))
        self._orders = msgspec.json.Decoder(Order)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong has the contract's form and no traceback."""
        if scope["type"] != "http":
            return
        headers, request_id, began = dict(scope["headers"]), f"train-{os.getpid():x}-{next(_count):x}", time.perf_counter()
        try:
            who = self._guard.known(scope, headers, began) or await self._guard.ask(headers)
            self._guard.admit(who, scope, began)
            status, body, more = await self._answer(scope, receive, headers, who.name)
        except ClientDisconnect:
            return
        except Exception as error:
            status, body, more = refusal(error, request_id)
        await send_json(send, body, status, more=[*more, (b"x-request-id", request_id.encode())])

    async def _answer(self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], who: str) -> tuple[int, bytes, list[Any]]:
        if scope["path"] == "/health":
            expect_get(scope)
            return 200, _encode({"status": "ok"}), []
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            raise NoSuchPath(f"There is no {scope['path']} here.", fix="POST /akerbp/MODEL/train")
        model, run_id = found["model"], found["run"]
        if run_id is not None:
            expect_get(scope)
            known = await asyncio.to_thread(self._trainings.find, model, run_id)
            return _told(model, known)
        order = self._read(await posted_json(scope, receive, headers))
        known = await asyncio.to_thread(self._trainings.ask, model, order.data, order.manifest_id, who)
        return _told(model, await _finished(known, _patience(headers)))

    def _read(self, body: bytes) -> Order:
        try:
            return self._orders.decode(body)
        except msgspec.ValidationError as error:
            raise UsageError(f"The order does not fit: {error}.", fix='{"data": {"C": 0.5}}') from error
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Malformed(f"The body is not JSON: {error}.", fix='{"data": {"C": 0.5}}') from error


async def _finished(known: Run | Asked, patience_s: float) -> Run | Asked:
    """The finished run if it comes in time; what it was asked as otherwise. Raises what the training raised."""
    if isinstance(known, Run):
        return known
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(known.done)), patience_s)
    except TimeoutError:
        return known
    except TrainingFailed as error:
        raise TrainingFailed(_first_line(error.message), fix=LOG) from error


def _first_line(text: str | None) -> str:
    """What happened, without the script's traceback below it."""
    return (text or "").partition("\n")[0]


def _told(model: str, known: Run | Asked) -> tuple[int, bytes, list[Any]]:
    """Status, body and headers."""
    if isinstance(known, Asked):
        about: dict[str, Any] = {"run_id": known.run_id, "state": "running", "manifest_id": known.key, "params": known.params}
    else:
        fields = {"state", "manifest_id", "params", "metrics", "version", "created_at", "ended_at"}
        about = {"run_id": known.id, **known.model_dump(mode="json", include=fields), "code": known.code.digest}
        if known.state in ("failed", "cancelled"):
            return 200, _encode({"status": "error", "message": _first_line(known.error), "fix": LOG, "training": about}), []
    version = about.get("version")
    said = {"status": "ok", "training": about, "model_id": f"{model}-{version}" if version else None}
    if about["state"] == "finished":
        return 200, _encode(said), []
    return 202, _encode(said), [(b"location", f"/akerbp/{model}/train/{about['run_id']}".encode()), (b"retry-after", b"5")]


def _patience(headers: dict[bytes, bytes]) -> float:
    """Seconds this client wants to wait: its `Prefer: wait=N` (RFC 7240)."""
    asked = _WAIT.search(headers.get(b"prefer", b""))
    return WAIT_S if asked is None else min(float(asked[1]), MOST_WAIT_S)


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; the exit code of what stopped it."""
    parser = argparse.ArgumentParser(prog="python -m zebra_assets.console.training_service", description="Train when asked over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; anything but loopback needs a token")
    parser.add_argument("--port", type=int, default=8081, help="port to bind; 0 picks a free one")
    parser.add_argument("--project", type=Path, help="folder with models/ and manifests/")
    parser.add_argument("--profile", help="name of a file in infra/profiles/")
    options = parser.parse_args(argv)
    try:
        settings = load_settings(options.project, options.profile)
        check_bind(options.host, settings)
        service = TrainingService(settings, options.host)
        with bind(options.host, options.port) as sock:
            import uvicorn

            logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
            sys.stdout.write(f"training service on {url_of(sock)}\n")
            sys.stdout.flush()
            config = uvicorn.Config(service, ws="none", lifespan="off", log_config=None, server_header=False, proxy_headers=False)
            uvicorn.Server(config).run(sockets=[sock])
    except ZebraError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
