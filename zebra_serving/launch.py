"""`python -m zebra_serving --model NAME`, several of them, or `--all`: serve what the ledger names for an alias, until told to stop.

Prints one line when the first version serves (or when it is known that there is none yet) and logs to stderr. Called by `__main__`.
"""

import argparse
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from zebra_assets.contracts.names import check_name
from zebra_assets.errors import NotFound, Unavailable, UsageError, ZebraError, did_you_mean
from zebra_assets.settings import Settings, load_settings
from zebra_serving.endpoint import bind, url_of
from zebra_serving.figures import figures_folder
from zebra_serving.guard import check_bind
from zebra_serving.herald import Herald
from zebra_serving.supervisor import Supervisor, end_with_parent
from zebra_serving.weight import share_heap

# Seconds for requests in flight when the server is told to stop.
GRACE_S = 10


def main(argv: list[str] | None = None) -> int:
    """Run the server; the exit code of what stopped it (0 for a signal)."""
    share_heap()
    try:
        options = _options(argv)
        settings = load_settings(options.project, options.profile)
        return _serve(settings, options)
    except ZebraError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zebra_serving", description="Serve the version that an alias names.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", action="append", help="may be said several times: the first is loaded at once, the others when asked for")
    which.add_argument("--all", action="store_true", help="every model of the project, in the order of their names")
    parser.add_argument("--alias", default="prod")
    parser.add_argument("--host", help="address to bind; anything but loopback needs a token")
    parser.add_argument("--port", type=int, help="port to bind; 0 picks a free one")
    parser.add_argument("--project", type=Path, help="folder with models/ and manifests/")
    parser.add_argument("--profile", help="name of a file in infra/profiles/")
    parser.add_argument("--workers", type=int, choices=range(1, 65), metavar="N", help="processes that answer on the port")
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)  # these three: what a supervisor tells its worker
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    host = options.host or settings.serving_host
    check_bind(host, settings)
    models = _models(settings, options.model)
    count = settings.serving_workers if options.workers is None else options.workers
    if options.socket is not None:
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
        _run(settings, options, models, count, lambda: socket.socket(fileno=options.socket), lambda sock: _say)
        return 0
    _check_grpc(settings, host, count)
    port = settings.serving_port if options.port is None else options.port
    if count > 1:
        return _supervise(settings, options, models, count, host, port)
    herald: Herald | None = None

    def tell(sock: socket.socket) -> Callable[[str, str | None], None]:
        nonlocal herald
        herald = Herald(settings.home, models, options.alias, url_of(sock))
        return herald.settled

    try:
        _run(settings, options, models, 1, lambda: bind(host, port), tell)
    finally:
        if herald is not None:
            herald.gone()
    return 0


def _check_grpc(settings: Settings, host: str, workers: int) -> None:
    """Raises `Unavailable` or `UsageError` where the port that is set for gRPC cannot be had: said now, not by the event loop."""
    if settings.serving_grpc_port == 0 and workers > 1:
        message = f"{workers} workers would each find a free port of their own for gRPC, and nobody could say which."
        raise UsageError(message, fix="set ZEBRA_SERVING_GRPC_PORT to one port, which all workers share; or --workers 1")
    if settings.serving_grpc_port:
        try:
            bind(host, settings.serving_grpc_port).close()
        except Unavailable as error:
            free = "; 0 picks a free one" if workers == 1 else ""
            raise Unavailable(error.message, fix=f"set ZEBRA_SERVING_GRPC_PORT to another port{free}") from error


def _run(
    settings: Settings,
    options: argparse.Namespace,
    models: list[str],
    workers: int,
    listen: Callable[[], socket.socket],
    tell: Callable[[socket.socket], Callable[[str, str | None], None]],
) -> None:
    """Answer on the socket of ``listen`` until told to stop; ``tell`` it what is served."""
    # 0.2 s of imports: after the checks, so that a mistyped command is told so at once.
    import uvicorn

    from zebra_serving.access.connections import Connection
    from zebra_serving.app import create_app
    from zebra_serving.served import Served

    _collect_again()
    calm = False

    def settled(model: str, served: Served | None) -> None:
        nonlocal calm
        say(model, served.promotion.version if served else None)
        if served and not calm:
            calm = True
            _settle_memory()

    figures = (options.figures, options.name) if options.figures else None
    app = create_app(
        settings, models, options.alias, host=options.host or settings.serving_host, workers=workers, figures=figures, on_settled=settled
    )
    sock = listen()
    say = tell(sock)
    _log_to_stderr()
    config = uvicorn.Config(
        app, loop="uvloop", http=Connection, ws="none", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=False,  # whoever can reach a loopback server could say any address, and slip through the rate of another
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    uvicorn.Server(config).run(sockets=[sock])


def _supervise(settings: Settings, options: argparse.Namespace, models: list[str], count: int, host: str, port: int) -> int:
    with bind(host, port) as alone:  # nobody else is there; the workers then share the port among themselves
        url, port = url_of(alone), alone.getsockname()[1]
    _log_to_stderr()
    _collect_again()
    command = [sys.executable, "-m", "zebra_serving", "--alias", options.alias, "--host", host, "--workers", str(count)]
    command += [part for model in models for part in ("--model", model)]
    command += ["--project", str(settings.project_dir), "--profile", settings.profile]
    herald = Herald(settings.home, models, options.alias, url)
    # What runs has its grace, and capture its own few seconds to write what waits.
    with figures_folder(settings.home) as figures:
        return Supervisor(command, (host, port), count, figures, herald, GRACE_S + 15).run()


def _say(model: str, version: str | None) -> None:
    """A worker's word to its supervisor."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"model": model, "version": version}) + "\n")
        sys.stdout.flush()


def _models(settings: Settings, named: list[str] | None) -> list[str]:
    """The models named, or all of the project; a misspelt one is caught where the project's files are at hand.

    Raises:
        UsageError: not a legal name.
        NotFound: the project declares models, and not this one; or none at all.
    """
    known = sorted(path.parent.name for path in settings.models_dir.glob("*/model.yaml"))
    for model in named or ():
        check_name(model, "model")
        if known and model not in known:
            raise NotFound(f"No model '{model}' in {settings.models_dir}.{did_you_mean(model, known)}", fix=f"--model {known[0]}")
    if not (named or known):
        raise NotFound(f"There are no models in {settings.models_dir}.", fix="mlops init my-model, or --model NAME")
    return list(dict.fromkeys(named or known))


def _collect_again() -> None:
    """Look for garbage from now on, which `__main__` put off: never among what the imports made, 1,100 of 85,000 objects."""
    gc.freeze()
    gc.enable()


def _settle_memory() -> None:
    """Spare what stays from garbage collection, and collect after requests and not within them.

    A request of 1,000 rows makes 1,000 tuples, and Python looks through everything for cycles after 700: 15 % of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _stop(number: int, frame: FrameType | None) -> None:
    # uvicorn shuts down by itself and then repeats the signal; by that time this is all that is left to do.
    raise SystemExit(0)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("uvicorn.error", "alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
