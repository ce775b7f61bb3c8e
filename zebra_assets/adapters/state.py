"""The state database: one engine per URL, transactions, and the migrations that make the tables.

SQLite by default, Postgres by URL. Every adapter that keeps rows (`records`, `ledger`, `event_store`, `audit_log`) goes
through `reading` and `writing`, which also turn a driver's complaint into `Unavailable`. The tables are in `tables`, what
they looked like over time in `migrations/`.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, OperationalError

from zebra_assets.errors import NotFound, Refused, Unavailable, UsageError

# Oldest first; the last one is what this code reads and writes. Kept here so that opening a database does not import
# alembic (0.3 s); a test compares the list with migrations/versions.
REVISIONS = ("0001", "0002", "0003", "0004")
MIGRATIONS = Path(__file__).parent / "migrations"
CACHE_KIB = 512  # of pages per connection at work, where SQLite's own limit is 2 MB; one at rest keeps none
BUSY_S = 10  # how long a writer waits for another one before it says so
# A network that drops packets says nothing. An idle connection is given up after 5 + 3 * 3 = 14 s, and one that waits for a
# sent statement's receipt after the same 14 s, where the kernel's own limits are two hours and a quarter of one.
ALIVE = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
RECEIPT = {"tcp_user_timeout": 14_000}

_engines: dict[str, Engine] = {}
_opening = threading.RLock()


def engine(url: str) -> Engine:
    """The engine of a state database, opened once per URL and process, at the schema this code knows.

    A SQLite database that is absent or older is created or migrated here, whoever comes first; a Postgres one is not,
    because it is shared and `mlops init` should be somebody's decision.

    Args:
        url: SQLAlchemy URL, ``sqlite:///path`` or ``postgresql://user:secret@host/name``.

    Raises:
        UsageError: not such a URL.
        NotFound: a Postgres database without our tables, or with older ones.
        Refused: written by a newer release.
        Unavailable: cannot be reached or read.
    """
    with _opening:
        if url not in _engines:
            opened = _create(url)
            found = _revision(opened)
            if found != REVISIONS[-1]:
                if opened.dialect.name != "sqlite":
                    state = "has no ZebraOps tables yet" if found is None else "is older than this code"
                    raise NotFound(f"The state database at {_shown(opened.url)} {state}.", fix="mlops init")
                _migrate(opened)
            _engines[url] = opened
        return _engines[url]


def migrate(url: str) -> None:
    """Bring a state database to the schema of this code. Safe to call at any time, from many processes at once.

    All steps share one transaction that waits for its turn, so a killed migration leaves the schema it found.

    Raises:
        UsageError, Refused, Unavailable: as `engine`.
    """
    with _opening:
        opened = _engines.get(url) or _create(url)
        if _revision(opened) != REVISIONS[-1]:
            _migrate(opened)
        _engines[url] = opened


@contextmanager
def reading(opened: Engine) -> Iterator[Connection]:
    """One consistent view of the database. Raises `Unavailable`."""
    with _translated(opened), opened.connect() as connection:
        yield connection


@contextmanager
def writing(opened: Engine, turn: str | None = None) -> Iterator[Connection]:
    """One transaction: all of it is durable when the block ends, none of it when the block raises.

    SQLite lets one writer in at a time anyway. On Postgres, writers naming the same ``turn`` go one after the other, so
    that "the highest number plus one" is seen by one of them only. Raises `Unavailable`.
    """
    with _translated(opened), opened.connect().execution_options(zebra_write=True) as connection, connection.begin():
        if opened.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_S}s'"))
            if turn is not None:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:turn, 0))"), {"turn": f"zebra:{turn}"})
        yield connection


def _create(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            # Named in full: SQLAlchemy 2.1 reads the bare form as psycopg 3, which mlflow and dagster-postgres do not bring.
            parsed = parsed.set(drivername="postgresql+psycopg2")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise UsageError(
                f"The state database cannot be a {parsed.get_backend_name()} database.",
                fix="set ZEBRA_STATE_URL to sqlite:///<path> or postgresql://<user>@<host>/<name>",
            )
        # hide_parameters: an error message must not carry the features of somebody's prediction into a log.
        if parsed.get_backend_name() == "postgresql":
            return create_engine(parsed, hide_parameters=True, pool_pre_ping=True, connect_args=_patience(parsed))
        return _sqlite(parsed)
    except (ArgumentError, NoSuchModuleError) as error:
        # The text may hold a password, so it is not repeated.
        raise UsageError(
            f"The state database's URL cannot be read ({type(error).__name__}).",
            fix="set ZEBRA_STATE_URL to sqlite:///<path> or postgresql://...",
        ) from None
    except ModuleNotFoundError as error:
        wanted = f"The state database's driver {error.name} is not installed"
        if "psycopg2" in parsed.drivername:
            raise UsageError(f"{wanted}.", fix="pip install 'zebraops[assets]'") from error
        raise UsageError(f"{wanted}; psycopg2 is.", fix="start ZEBRA_STATE_URL with postgresql://") from error


def _patience(url: URL) -> dict[str, int]:
    """How long libpq waits for a peer that says nothing, but for what the URL says itself.

    There is no statement_timeout: to read a model's predictions through takes as long as there are predictions.
    """
    # Where both are set the kernel counts by tcp_user_timeout and not by probes, so ours would overrule somebody's keepalives.
    ours = {"connect_timeout": BUSY_S, **ALIVE, **({} if ALIVE.keys() & url.query.keys() else RECEIPT)}
    return {name: value for name, value in ours.items() if name not in url.query}


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise UsageError("The state database must outlive the process.", fix="set ZEBRA_STATE_URL to sqlite:///<path>")
    try:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The folder of the state database {url.database} cannot be made: {error.strerror}.", fix="mlops doctor"
        ) from error
    opened = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_S}, pool_use_lifo=True)

    @event.listens_for(opened, "connect")
    def _settle(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below; sqlite3 would say it late and too weakly
        connection.execute("PRAGMA synchronous=FULL")  # acknowledged means on disk, also after a power cut
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")

    @event.listens_for(opened, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that starts as a reader and then writes fails at once when another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("zebra_write") else "BEGIN")

    @event.listens_for(opened, "checkin")
    def _rest(connection: sqlite3.Connection | None, _: Any) -> None:
        # A pool's less used connections fill their caches over hours, and a server seems to leak. The next reader finds the pages in the
        # system's cache: 50 events are stored in 2.3 ms either way.
        if connection is not None:
            connection.execute("PRAGMA shrink_memory")

    return opened


def _revision(opened: Engine) -> str | None:
    """The schema's revision, or None for a database that is empty to us.

    Raises:
        Refused: a revision this code does not know.
    """
    with reading(opened) as connection:
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in REVISIONS:
        raise Refused(
            f"The state database at {_shown(opened.url)} has schema {found}; this release knows up to {REVISIONS[-1]}.",
            fix="pip install --upgrade zebraops, or restore the copy made before the upgrade",
        )
    return found


def _migrate(opened: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    if opened.dialect.name == "sqlite":
        _use_wal(opened)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writing(opened, turn="migrate") as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")  # does nothing for those who waited while another process did it


def _use_wal(opened: Engine) -> None:
    """Readers and the writer stop blocking each other. A property of the file, so it is set once, when it is made."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            with opened.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                raw.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            # The switch wants the file alone for a moment and does not queue for it as statements do.
            if time.monotonic() > deadline:
                raise Unavailable(f"The state database at {_shown(opened.url)} stays busy: {error}.", fix="mlops doctor") from error
            time.sleep(0.02)


