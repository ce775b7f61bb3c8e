"""State databases to test on: a fresh SQLite file, and a fresh database of a throw-away PostgreSQL where one is installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from zebra_assets.adapters import state


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server on 127.0.0.1 that lives as long as the session; skips where there is none to start."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed (apt-get install postgresql)")
    folder = Path(shutil.copytree(tmp_path_factory.mktemp("empty"), f"/tmp/zebra-pg-{uuid.uuid4().hex[:8]}"))
    user = _unprivileged(folder)

    def run(*argv: str) -> None:
        subprocess.run([str(programs / argv[0]), *argv[1:]], check=True, cwd=folder, capture_output=True, user=user, timeout=60)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    try:
        run("initdb", "-D", "data", "-U", "zebra", "-A", "trust", "--no-sync", "-E", "UTF8")
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        yield f"postgresql://zebra@127.0.0.1:{port}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "initdb").exists()), None)


def _unprivileged(folder: Path) -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("running as root, and there is no user 'postgres' to run PostgreSQL as")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return account.pw_name


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A state database nobody has touched yet, of each kind."""
    if request.param == "sqlite":
        yield from _closing(f"sqlite:///{tmp_path / 'state.db'}")
        return
    server, name = request.getfixturevalue("postgres"), f"state_{uuid.uuid4().hex[:12]}"
    maker = create_engine(f"{server.replace('postgresql', 'postgresql+psycopg2')}/postgres", isolation_level="AUTOCOMMIT")
    with maker.connect() as connection:
        # Nobody connects to template0, so no other session stands in the way, as one did of template1.
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    maker.dispose()
    yield from _closing(f"{server}/{name}")


@pytest.fixture
def url(any_url: str) -> str:
    """A migrated state database of each kind."""
    state.migrate(any_url)
    return any_url


def _closing(url: str) -> Iterator[str]:
    yield url
    opened = state._engines.pop(url, None)
    if opened is not None:
        opened.dispose()
