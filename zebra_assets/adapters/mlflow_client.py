"""One MLflow client per URI, with bounded time and one language for errors. Used by `mlflow` and `mlflow_registry` only.

MLflow is imported on first use: 1.5 s and 180 MB, whatever is imported of it (`mlflow/__init__` pulls pandas and fastapi;
there is no lighter door to MlflowClient). No tracking URI, experiment or active run is set globally.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa

from zebra_assets import telemetry
from zebra_assets.errors import Unavailable

T = TypeVar("T")

CONNECT_S = 3.0
REQUEST_S = 10
TRANSFER_S = 120
_PAUSES = (0.1, 0.4)  # between three tries of a call that may be repeated

_GONE = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
# Everything else is our own mistake in calling and keeps its traceback.
_OUTSIDE = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "BAD_REQUEST",  # what the SQL store says for every SQLAlchemy error
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "CUSTOMER_UNAUTHORIZED",
}


def shown(uri: str) -> str:
    """The URI without user and password."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def is_server(uri: str) -> bool:
    """Whether a tracking server stands at ``uri``, which then decides where artifacts go."""
    return uri.startswith(("http://", "https://"))


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite URI, else None."""
    return Path(sa.make_url(uri).database or "") if uri.startswith("sqlite:") else None


def unavailable(uri: str, why: str) -> Unavailable:
    """The error for a store that does not answer."""
    if is_server(uri):
        fix = "`mlops doctor` shows what answers; start the server with `mlops up`, or set ZEBRA_MLFLOW_TRACKING_URI"
    else:
        fix = "`mlops doctor` shows what answers; or set ZEBRA_MLFLOW_TRACKING_URI, e.g. sqlite:////path/to/mlflow.db"
    reason = (why.splitlines() or ["no answer"])[0].rstrip(".")
    return Unavailable(f"MLflow at {shown(uri)} cannot be reached: {reason}.", fix=fix)


def probe(uri: str) -> bool:
    """Ask within seconds whether something answers at ``uri``; whether an MLflow store was prepared there.

    MLflow itself would retry for minutes: 7 HTTP retries with doubling pauses, 10 tries for a database.

    Raises:
        Unavailable: nothing answers, or it is no database.
    """
    if is_server(uri):
        parts = urlsplit(uri)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
        except (OSError, ValueError) as error:
            raise unavailable(uri, str(error)) from error
        return True
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return False
    try:
        seconds = {"timeout": CONNECT_S} if path is not None else {"connect_timeout": int(CONNECT_S)}
        engine = sa.create_engine(uri, connect_args=seconds, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return sa.inspect(connection).has_table("alembic_version")
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise unavailable(uri, str(getattr(error, "orig", None) or error)) from error


def quiet() -> None:
    """Switch telemetry, and MLflow's progress bars, off, before its first import."""
    telemetry.off()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"


@cache
def client(uri: str) -> Any:
    """The MlflowClient for a prepared store."""
    quiet()
    import logging

    from mlflow.tracking.client import MlflowClient

    # It logs a traceback for each database error that we report as one sentence, and every migration.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def preparing(uri: str) -> Iterator[None]:
    """Keep every other process away from an SQLite store; the lock is a file beside it and goes with its holder.

    Of four processes that first touched a fresh store at once, three failed in MLflow's migrations.
    """
    if (path := sqlite_path(uri)) is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _settled(uri: str) -> Iterator[None]:
    """Wait while somebody is `preparing`, and keep them waiting meanwhile."""
    path = sqlite_path(uri)
    if path is None or not _lock_file(path).exists():
        yield
        return
    with _lock_file(path).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def connect(uri: str) -> Any | None:
    """The client of the store at ``uri``, or None where nobody has prepared one.

    Raises:
        Unavailable: nothing answers.
    """
    with _settled(uri):
        return once(uri, lambda: client(uri)) if probe(uri) else None


_bounds_lock = threading.Lock()
_bounds: list[dict[str, str]] = []
_before: dict[str, str | None] = {}


@contextmanager
def bounded(timeout_s: int) -> Iterator[None]:
    """Forbid MLflow's own HTTP retries, and bound each request, while the block runs.

    MLflow retries every verb, POST included: a lost reply made three runs of one `create_run`. It reads these settings from
    the environment at each request; they are put back when the last block in any thread ends.
    """
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s)}
    with _bounds_lock:
        if not _bounds:
            _before.update({name: os.environ.get(name) for name in wanted})
        _bounds.append(wanted)
        os.environ.update(wanted)
    try:
        yield
    finally:
        with _bounds_lock:
            _bounds.remove(wanted)
            if not _bounds:
                for name, value in _before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value


def once(uri: str, call: Callable[[], T], *, timeout_s: int = REQUEST_S) -> T:
    """Make a call that must not be repeated blindly.

    Raises:
        Unavailable: no answer, so the outcome is unknown.
        MlflowException: the store answered no.
    """
    from mlflow.exceptions import MlflowException

    with bounded(timeout_s):
        try:
            return call()
        except MlflowException as error:
            if error.error_code in _OUTSIDE:
                raise unavailable(uri, str(error)) from error
            raise
        except (OSError, sa.exc.SQLAlchemyError) as error:  # requests' errors are OSErrors
            raise unavailable(uri, str(error)) from error


def repeat(uri: str, call: Callable[[], T], *, timeout_s: int = REQUEST_S) -> T:
    """Make a call that may be repeated, three times at most. Raises as `once`."""
    for pause in _PAUSES:
        try:
            return once(uri, call, timeout_s=timeout_s)
        except Unavailable:
            time.sleep(pause)
    return once(uri, call, timeout_s=timeout_s)


def find_or_create(uri: str, find: Callable[[], T | None], create: Callable[[], Any]) -> T:
    """Search, create when there is nothing, search again: the pattern that survives a lost reply.

    Raises:
        Unavailable: the create was not answered and nothing is found; the next attempt searches first.
    """
    if (found := repeat(uri, find)) is not None:
        return found
    try:
        once(uri, create)
    except Unavailable:
        if (found := repeat(uri, find)) is not None:
            return found
        raise
    if (found := repeat(uri, find)) is None:
        raise unavailable(uri, "it confirmed a creation but does not show it")
    return found


def absent(error: Exception) -> bool:
    """Whether MLflow says that the thing does not exist."""
    return getattr(error, "error_code", None) in _GONE
