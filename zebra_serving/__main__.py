"""`python -m zebra_serving --model NAME`: serve what the ledger names for an alias, until told to stop.

Prints one line when the first version serves (or when it is known that there is none yet) and logs to stderr.
"""

import argparse
import gc
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from zebra_assets.contracts.names import check_name
from zebra_assets.errors import NotFound, ZebraError, did_you_mean
from zebra_assets.settings import Settings, load_settings
from zebra_serving.guard import check_bind

# Seconds for requests in flight when the server is told to stop.
GRACE_S = 10


def main(argv: list[str] | None = None) -> int:
    """Run the server; the exit code of what stopped it (0 for a signal)."""
    try:
        options = _options(argv)
        settings = load_settings(options.project, options.profile)
        _serve(settings, options)
    except ZebraError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zebra_serving", description="Serve the version that an alias names.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", default="prod")
    parser.add_argument("--host", help="address to bind; anything but loopback needs a token")
    parser.add_argument("--port", type=int, help="port to bind; 0 picks a free one")
    parser.add_argument("--project", type=Path, help="folder with models/ and manifests/")
    parser.add_argument("--profile", help="name of a file in infra/profiles/")
    return parser.parse_args(argv)


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    host = options.host or settings.serving_host
    check_bind(host, settings)
    _check_known(settings, options.model)

    # 0.7 s of imports: after the checks, so that a mistyped command is told so at once.
    import uvicorn

    from zebra_serving.app import create_app
    from zebra_serving.endpoint import Note, bind, url_of
    from zebra_serving.served import Served

    told = False

    def settled(model: str, served: Served | None) -> None:
        nonlocal told
        version = served.promotion.version if served else None
        what = f"{model} v{version}" if version else f"{model} (nothing to serve yet, see /ready)"
        try:
            note.write(version)
            if not told:
                sys.stdout.write(f"serving {what} on {url}\n")
                sys.stdout.flush()
            if served and not gc.get_freeze_count():
                _settle_memory()
        except OSError as error:  # a full disk, or nobody reads our output any more: no reason to stop serving
            logging.getLogger("zebra_serving").warning("could not tell where the server is: %s", error)
        told = True

    app = create_app(settings, options.model, options.alias, host=host, on_settled=settled)
    sock = bind(host, settings.serving_port if options.port is None else options.port)
    url = url_of(sock)
    note = Note(settings.home / "serving" / f"{options.model}-{options.alias}.json", url)
    _log_to_stderr()
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        uvicorn.Server(config).run(sockets=[sock])
    finally:
        note.remove()


def _check_known(settings: Settings, model: str) -> None:
    """Catch a misspelt model where the project's files are at hand.

    Raises:
        UsageError: not a legal name.
        NotFound: the project declares models, and not this one.
    """
    check_name(model, "model")
    known = sorted(path.parent.name for path in settings.models_dir.glob("*/model.yaml"))
    if known and model not in known:
        raise NotFound(f"No model '{model}' in {settings.models_dir}.{did_you_mean(model, known)}", fix=f"--model {known[0]}")


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


if __name__ == "__main__":
    sys.exit(main())
