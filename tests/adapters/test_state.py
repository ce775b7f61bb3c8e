import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text

from tests.adapters.crowd import crowd, die, die_in
from tests.heap import allocated
from zebra_assets.adapters import state
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.tables import events, metadata
from zebra_assets.errors import NotFound, Refused, Unavailable, UsageError


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deep' / 'state.db'}"


def test_a_sqlite_database_is_made_on_first_use_with_settings_that_survive_a_power_cut(sqlite_url: str) -> None:
    with state.reading(state.engine(sqlite_url)) as connection:
        pragma = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
        assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 10_000


def test_a_connection_at_rest_keeps_no_pages(sqlite_url: str) -> None:
    opened = state.engine(sqlite_url)
    with state.writing(opened) as connection:
        connection.execute(events.insert(), [{"event_id": str(i), "type": "t", "model": "m", "body": "x" * 1000} for i in range(2000)])
    with ExitStack() as stack:
        pool = [stack.enter_context(state.reading(opened)) for _ in range(5)]
        for connection in pool:
            assert connection.execute(text("SELECT count(*) FROM events WHERE body LIKE 'x%'")).scalar_one() == 2000
        at_work = allocated()
    assert at_work - allocated() > 5 * 300_000, "five connections held some 500 KB each"


def test_the_migrations_end_at_the_tables_the_code_uses(url: str) -> None:
    with state.reading(state.engine(url)) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_known_revisions_are_the_shipped_ones() -> None:
    config = Config()
    config.set_main_option("script_location", str(state.MIGRATIONS))
    shipped = [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(shipped)) == state.REVISIONS


def test_opening_a_migrated_database_does_not_import_alembic(sqlite_url: str) -> None:
    state.engine(sqlite_url)
    code = f"import sys; from zebra_assets.adapters.state import engine; engine({sqlite_url!r}); print('alembic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "False", said.stderr


def _first_use(i: int, barrier: object, url: str) -> int:
    barrier.wait(30)  # type: ignore[attr-defined]
    return SqlAudit(url).append(f"process {i}", "test.first", "state", {})


def test_eight_processes_that_open_a_fresh_database_at_once_leave_one_schema_and_lose_nothing(sqlite_url: str) -> None:
    assert sorted(crowd(8, _first_use, sqlite_url)) == list(range(1, 9))
    assert SqlAudit(sqlite_url).verify() is None
    with state.reading(state.engine(sqlite_url)) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [state.REVISIONS[-1]]


def _migrate(_i: int, barrier: object, url: str) -> None:
    barrier.wait(30)  # type: ignore[attr-defined]
    state.migrate(url)


def test_migrating_at_once_from_many_processes_is_harmless(any_url: str) -> None:
    assert crowd(4, _migrate, any_url) == [None] * 4
    state.engine(any_url)


def _die_before_commit(_ready: object, url: str) -> None:
    event.listen(Engine, "commit", die)
    state.migrate(url)


def test_a_migration_killed_before_its_end_leaves_nothing_and_runs_again(any_url: str) -> None:
    assert die_in(_die_before_commit, any_url) == -9
    opened = state._create(any_url)
    assert inspect(opened).get_table_names() == []
    opened.dispose()
    state.migrate(any_url)
    assert SqlAudit(any_url).append("a", "test.after", "state", {}) == 1


def test_a_database_of_a_newer_release_is_refused_and_left_alone(url: str) -> None:
    with state.writing(state.engine(url)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    state._engines.pop(url).dispose()
    for attempt in (state.engine, state.migrate):
        with pytest.raises(Refused, match="schema 9999; this release knows up to") as caught:
            attempt(url)
        assert "upgrade" in str(caught.value.fix)


def test_an_unprepared_postgres_asks_for_init(postgres: str) -> None:
    with pytest.raises(NotFound, match="no ZebraOps tables yet") as caught:
        state.engine(f"{postgres}/template1")
    assert caught.value.fix == "mlops init"


OURS = {
    "connect_timeout": "10", "keepalives": "1", "keepalives_idle": "5", "keepalives_interval": "3", "keepalives_count": "3",
    "tcp_user_timeout": "14000",
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ("", {}),
        ("?connect_timeout=3&tcp_user_timeout=90000", {"connect_timeout": "3", "tcp_user_timeout": "90000"}),
        # The kernel would go by our tcp_user_timeout and not count the probes that the user asks for.
        ("?keepalives_idle=60&keepalives_count=9", {"keepalives_idle": "60", "keepalives_count": "9", "tcp_user_timeout": None}),
        ("?keepalives=0&tcp_user_timeout=0", {"keepalives": "0", "tcp_user_timeout": "0"}),
    ],
)
def test_a_dead_postgres_is_given_up_in_seconds_unless_the_url_says_otherwise(
    postgres: str, said: str, changed: dict[str, str | None]
) -> None:
    opened = state._create(f"{postgres}/template1{said}")
    with state.reading(opened) as connection:
        wire: Any = connection.connection.driver_connection
        parameters = wire.info.dsn_parameters
        with socket.socket(fileno=os.dup(wire.fileno())) as kernel:
            known = hasattr(socket, "TCP_USER_TIMEOUT")  # to Linux
            given_up_ms = kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) if known else None
    opened.dispose()
    wanted = {**OURS, **changed}
    assert {name: parameters.get(name) for name in OURS} == wanted
    assert not known or given_up_ms == int(wanted["tcp_user_timeout"] or 0), "in force, not only written down"


def test_an_unreachable_database_is_named_without_its_password() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        state.engine("postgresql://zebra:hunter2@127.0.0.1:9/state")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value) and "pg_isready" in str(caught.value.fix)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://a:hunter2@host/db", "cannot be a mysql database"),
        ("sqlite://", "must outlive the process"),
        ("no url: hunter2", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_repeating_secrets(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        state.engine(url)
    assert "hunter2" not in str(caught.value) and "ZEBRA_STATE_URL" in str(caught.value.fix)


def test_a_file_that_is_no_database_is_reported_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_bytes(b"minutes of the last meeting, in full\n" * 100)
    before = file.read_bytes()
    with pytest.raises(Unavailable, match="not a database"):
        state.engine(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_writer_that_cannot_get_its_turn_says_so(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "BUSY_S", 0.1)
    opened = state.engine(sqlite_url)
    with state.writing(opened), pytest.raises(Unavailable, match="locked"):
        SqlAudit(sqlite_url).append("second", "test.write", "state", {})


def test_all_of_a_transaction_or_none_of_it(url: str) -> None:
    opened = state.engine(url)
    with pytest.raises(ZeroDivisionError), state.writing(opened) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'half'"))
        _ = 1 / 0
    with state.reading(opened) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == state.REVISIONS[-1]
