"""Hostile values in every bound parameter: nothing is written, and no statement runs that a harmless value would not run."""

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from tests.datasets.conftest import people, postgres, write_sqlite
from zebra_assets.contracts.dataset_spec import SourceSpec
from zebra_assets.datasets.connectors.sql import Sql
from zebra_assets.errors import SpecInvalid

__all__ = ["postgres"]  # fixture
BREAKS = ["'", '"', "`", "\\'", "''", "')", "'))", "$$", "$x$", "\\", "E'\\''", "\u02bc", "\uff07", "'\n", "%27", "p00001'", "1)"]
TAILS = [
    "; DROP TABLE people; --",
    "; INSERT INTO people(id) VALUES ('pwned'); --",
    "; UPDATE people SET name = 'pwned' --",
    "; COMMIT; DELETE FROM people; --",
    "; COPY people TO PROGRAM 'true'; --",
    "; PRAGMA query_only = OFF; DELETE FROM people; --",
    "; ATTACH DATABASE 'pwned.db' AS pwned; --",
    " OR 1=1 --",
    " OR '1'='1",
    " UNION SELECT id, name FROM people --",
    "%(name)s %s :id {0} ? $1",
]
PAYLOADS = ["".join(parts) for parts in product(BREAKS, TAILS)]
QUERY = "SELECT id, name FROM people WHERE name = :name OR id = :id OR id LIKE '%' || :part"
HARMLESS = {"name": "nobody", "id": "nothing", "part": "nowhere"}
CASES = [dict.fromkeys(HARMLESS, payload) for payload in PAYLOADS]  # in every parameter at once


def rows(url: str, values: dict[str, str]) -> int:
    source = SourceSpec(connector="sql", url=url, query=QUERY, parameters=values)
    return sum(batch.num_rows for batch in Sql(source, project=Path("/"), secrets={}).batches({"id": "string", "name": "string"}))


def test_there_are_enough_of_them() -> None:
    assert len(set(PAYLOADS)) >= 170


@pytest.mark.parametrize("way", ["on", "off"])
def test_no_payload_finds_a_row_or_changes_a_byte_of_sqlite(tmp_path: Path, way: str) -> None:
    file = tmp_path / "shop.db"
    write_sqlite(file, people())
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sum(rows(f"sqlite:///{file}?zebra_fast={way}", case) for case in CASES) == 0
    assert rows(f"sqlite:///{file}?zebra_fast={way}", HARMLESS | {"id": "p00001"}) == 1
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture
def logged(postgres: str) -> Iterator[tuple[str, Path]]:
    """A Postgres whose log names every statement of the connections that ask for it, and that log."""
    url = f"{postgres}/postgres".replace("postgresql", "postgresql+psycopg2")
    engine = sa.create_engine(url)
    with engine.begin() as db:
        db.execute(sa.text("drop table if exists people"))
        db.execute(sa.text("create table people (id text, name text)"))
        db.execute(sa.text("insert into people values (:id, :name)"), people().select(["id", "name"]).to_pylist())
        folder = Path(db.execute(sa.text("show data_directory")).scalar_one())
    yield f"{url}?options={quote('-c log_statement=all')}", folder.parent / "log"
    with engine.begin() as db:
        assert db.execute(sa.text("select count(*) from people where name is distinct from 'pwned'")).scalar() == 200
        db.execute(sa.text("drop table people"))
    engine.dispose()


def statements(log: Path) -> int:
    return len(re.findall(r"LOG:  (?:statement|execute [^:]*): ", log.read_text()))


@pytest.mark.parametrize("way", ["on", "off"])
def test_no_payload_finds_a_row_or_adds_a_statement_to_postgres(logged: tuple[str, Path], way: str) -> None:
    url, log = logged
    url = f"{url}&zebra_fast={way}"
    start = statements(log)
    assert rows(url, HARMLESS) == 0
    each = statements(log) - start
    assert each >= 4, "the log names them"
    assert sum(rows(url, case) for case in CASES) == 0
    assert statements(log) - start == each * (len(CASES) + 1)
    assert rows(url, HARMLESS | {"id": "p00001"}) == 1


@pytest.mark.parametrize("way", ["on", "off"])
@pytest.mark.parametrize("value", ["a\x00b", 2**70, ["a"], {"a": 1}])
def test_a_value_that_no_database_takes_is_refused_with_its_reason(logged: tuple[str, Path], value: object, way: str) -> None:
    source = SourceSpec(
        connector="sql", url=f"{logged[0]}&zebra_fast={way}", query="SELECT id FROM people WHERE id = :id", parameters={"id": value}
    )
    with pytest.raises(SpecInvalid):
        list(Sql(source, project=Path("/"), secrets={}).batches({"id": "string"}))


def test_a_database_opened_for_reading_stays_as_it_is_even_for_a_query_that_writes(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "shop.db", people())
    source = SourceSpec(connector="sql", url=f"sqlite:///{tmp_path / 'shop.db'}", query="SELECT id FROM people")
    for way in (True, False):
        connector = Sql(source, project=Path("/"), secrets={})
        connector.fast = way
        for query in ("DELETE FROM people RETURNING id", "INSERT INTO people(id) VALUES ('pwned') RETURNING id"):
            connector.query = query  # past the first wall
            with pytest.raises(SpecInvalid, match=r"readonly|read-only"):
                list(connector.batches({"id": "string"}))
    with sqlite3.connect(tmp_path / "shop.db") as db:
        assert db.execute("select count(*) from people where id <> 'pwned'").fetchone() == (200,)
    db.close()
