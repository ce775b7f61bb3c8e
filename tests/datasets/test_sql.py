"""The sql connector: one read-only SELECT, bound parameters, relative SQLite paths, and no secret in sight."""

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.datasets.conftest import Bench, people, recipe, write_sqlite
from zebra_assets.datasets.connectors.sql import one_select
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, SpecInvalid, Unavailable, ZebraError


@pytest.fixture
def shop(bench: Bench) -> Bench:
    write_sqlite(bench.folder / "data" / "shop.db", people())
    return bench


def sql(query: str, url: str = "sqlite:///data/shop.db", **parameters: Any) -> Any:
    return recipe(source={"connector": "sql", "url": url, "query": query, "parameters": parameters})


def test_parameters_are_bound_never_pasted(shop: Bench) -> None:
    query = "SELECT * FROM people WHERE id < :most  -- ; only the first"
    done = shop.ingest(sql(query, most="p00100"))
    assert done.manifest.stats.rows == 100
    assert done.manifest.source.parameters == {"most": "p00100"}
    with pytest.raises(DataInvalid, match="has no rows"):
        shop.ingest(sql(query, most="' OR 1=1 --".replace("'", "")))
    with pytest.raises(SpecInvalid, match="most"):
        shop.ingest(sql(query))


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM people",
        "SELECT 1; DELETE FROM people",
        "-- SELECT\nDROP TABLE people",
        "/* SELECT */ UPDATE people SET visits = 0",
        "PRAGMA writable_schema = 1",
        "SELECT ';' ; SELECT 2",
        "",
        ";",
        "EXPLAIN SELECT 1",
        "COPY people TO STDOUT",
        "ATTACH 'other.db' AS other",
        "SELECT 1) TO PROGRAM 'id' --",
        "WITH gone AS (DELETE FROM people RETURNING *) SELECT * FROM gone",
        "WITH new AS (INSERT INTO people(id) VALUES (1) RETURNING *) SELECT * FROM new",
        "SELECT * INTO copied FROM people",
        "SELECT '<?php' INTO OUTFILE '/var/www/x.php'",
        "SELECT * FROM people FOR UPDATE",
        "SELECT 1 \x00; DELETE FROM people",
        "SELECT 'open",
    ],
)
def test_anything_but_one_select_is_refused(query: str) -> None:
    for dialect in ("sqlite", "postgresql", "mysql", "mariadb", "oracle"):
        with pytest.raises(SpecInvalid, match="exactly one SELECT"):
            one_select(query, dialect)


@pytest.mark.parametrize(
    ("dialect", "query"),
    [  # each is one harmless SELECT to another database, or to a reader that takes it for one
        ("postgresql", r"SELECT '\'; DELETE FROM people; --'"),
        ("postgresql", "SELECT 1 /* /* */ ' */ ; DELETE FROM people; -- '"),
        ("postgresql", "SELECT $1$ ; DELETE FROM people; -- $1$"),
        ("postgresql", "SELECT a$b$ ; DELETE FROM people; -- $b$"),
        ("postgresql", "SELECT `; DELETE FROM people; -- `"),
        ("sqlite", "SELECT 1 AS $a$; DELETE FROM people; -- $a$"),
        ("sqlite", "SELECT [']; DELETE FROM people; -- ']"),
        ("mysql", r"SELECT 'a\''; DELETE FROM people; -- '"),
        ("mysql", r'SELECT "a\""; DELETE FROM people; -- "'),
        ("mysql", "SELECT 1 # ' \n; DELETE FROM people # '"),
        ("mysql", "SELECT 1--1; DELETE FROM people"),
        ("mysql", "SELECT 1 /*! ; DELETE FROM people */"),
        ("mysql", "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */"),
        ("mariadb", "SELECT 1 /*M! ; DELETE FROM people */"),
        ("mysql", "SELECT /*+ SET_VAR(max_execution_time=0) */ 1"),
        ("mysql", "SELECT `'`; DELETE FROM people; -- '"),
    ],
)
def test_where_databases_disagree_on_what_is_quiet_the_one_that_will_read_it_decides(dialect: str, query: str) -> None:
    with pytest.raises(SpecInvalid, match="exactly one SELECT"):
        one_select(query, dialect)


@pytest.mark.parametrize(
    ("dialect", "query"),
    [
        ("postgresql", r"SELECT E'it\'s; fine', $x$ ; $x$, $$'$$, \"a;b\" FROM t WHERE c LIKE '10\%' ESCAPE '\' -- ; ' done"),
        ("sqlite", 'SELECT [a;b], `c;d`, "deleted" FROM t WHERE is_deleted = 0 AND updated_at > 3'),
        ("mysql", r"SELECT 'it\\'; # a note".removesuffix("; # a note") + " # a note; it's fine"),
        ("mysql", "SELECT replace(a, ';', ',') FROM t -- it's; fine"),
    ],
)
def test_one_select_in_its_databases_own_dress_is_fine(dialect: str, query: str) -> None:
    query = query.replace('\\"', '"')
    assert one_select(query + "\n;", dialect).rstrip() == query


@pytest.mark.parametrize(
    "query", ["select 1", "SELECT ';--' AS x;", "WITH a AS (SELECT 1) SELECT * FROM a", "-- hi; there\nSELECT 1", "(SELECT 1)"]
)
def test_one_select_in_any_dress_is_fine(query: str) -> None:
    assert ";" not in one_select(query).replace("';--'", "").replace("hi;", "")


