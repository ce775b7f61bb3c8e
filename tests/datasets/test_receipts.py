"""A source that says it has not changed is not read again; what a receipt claims is checked against what stands."""

from pathlib import Path

from tests.datasets.conftest import Bench, csv_bytes, people, recipe


def test_an_unchanged_source_is_not_read_again(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    first = bench.ingest()
    bench.stages.clear()
    again = bench.ingest()
    assert (again.read, again.created, again.manifest) == (False, False, first.manifest)
    assert bench.stages == []


def test_changed_rows_and_a_changed_recipe_are_read(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    first = bench.ingest()
    stricter = bench.ingest(recipe(expectations={"min_rows": 10}))
    assert stricter.read and stricter.manifest.id == first.manifest.id
    assert not bench.ingest(recipe(description="the same recipe, described")).read
    bench.put("a.csv", csv_bytes(people(201)))
    grown = bench.ingest()
    assert grown.read and grown.created


def test_a_receipt_does_not_stand_in_for_blobs_that_are_gone(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    first = bench.ingest().manifest
    bench.store.fetch(first.artifacts[0].key).unlink()
    again = bench.ingest()
    assert again.read
    assert bench.rows(again).num_rows == 200


def test_a_torn_receipt_is_ignored(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    bench.ingest()
    (key,) = bench.store.list("receipts/")
    path = Path(bench.store.fetch(key))
    path.chmod(0o644)
    path.write_bytes(b"{")
    assert bench.ingest().read
    assert not bench.ingest().read
