"""What a database session is told before a query is: nothing but reads, for so long, in UTC. Called by `sql`.

And the other way round: which of a driver's errors mean that time was up, or that the server is gone.
"""

import sqlite3
import time

import sqlalchemy as sa
from sqlalchemy.engine import URL

from zebra_assets.errors import Refused

# What a URL may not say to a MySQL driver: statements of its own, several at once, files of this machine.
_REFUSED = ("init_command", "client_flag", "local_infile", "read_default_file", "read_default_group", "sql_mode")
_TIMED_OUT = {3024, 1969}  # ER_QUERY_TIMEOUT, ER_STATEMENT_TIMEOUT
_LOST = {2006, 2013, 2055, 1053, 1927}  # the server went away, was lost, shuts down, or killed the connection
MOST_BYTES = 64 << 20  # of a cell of SQLite's, which has no server to say how long one may be
_STEPS = 10_000  # of SQLite's machine between two looks at the clock: 0.1 ms


def driven(url: URL) -> URL:
    """The URL with a driver, where it names only the database.

    Raises:
        Refused: an option that would open a way around the read-only transaction.
    """
    if url.get_backend_name() not in ("mysql", "mariadb"):
        return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url
    if asked := [name for name in url.query if name in _REFUSED]:
        raise Refused(f"source.url sets {asked[0]}, which is refused.", fix=f"leave {asked[0]} out of source.url")
    return url if "+" in url.drivername else url.set(drivername=f"{url.drivername}+pymysql")


def prepare(connection: sa.Connection, timeout_s: float) -> None:
    """Begin a read-only transaction that sees one snapshot, and whose statements end after ``timeout_s``."""
    say = connection.exec_driver_sql
    if connection.dialect.name == "sqlite":
        deadline = time.monotonic() + timeout_s
        say("PRAGMA query_only = ON")
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
        driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    elif connection.dialect.name == "postgresql":
        say("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        say(f"SET LOCAL statement_timeout = {max(1, round(timeout_s * 1000))}")
        say("SET LOCAL extra_float_digits = 3")  # before version 12 the default was to drop digits
    elif connection.dialect.name in ("mysql", "mariadb"):
        limit = (
            f"max_statement_time = {timeout_s}" if _is_mariadb(connection) else f"max_execution_time = {max(1, round(timeout_s * 1000))}"
        )
        say(f"SET SESSION {limit}, time_zone = '+00:00'")
        say("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _is_mariadb(connection: sa.Connection) -> bool:
    return bool(getattr(connection.dialect, "is_mariadb", False))


def timed_out(error: BaseException) -> bool:
    """Whether a driver's error means that the statement's time was up."""
    return getattr(error, "pgcode", None) == "57014" or str(error) == "interrupted" or _number(error) in _TIMED_OUT


def lost(error: BaseException) -> bool:
    """Whether a driver's error means that the server is gone, and not that it disliked the query."""
    code = getattr(error, "pgcode", None)
    if code is not None:
        return str(code)[:2] in ("08", "57")
    return _number(error) in _LOST or any(words in str(error) for words in ("server closed the connection", "terminating connection"))


def _number(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) else None
