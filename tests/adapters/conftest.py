"""State databases to test on: a fresh SQLite file, and a fresh database of a throw-away PostgreSQL where one is installed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.adapters.postgres_server import cluster
from zebra_assets.adapters import state


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server on 127.0.0.1 that lives as long as the session; skips where there is none to start."""
    with cluster() as made:
        yield made.url


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