def insert_or(opened: Engine, table: Table) -> Any:
    """An INSERT in the database's own words, which can say what to do about a row that is there already.

    Postgres' words are imported where Postgres is used: 60 ms of a server's start.
    """
    if opened.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres

        return postgres(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite

    return sqlite(table)


@contextmanager
def _translated(opened: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        # IntegrityError and ProgrammingError are subclasses too, and mean something else to whoever caused them.
        if type(error) not in (DatabaseError, OperationalError):
            raise
        raise _unavailable(opened, error) from error
    except InterfaceError as error:
        raise _unavailable(opened, error) from error


def _unavailable(opened: Engine, error: DatabaseError | InterfaceError) -> Unavailable:
    why = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
    if opened.dialect.name == "sqlite":
        fix = f"check the disk, the permissions of {opened.url.database} and who else holds it; `mlops doctor` looks"
    else:
        fix = f"start the database or correct ZEBRA_STATE_URL; test it with `pg_isready -h {opened.url.host} -p {opened.url.port or 5432}`"
    return Unavailable(f"The state database at {_shown(opened.url)} cannot be used: {why}.", fix=fix)


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _forget() -> None:
    """A forked child must not speak through its parent's connections: SQLite locks and sockets do not survive a fork."""
    global _opening
    _opening = threading.RLock()
    for opened in _engines.values():
        opened.dispose(close=False)
    _engines.clear()


os.register_at_fork(after_in_child=_forget)
