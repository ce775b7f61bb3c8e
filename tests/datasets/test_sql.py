"""The sql connector: one read-only SELECT, bound parameters, relative SQLite paths, and no secret in sight."""

import sqlite3
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
    ],
)
def test_anything_but_one_select_is_refused(query: str) -> None:
    with pytest.raises(SpecInvalid, match="exactly one SELECT"):
        one_select(query)


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


def test_postgres_gives_the_same_manifest_and_refuses_writes_and_endless_queries(shop: Bench, postgres: str, monkeypatch: Any) -> None:
    url = f"{postgres}/postgres".replace("postgresql://", "postgresql+psycopg2://")
    engine = sa.create_engine(url)
    with engine.begin() as db:
        db.execute(sa.text("drop table if exists people"))
        types = 'id text, amount numeric, visits int, name text, member bool, born date, seen timestamptz, "left" text'
        db.execute(sa.text(f"create table people ({types})"))
        db.execute(sa.text("insert into people values (:id,:amount,:visits,:name,:member,:born,:seen,:left)"), people().to_pylist())
        db.execute(sa.text("create or replace function grow() returns int language sql as 'insert into people(id) values (1) returning 1'"))
    assert shop.ingest(sql("SELECT * FROM people", url)).manifest.id == shop.ingest(sql("SELECT * FROM people")).manifest.id
    with pytest.raises(SpecInvalid, match="read-only transaction"):
        shop.ingest(sql("SELECT grow() AS id", url))
    monkeypatch.setattr("zebra_assets.datasets.connectors.sql.TIMEOUT_S", 0.1)
    with pytest.raises(Unavailable, match="statement timeout"):
        shop.ingest(sql("SELECT *, pg_sleep(30) FROM people", url))
    with engine.begin() as db:
        assert db.execute(sa.text("select count(*) from people")).scalar() == 200
    engine.dispose()


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