def test_a_write_hidden_in_a_select_meets_a_read_only_database(shop: Bench) -> None:
    with pytest.raises(ZebraError):
        shop.ingest(sql("WITH gone AS (SELECT 1) DELETE FROM people"))
    with sqlite3.connect(shop.folder / "data" / "shop.db") as db:
        assert db.execute("select count(*) from people").fetchone() == (200,)
    db.close()


@pytest.fixture
def people_url(postgres: str) -> Iterator[str]:
    """A Postgres table of 200 people, and a function that would add one."""
    url = f"{postgres}/postgres".replace("postgresql://", "postgresql+psycopg2://")
    engine = sa.create_engine(url)
    with engine.begin() as db:
        db.execute(sa.text("drop table if exists people"))
        types = 'id text, amount numeric, visits int, name text, member bool, born date, seen timestamptz, "left" text'
        db.execute(sa.text(f"create table people ({types})"))
        db.execute(sa.text("insert into people values (:id,:amount,:visits,:name,:member,:born,:seen,:left)"), people().to_pylist())
        db.execute(sa.text("create or replace function grow() returns int language sql as 'insert into people(id) values (1) returning 1'"))
    yield url
    with engine.begin() as db:
        assert db.execute(sa.text("select count(*) from people")).scalar() == 200
    engine.dispose()


@pytest.mark.parametrize("fast", ["on", "off"])
def test_postgres_gives_the_same_manifest_and_refuses_writes_and_endless_queries(shop: Bench, people_url: str, fast: str) -> None:
    url = f"{people_url}?zebra_fast={fast}"
    assert shop.ingest(sql("SELECT * FROM people", url)).manifest.id == shop.ingest(sql("SELECT * FROM people")).manifest.id
    with pytest.raises(SpecInvalid, match="read-only transaction"):
        shop.ingest(sql("SELECT people.*, grow() FROM people", url))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="statement timeout"):
        shop.ingest(sql("SELECT *, pg_sleep(30) FROM people", f"{url}&zebra_timeout_s=0.2"))
    with pytest.raises(Unavailable, match="interrupted"):
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT *, (SELECT count(*) FROM n) FROM people"
        shop.ingest(sql(endless, f"sqlite:///data/shop.db?zebra_fast={fast}&zebra_timeout_s=0.2"))
    assert time.monotonic() - began < 25  # pg_sleep alone takes 30 s


def test_a_parameter_takes_the_type_of_what_it_is_compared_with_either_way(shop: Bench, people_url: str) -> None:
    query = r"SELECT * FROM people WHERE born > :day AND amount >= :some AND name <> :not AND member = :yes AND 'a%b' LIKE '%\%%'"
    parameters = {"day": "1950-02-01", "some": 2.5, "not": 'O\'Neil, "Bo"', "yes": False}
    ids = {shop.ingest(sql(query, f"{people_url}?zebra_fast={fast}", **parameters)).manifest.id for fast in ("on", "off")}
    assert len(ids) == 1


def test_a_wrong_query_says_so_in_the_databases_words(shop: Bench) -> None:
    with pytest.raises(SpecInvalid, match="no such table: persons"):
        shop.ingest(sql("SELECT * FROM persons"))
    with pytest.raises(DataInvalid, match=r"column 'visits' is missing\. Did you mean 'visit'"):
        shop.ingest(sql("SELECT id, amount, visits AS visit, name, member, born, seen, left FROM people"))


def test_a_missing_database_is_not_created(shop: Bench) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.db"):
        shop.ingest(sql("SELECT 1", "sqlite:///data/nowhere.db"))
    assert not (shop.folder / "data" / "nowhere.db").exists()
    with pytest.raises(ZebraError, match="leaves"):
        shop.ingest(sql("SELECT 1", "sqlite:///../shop.db"))


def test_sqlite_cells_of_another_type_are_told_with_their_row(shop: Bench) -> None:
    with sqlite3.connect(shop.folder / "data" / "shop.db") as db:
        db.execute("update people set visits = 'lots' where id = 'p00041'")
    db.close()
    with pytest.raises(DataInvalid, match="'visits' is declared int64, but 1 of 200 rows are not: row 42 'lots'"):
        shop.ingest(sql("SELECT * FROM people"))


def test_a_server_that_is_away_is_unavailable_and_its_password_is_nobodys_business(shop: Bench) -> None:
    spec = sql("SELECT 1", "postgresql+psycopg2://zebra:${SHOP_PASSWORD}@127.0.0.1:9/shop?connect_timeout=2")
    with pytest.raises(Unavailable) as caught:
        shop.ingest(spec, SHOP_PASSWORD="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "zebra:***@127.0.0.1:9/shop" in caught.value.message
    with pytest.raises(SpecInvalid, match="needs the secret SHOP_PASSWORD"):
        shop.ingest(spec)


@pytest.mark.parametrize("url", ["nonsense", "oracle://x/y"])
def test_a_url_nobody_understands_is_refused(shop: Bench, url: str) -> None:
    with pytest.raises(SpecInvalid, match=r"source\.url"):
        shop.ingest(sql("SELECT 1", url))


def test_revisions_follow_the_bytes_of_files_and_sql_has_none(shop: Bench) -> None:
    files = recipe(source={"connector": "files", "path": "data/*.csv"})
    assert revision_of(files, project=shop.folder) is None
    shop.put("a.csv", b"id\n1\n")
    first = revision_of(files, project=shop.folder)
    assert first == revision_of(files, project=shop.folder)
    shop.put("a.csv", b"id\n2\n")
    assert revision_of(files, project=shop.folder) not in (None, first)
    assert revision_of(sql("SELECT 1"), project=shop.folder) is None
